"""Sketches: their files, there and back, and their pictures."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from hitree import quickdraw, svg
from hitree.errors import InvalidInput, InvalidPlan, MissingPackage
from hitree_sdk import Sketch
from sdk.fakes import PLAN, STROKES

if TYPE_CHECKING:
    from pathlib import Path

DRAWN = PLAN.with_spans({1: (0, 2), 2: (2, 3)})
SKETCH = Sketch(STROKES, plan=DRAWN, seed=2**64 - 1, subject="sea turtle", key_id="k <&>")


def assert_same(got: Sketch, expected: Sketch) -> None:
    assert len(got.strokes) == len(expected.strokes)
    for one, other in zip(got.strokes, expected.strokes, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    facts = [(s.plan, s.seed, s.subject, s.key_id) for s in (got, expected)]
    assert facts[0] == facts[1]
    assert got.plan == expected.plan
    if got.plan and expected.plan:
        assert got.plan.nodes == expected.plan.nodes


@pytest.mark.parametrize("name", ["a.svg", "b.ndjson", "new/folders/C.SVG"])
@pytest.mark.parametrize("sketch", [SKETCH, Sketch(STROKES)], ids=["drawn", "bare"])
def test_there_and_back(tmp_path: Path, name: str, sketch: Sketch) -> None:
    path = sketch.save(tmp_path / name)
    assert path == tmp_path / name
    assert_same(Sketch.load(path), sketch)
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == [path.name]


def test_colours_do_not_disturb_loading(tmp_path: Path) -> None:
    assert_same(Sketch.load(SKETCH.save(tmp_path / "a.svg", by_leaf=True)), SKETCH)


def test_the_ndjson_is_quick_draws(tmp_path: Path) -> None:
    path = SKETCH.save(tmp_path / "a.ndjson")
    (record,) = quickdraw.read_simplified(path)
    assert (record.word, record.key_id) == ("sea turtle", "k <&>")
    line = json.loads(path.read_text())
    assert line["drawing"][0] == [[10, 30.25, 50], [20, 40.5, 60]]
    assert isinstance(line["drawing"][0][0][0], int)


def test_the_first_drawing_of_a_data_set_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "cats.ndjson"
    lines = ['{"word": "cat", "key_id": "1", "drawing": [[[0, 5], [0, 5]]]}', "{}"]
    path.write_text("\n" + "\n".join(lines))
    sketch = Sketch.load(path)
    assert (sketch.subject, sketch.key_id, sketch.plan, sketch.seed) == ("cat", "1", None, None)


def test_the_svg_is_whole_and_shows_in_notebooks(tmp_path: Path) -> None:
    root = ElementTree.fromstring(SKETCH.save(tmp_path / "a.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == "draw a flamingo"
    assert len(list(root.iter(f"{space}path"))) == 3
    assert SKETCH._repr_svg_() == SKETCH.svg()
    assert Sketch([]).svg().startswith("<svg")


def test_colour_by_leaf() -> None:
    assert svg.INK in SKETCH.svg()
    coloured = SKETCH.svg(by_leaf=True)
    assert svg.INK not in coloured
    assert coloured.count(svg.PALETTE[0]) == 2
    assert coloured.count(svg.PALETTE[1]) == 1
    assert svg.INK in Sketch(STROKES).svg(by_leaf=True)


def test_a_png(tmp_path: Path) -> None:
    data = SKETCH.save(tmp_path / "a.png", by_leaf=True).read_bytes()
    with Image.open(BytesIO(data)) as image:
        assert image.size == (512, 512)
        assert image.getpixel((256, 256)) == (0xD5, 0x5E, 0x00)  # the dot, in its leaf's colour
        assert image.getpixel((160, 180)) == (0, 0x72, 0xB2)  # on the second stroke
        assert image.getpixel((500, 10)) == (255, 255, 255)


def test_a_png_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackage, match=r"pip install 'hitree\[png\]'"):
        SKETCH.save(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_other_endings_are_refused(tmp_path: Path) -> None:
    for name in ("a.gif", "a", ".svg"):
        with pytest.raises(InvalidInput, match=r"\.svg"):
            SKETCH.save(tmp_path / name)
    with pytest.raises(InvalidInput, match="neither"):
        Sketch.load(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.svg", None, "cannot be read"),
        ("a.svg", "<svg", "no SVG that a sketch"),
        ("a.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>', "no SVG that a sketch"),
        ("a.ndjson", None, "cannot be read"),
        ("a.ndjson", "", "is empty"),
        ("a.ndjson", "{", "line 1"),
        ("a.ndjson", '{"drawing": [[[0, 5], [0, 5]]], "seed": "7"}', "seed"),
        ("a.ndjson", '{"drawing": [[[0, 5], [0, 5]]], "plan": {"knots": []}}', "knots"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=message) as raised:
        Sketch.load(tmp_path / name)
    assert name in raised.value.message


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    path = SKETCH.save(tmp_path / "a.svg")
    path.write_text(path.read_text().replace('"id": 2', '"id": 3'))
    with pytest.raises(InvalidPlan, match=r"a\.svg"):
        Sketch.load(path)


def test_sketches_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SKETCH.seed = 1  # type: ignore[misc]  # that is the point
    assert replace(SKETCH, seed=1).seed == 1
