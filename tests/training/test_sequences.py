"""Batches: they hold the drawings, their segments and their words."""

import numpy as np
import pytest
import torch

from hitree import stroke5
from hitree_training import data
from hitree_training.sequences import NO_AUGMENTATION, Augmentation, Sequences

MIRRORED = Augmentation(0.0, 0.0, 0.0, 0.0, mirror=1.0)


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
