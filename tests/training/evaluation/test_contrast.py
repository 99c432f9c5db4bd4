"""Contrasts: both of a pair share everything but the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bundles import tiny_checkpoints
from hitree_training import sample
from hitree_training.evaluation import contrast
from hitree_training.sample import Sample, Sampling
from hitree_training.trained import Trained

if TYPE_CHECKING:
    import pytest


def test_pairs_differ_in_their_last_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[Sample]] = []
    draw = sample.draw

    def noting(*asked: Any) -> list[Sample]:
        drawn.append(draw(*asked))
        return drawn[-1]

    monkeypatch.setattr(contrast, "PAIRS", contrast.PAIRS[:3])
    monkeypatch.setattr(sample, "draw", noting)
    decoder = Trained.load(decoder=tiny_checkpoints().decoder).decoder
    assert decoder is not None
    figure = contrast.grid(decoder, Sampling(max_leaf=6), seeds=2)
    assert len(figure.axes) == 3 * 2 * 2
    for one, other in zip(*drawn, strict=True):
        assert one.request.steps[:-1] == other.request.steps[:-1]
        assert one.request.steps[-1] != other.request.steps[-1]
        before = [sum(leaf == 0 for leaf in s.leaves) for s in (one, other)]
        if one.request.steps[:-1]:  # what comes before is the same drawing
            assert before[0] == before[1]
            for a, b in zip(one.drawing.strokes[: before[0]], other.drawing.strokes, strict=False):
                assert a.tolist() == b.tolist()
