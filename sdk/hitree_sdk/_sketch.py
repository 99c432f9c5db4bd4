"""A drawing with what is known about it, and its files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from hitree import codec, quickdraw, svg
from hitree.drawing import Drawing
from hitree.errors import HiTreeError, InvalidInput
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import _png

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from hitree.drawing import Stroke
    from hitree.tree import Plan

FORMATS = (".svg", ".png", ".ndjson")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True, eq=False)
class Sketch:
    """Strokes and what they mean; what a stream results in. Shows itself in a notebook."""

    strokes: list[Stroke]  # each (N, 2) float32, in units of the 256 x 256 frame
    plan: Plan | None = None  # what it was drawn by, with spans; None where nobody knows
    seed: int | None = None  # draws it again, with the same plan and bundle
    subject: str = ""  # with spaces: "sea turtle"; empty where nobody knows
    key_id: str = ""  # free to the caller; comes from and goes to data set files

    @property
    def drawing(self) -> Drawing:
        """The strokes as a drawing.

        Raises:
            InvalidDrawing: a stroke is not an (N, 2) array of numbers.
        """
        return Drawing.of(self.strokes)

    def svg(self, *, by_leaf: bool = False) -> str:
        """The sketch as SVG text; ``by_leaf`` gives the strokes of each leaf a colour."""
        title = self.plan.root.text if self.plan else self.subject
        return svg.to_svg(self.drawing, title=title, colours=self._colours(by_leaf))

    def _repr_svg_(self) -> str:
        """What notebooks show."""
        return self.svg()

    def save(self, path: str | os.PathLike[str], *, by_leaf: bool = False) -> Path:
        """Write .svg, .png or .ndjson, by the name's ending; return the path.

        The file appears whole or not at all; folders on the way to it are made. SVG and ndjson
        hold the plan too and can be loaded again. The ndjson is Quick, Draw!'s *simplified*
        format with ``plan`` and ``seed`` beside. A PNG has 512 x 512 pixels.

        Raises:
            InvalidInput: another ending.
            MissingPackage: a PNG without pillow: ``pip install 'hitree[png]'``.
            OSError: the file cannot be written.
        """
        target = checked_format(path)
        match target.suffix.lower():
            case ".svg":
                data = self._tagged_svg(by_leaf).encode()
            case ".png":
                data = _png.render(self.drawing, self._colours(by_leaf))
            case _:
                data = self._line().encode()
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.part")
        fresh.write_bytes(data)
        fresh.replace(target)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sketch:
        """Read what `save` wrote as .svg or .ndjson, or the first line of a data set's ndjson.

        Raises:
            InvalidInput: another ending, an unreadable file, or an SVG from elsewhere.
        """
        source = Path(path)
        if source.suffix.lower() == ".ndjson":
            return _load_ndjson(source)
        if source.suffix.lower() == ".svg":
            return _load_svg(source)
        raise InvalidInput(f"{source} is neither .svg nor .ndjson, which is what can be loaded")

    def _colours(self, by_leaf: bool) -> list[str]:
        if by_leaf and self.plan:
            return svg.leaf_colours(self.plan, len(self.strokes))
        return [svg.INK] * len(self.strokes)

    def _facts(self) -> dict[str, Any]:
        plan = codec.to_json(codec.plan_to_wire(self.plan)) if self.plan else None
        return {"seed": self.seed, "plan": plan}

    def _line(self) -> str:
        facts = {"key_id": self.key_id, "word": self.subject, "recognized": True}
        columns = [[_plain(column) for column in stroke.T] for stroke in self.drawing.strokes]
        line = {**facts, "source": "hitree", **self._facts(), "drawing": columns}
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"

    def _tagged_svg(self, by_leaf: bool) -> str:
        facts = {"key_id": self.key_id, "subject": self.subject, **self._facts()}
        head, _, rest = self.svg(by_leaf=by_leaf).partition("\n")
        tag = f"<metadata>{escape(json.dumps(facts, ensure_ascii=False))}</metadata>"
        return f"{head}\n{tag}\n{rest}"


def checked_format(path: str | os.PathLike[str]) -> Path:
    """Refuse a name that `Sketch.save` cannot write.

    Raises:
        InvalidInput: it ends in none of .svg, .png and .ndjson.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{target} ends in none of {', '.join(FORMATS)}; name one of these")
    return target


def _plain(column: Iterable[float]) -> list[float]:
    """Whole numbers without a fraction, as in the data set."""
    return [int(value) if value == int(value) else float(value) for value in column]


def _load_ndjson(path: Path) -> Sketch:
    record = next(quickdraw.read_simplified(path), None)
    if record is None:
        raise InvalidInput(f"{path} is empty; expected one drawing a line")
    with path.open(encoding="utf-8") as file:
        facts = json.loads(next(line for line in file if line.strip()))
    strokes = list(record.drawing.strokes)
    return Sketch(strokes, **_known(facts, path), subject=record.word, key_id=record.key_id)


def _load_svg(path: Path) -> Sketch:
    try:
        root = ElementTree.fromstring(path.read_bytes())
        facts = json.loads(root.findtext(f"{_SVG}metadata") or "")
        strokes = [_stroke(each.attrib["d"]) for each in root.iter(f"{_SVG}path")]
        subject, key_id = str(facts["subject"]), str(facts["key_id"])
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}") from exc
    except (ElementTree.ParseError, ValueError, LookupError, TypeError) as exc:
        raise InvalidInput(
            f"{path} is no SVG that a sketch was saved as; load one that Sketch.save wrote"
        ) from exc
    return Sketch(strokes, **_known(facts, path), subject=subject, key_id=key_id)


def _known(facts: dict[str, Any], path: Path) -> dict[str, Any]:
    """The plan and the seed, where a file holds them; arguments of `Sketch`."""
    plan, seed = facts.get("plan"), facts.get("seed")
    if seed is not None and not isinstance(seed, int):
        raise InvalidInput(f"{path}: the seed is {seed!r}, expected a whole number")
    try:
        tree = codec.plan_from_wire(codec.from_json(plan, pb.Plan)) if plan is not None else None
    except HiTreeError as exc:
        raise type(exc)(f"{path}: {exc.message}", details=exc.details) from exc
    return {"plan": tree, "seed": seed}


def _stroke(path: str) -> Stroke:
    points = np.array(_NUMBER.findall(path), np.float32).reshape(-1, 2)
    dot = len(points) == 2 and (points[0] == points[1]).all()  # how SVG writes a dot
    return points[:1] if dot else points
