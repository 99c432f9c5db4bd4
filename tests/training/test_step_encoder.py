"""The step encoder knows a stroke by its neighbours, and by no other drawing's strokes."""

from __future__ import annotations

import torch

from hitree_training.models.step_encoder import StepEncoder

WIDTH = 16


def test_drawings_in_one_batch_do_not_see_each_other() -> None:
    encoder = StepEncoder(WIDTH, 2, 0.0).eval()
    one, other = torch.rand(6, 32, 4), torch.rand(9, 32, 4)
    spans = torch.tensor([[0, 6], [0, 1], [5, 6]])
    bounds = torch.tensor([[9, 15]] * 3)
    together = encoder(torch.cat([other, one]), spans + 9, bounds)
    torch.testing.assert_close(together, encoder(one, spans))


def test_neighbours_change_what_a_stroke_is_and_where_they_lie_matters() -> None:
    encoder = StepEncoder(WIDTH, 1, 0.0).eval()
    strokes = torch.rand(5, 32, 4)
    turned = strokes[[0, 2, 1, 3, 4]]  # the same canvas before and the same whole for [3, 4)
    span = torch.tensor([[3, 4]])
    assert not torch.allclose(encoder(strokes, span), encoder(turned, span), atol=1e-4)
    alone = encoder.alone(strokes, span)
    torch.testing.assert_close(alone, encoder.alone(turned, span))
