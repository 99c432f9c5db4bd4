"""Sampling: canvases are continued, guidance moves offsets alone, less is told where asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bundles import tiny_checkpoints
from hitree.drawing import Drawing
from hitree_training import sample
from hitree_training.models.decoder import Head, SketchDecoder
from hitree_training.sample import CANVAS, Request, Sampling

CANVAS_DRAWN = Drawing.of([[[10, 10], [60, 40]], [[90, 90], [100, 120], [80, 140]]])
STEPS = ("draw a round head", "add two big ears")
BY = Sampling(max_points=60, max_leaf=12)


@pytest.fixture(scope="module")
def decoder() -> SketchDecoder:
    return sample.load(tiny_checkpoints().decoder)


def strokes(made: sample.Sample) -> list[list[list[float]]]:
    return [stroke.tolist() for stroke in made.drawing.strokes]


def test_a_canvas_is_kept_and_added_to(decoder: SketchDecoder) -> None:
    asked = Request("cat", "draw a cat", STEPS, CANVAS_DRAWN)
    bare = replace(asked, canvas=None)
    made, plain = sample.draw(decoder, [asked, bare], BY)
    assert strokes(made)[:2] == [stroke.tolist() for stroke in CANVAS_DRAWN.strokes]
    assert made.leaves[:2] == (CANVAS, CANVAS)
    assert set(made.leaves[2:]) <= {0, 1}
    assert len(made.leaves) == len(made.drawing.strokes) > 2
    assert CANVAS not in plain.leaves


def test_a_leaf_that_is_not_the_last_draws_at_least_a_stroke(decoder: SketchDecoder) -> None:
    asked = Request("cat", "draw a cat", STEPS[:1], CANVAS_DRAWN, whole=False)
    for made in sample.draw(decoder, [asked] * 40, BY):
        assert len(made.drawing.strokes) > 2


def test_guidance_changes_what_is_drawn(decoder: SketchDecoder) -> None:
    asked = [Request("cat", "draw a cat", STEPS)] * 4
    plain = [strokes(one) for one in sample.draw(decoder, asked, BY)]
    again = [strokes(one) for one in sample.draw(decoder, asked, replace(BY, guidance=1.0))]
    strong = [strokes(one) for one in sample.draw(decoder, asked, replace(BY, guidance=3.0))]
    assert plain == again
    assert plain != strong


def test_guidance_moves_offsets_and_leaves_the_pen() -> None:
    torch.manual_seed(0)

    def head() -> Head:
        raw = [torch.randn(2, 3), torch.randn(2, 3, 2), torch.rand(2, 3, 2) + 0.1]
        return Head(*raw, torch.rand(2, 3) * 0.9, torch.randn(2, 3), torch.randn(2))

    told, null = head(), head()
    for name, value in sample.guided(told, null, 1.0)._asdict().items():
        torch.testing.assert_close(value, getattr(told, name))
    strong = sample.guided(told, null, 2.0)
    torch.testing.assert_close(strong.mean, 2 * told.mean - null.mean)
    torch.testing.assert_close(strong.sigma, told.sigma**2 / null.sigma)
    assert strong.rho.abs().max() <= 0.95
    assert torch.equal(strong.pen, told.pen)
    assert torch.equal(strong.segment, told.segment)


def test_less_is_told_where_asked(decoder: SketchDecoder) -> None:
    one, other = (Request("cat", root, STEPS) for root in ("draw a cat", "draw a fat cat"))
    silent = sample.conditions(decoder, one, "subject")
    assert torch.equal(silent, sample.conditions(decoder, other, "subject"))
    root = sample.conditions(decoder, one, "root")
    assert torch.equal(root[0], root[1])  # whatever the steps say
    assert not torch.equal(root, sample.conditions(decoder, other, "root"))
    stack = sample.conditions(decoder, one)
    assert not torch.equal(stack[0], stack[1])
