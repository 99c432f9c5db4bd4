"""Likelihoods: what is counted, under which condition, and how two models are compared."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hitree.tree import Node, build
from hitree_training import data, presets, train_decoder
from hitree_training.data import DataError, Example
from hitree_training.evaluation import likelihood
from hitree_training.evaluation.likelihood import Pixels
from hitree_training.models.decoder import DecoderPreset, SketchDecoder
from hitree_training.train_decoder import Options

TINY = presets.load(DecoderPreset, "decoder-tiny")
SCALE = 30.0


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return data.load(kinds=("drawn",), splits=("test",))[:12]


@pytest.fixture(scope="module")
def trees(examples: list[Example]) -> dict[str, Node]:
    """Every drawing in two halves."""
    found = {}
    for example in examples:
        n = len(example.drawing.strokes)
        half = max(1, n // 2)
        nodes = [
            Node(0, None, f"draw a tall {example.subject}", 0, n),
            Node(1, 0, "draw a body", 0, half),
            Node(2, 0, "add the rest", half, n),
        ]
        found[example.key_id] = build(nodes if n > 1 else nodes[:1])
    return found


@pytest.fixture(scope="module")
def model() -> SketchDecoder:
    torch.manual_seed(0)
    return SketchDecoder(TINY, token_width=data.token_vectors().width, scale=SCALE).eval()


def test_pixels_add_up_to_the_headline(
    model: SketchDecoder, examples: list[Example], trees: dict[str, Node]
) -> None:
    found = likelihood.pixels(model, examples, trees, "stack")
    headline = likelihood.figures(model, examples, trees, "stack")["nll"]
    points = sum(one.points for one in found.values())
    assert points == sum(example.drawing.points for example in examples)
    offsets = points - len(examples)  # every drawing's end has none
    total = sum(one.offsets + one.pen for one in found.values()) - offsets * 2 * math.log(SCALE)
    assert total / points == pytest.approx(headline, abs=1e-4)


def test_each_condition_tells_more(
    model: SketchDecoder, examples: list[Example], trees: dict[str, Node]
) -> None:
    """The figure changes with the texts that a condition tells, and with no others."""
    other = {
        key: build([replace(n, text=n.text if n.parent is None else "add a hat") for n in t.walk()])
        for key, t in trees.items()
    }
    rooted = {
        key: build([replace(n, text="draw it" if n.parent is None else n.text) for n in t.walk()])
        for key, t in trees.items()
    }

    def nll(trees: dict[str, Node], condition: str) -> float:
        return likelihood.figures(model, examples, trees, condition)["nll"]  # type: ignore[arg-type]

    assert nll(trees, "none") == nll(other, "none") == nll(rooted, "none")
    assert nll(trees, "root") == nll(other, "root")
    assert nll(trees, "root") != nll(rooted, "root")
    assert nll(trees, "stack") != nll(other, "stack")


def test_a_drawing_without_a_tree_is_refused(model: SketchDecoder, examples: list[Example]) -> None:
    with pytest.raises(DataError, match="infer trees first"):
        likelihood.figures(model, examples, {}, "root")


def test_comparison_is_paired_and_counts_sound_subjects_alone() -> None:
    ours = {f"{s}{k}": Pixels(10, 60.0 + k, 10.0) for s in ("cat", "pig", "ant") for k in range(5)}
    theirs = {key: Pixels(10, one.offsets + (10 if key[0] == "c" else 5), 10.0)
              for key, one in ours.items()}  # fmt: skip
    theirs |= {f"ant{k}": Pixels(10, 1000.0, 10.0) for k in range(5)}
    subjects = {key: key[:3] for key in ours}
    found = likelihood.compare(ours, theirs, subjects)
    assert found["of"] == found["ahead"] == 2  # ant is broken
    assert found["macro"]["mean"] == pytest.approx(-0.75)
    assert -1.01 < found["macro"]["low"] <= -0.75 <= found["macro"]["high"] < -0.49
    assert found["subjects"]["ant"]["sound"] is False
    assert found["subjects"]["cat"]["google"] - found["subjects"]["cat"]["ours"] == pytest.approx(1)


def test_comparison_refuses_other_drawings() -> None:
    with pytest.raises(DataError, match="not the same one"):
        likelihood.compare({"a": Pixels(10, 1, 1)}, {"a": Pixels(9, 1, 1)}, {"a": "cat"})


def test_reference_is_read(tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    path.write_text("key_id,word,points,offset_nll_px,pen_nll\n17,cat,3,5.5,1.5\n")
    assert likelihood.read_reference(path) == {"17": Pixels(3, 5.5, 1.5)}
    path.write_text("key_id,points\n17,3\n")
    with pytest.raises(DataError, match="no reference"):
        likelihood.read_reference(path)
    with pytest.raises(DataError, match="there is no reference"):
        likelihood.read_reference(tmp_path / "missing.csv")


def test_runs_are_summed_up_over_seeds(small_data: Path, tmp_path: Path) -> None:
    held_out = data.load(small_data, kinds=("drawn",), splits=("test",))
    trees = {e.key_id: build([Node(0, None, "draw it", 0, len(e.drawing.strokes))])
             for e in held_out}  # fmt: skip
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.pt")
        train_decoder.train(
            Options(small_data, paths[-1], TINY, None, steps=2, batch=8, seed=seed,
                    condition="root", without=frozenset({"spider"}))
        )  # fmt: skip
    rows = likelihood.runs(paths, {"drawn": held_out}, trees)
    unseen = [e for e in held_out if e.subject == "spider"]
    assert [row["unseen"]["drawn"]["drawings"] for row in rows] == [len(unseen)] * 2
    (one,) = likelihood.summary(rows)
    values = [row["seen"]["drawn"]["nll"] for row in rows]
    assert one["condition"] == "root"
    assert one["seeds"] == [0, 1]
    assert one["seen"]["drawn"]["nll"] == pytest.approx(np.mean(values))
    assert one["seen"]["drawn"]["low"] == min(values)
