"""Batches: they hold the drawings, their segments and their words."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hitree import stroke5
from hitree.tree import Node, build
from hitree_training import data
from hitree_training.sequences import (
    NO_AUGMENTATION,
    Augmentation,
    Condition,
    Sequences,
    Texts,
    tree_view,
    views,
)

MIRRORED = replace(NO_AUGMENTATION, mirror=1.0)


@pytest.fixture(scope="module")
def examples() -> list[data.Example]:
    return data.load(kinds=("drawn",), splits=("valid",))[:40]


@pytest.fixture(scope="module")
def sequences(examples: list[data.Example]) -> Sequences:
    return Sequences(examples)


def test_rows_are_the_drawing(examples: list[data.Example], sequences: Sequences) -> None:
    batch = sequences.batch(torch.arange(10), torch.Generator().manual_seed(0), NO_AUGMENTATION)
    for b in range(10):
        expected = stroke5.to_rows(examples[b].drawing)
        rows = batch.rows[b, : len(expected)].numpy()
        np.testing.assert_array_equal(rows[1:], expected[1:])
        # A batch is aligned to the frame's left and top, a demonstration may lie a unit off.
        np.testing.assert_allclose(rows[0], expected[0], atol=2)
        assert batch.valid[b].sum() == len(expected)


def test_segments_end_where_steps_end(examples: list[data.Example], sequences: Sequences) -> None:
    """Over many draws of the views, every set of ends is one of the drawing's ways to be cut."""
    allowed = {view.ends for view in sequences.views[0]}
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(40):
        batch = sequences.batch(torch.tensor([0]), generator, NO_AUGMENTATION)
        strokes = batch.rows[0, :, 3].cumsum(0)
        ends = tuple(int(n) for n in strokes[batch.segment_end[0] > 0])
        seen.add(ends)
        segment = batch.segment[0, batch.valid[0] > 0]
        assert segment.tolist() == sorted(segment.tolist())
        assert segment.max() == len(ends) - 1
    steps = examples[0].annotation
    assert steps is not None
    assert tuple(step.end for step in steps.steps) in seen
    assert seen == allowed


def test_mirror_swaps_shape_and_words(examples: list[data.Example], sequences: Sequences) -> None:
    index = torch.arange(10)
    batch = sequences.batch(index, torch.Generator().manual_seed(0), MIRRORED)
    for b in range(10):
        points = batch.rows[b, batch.valid[b] > 0][:-1, :2].cumsum(0).numpy() + 128
        strokes = np.concatenate(examples[b].drawing.strokes)
        np.testing.assert_allclose(points[:, 0], strokes[:, 0].max() - strokes[:, 0], atol=0.5)


def test_augmented_drawings_stay_in_the_frame(sequences: Sequences) -> None:
    batch = sequences.batch(torch.arange(40), torch.Generator().manual_seed(0), Augmentation())
    points = batch.rows[..., :2].cumsum(dim=1) + 128
    real = batch.valid * (1 - batch.rows[..., 4])
    inside = points[real > 0]
    assert inside.min() >= 0
    assert inside.max() <= 256


def test_weights_follow_the_mix(sequences: Sequences) -> None:
    weight = sequences.weights({"drawn annotated": 0.3, "sampled": 0.7})
    assert weight.sum() == pytest.approx(0.3)


def test_sample_gives_batches_alike_in_length(sequences: Sequences) -> None:
    weight = sequences.weights({"drawn annotated": 1.0})
    generator = torch.Generator().manual_seed(0)
    batches = list(sequences.sample(weight, 4, generator, NO_AUGMENTATION))
    assert len(batches) == 16
    spread = [float(b.valid.sum(dim=1).max() - b.valid.sum(dim=1).min()) for b in batches]
    assert np.median(spread) <= 10


@pytest.fixture(scope="module")
def bare(examples: list[data.Example]) -> data.Example:
    """A drawing of several strokes that nobody has annotated."""
    found = next(e for e in examples if len(e.drawing.strokes) > 3)
    return replace(found, annotation=None, parts=())


def tree_of(example: data.Example) -> Node:
    n = len(example.drawing.strokes)
    return build([
        Node(0, None, "draw a tall one", 0, n), Node(1, 0, "draw a body", 0, 2),
        Node(2, 1, "draw a back", 0, 1), Node(3, 1, "draw a belly", 1, 2),
        Node(4, 0, "add the rest", 2, n),
    ])  # fmt: skip


def test_an_inferred_tree_gives_stacks(bare: data.Example) -> None:
    texts = Texts()
    (view,) = tree_view(bare, texts, tree_of(bare))
    assert view.ends == (1, 2, len(bare.drawing.strokes))
    body = texts.add("draw a body")
    assert view.roots == (texts.add("draw a tall one"),)
    assert view.below == (
        (body, texts.add("draw a back")),
        (body, texts.add("draw a belly")),
        (texts.add("add the rest"),),
    )
    sequences = Sequences([bare], "stack", {bare.key_id: tree_of(bare)}, tree_view)
    batch = sequences.batch(torch.tensor([0]), torch.Generator(), NO_AUGMENTATION)
    assert batch.stack_mask.amax(dim=2).tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]


def test_drawings_without_annotation_are_shown_under_their_tree(bare: data.Example) -> None:
    texts = Texts()
    without, given = views(bare, texts), views(bare, texts, tree_of(bare))
    assert len(without) == 1
    assert any(len(view.below) == 3 for view in given)


@pytest.mark.parametrize(("condition", "levels"), [("none", 0), ("root", 1), ("stack", 2)])
def test_a_condition_tells_so_many_levels(
    examples: list[data.Example], condition: Condition, levels: int
) -> None:
    """Under every condition segments end alike; what is told of them differs."""
    told = Sequences(examples, condition)
    full = Sequences(examples)
    for mine, whole in zip(told.views, full.views, strict=True):
        assert [view.ends for view in mine] == [view.ends for view in whole]
    generator = torch.Generator().manual_seed(0)
    batch = told.batch(torch.arange(10), generator, NO_AUGMENTATION)
    assert batch.stack_mask.amax(dim=2).sum(dim=1).max() == levels


def test_silenced_drawings_are_told_their_subject_alone(sequences: Sequences) -> None:
    silent = replace(NO_AUGMENTATION, silence=1.0)
    batch = sequences.batch(torch.arange(10), torch.Generator().manual_seed(0), silent)
    assert not batch.stack_mask.any()
    assert batch.subject.any()
