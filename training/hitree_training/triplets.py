"""The talk's triplet loss, in both directions, over pairs of segments and instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from hitree_training.pairs import token_batch

if TYPE_CHECKING:
    from torch import Tensor

    from hitree_training.models.scorer import Scorer
    from hitree_training.pairs import PairBatch

MARGIN = 0.4  # alpha, between squared distances of unit vectors (0 to 4)
HARDNESS = 10.0  # a negative that is nearer by a cosine of 0.1 weighs e times as much
ALIKE = 0.85  # cosine of two texts' token vectors from which they say the same


def loss(model: Scorer, batch: PairBatch) -> Tensor:
    """The loss ``[|h - x+|^2 - |h - x-|^2 + alpha]_+``, averaged over pairs.

    Of a pair's triplets the harder ones weigh more (`HARDNESS`); those within its drawing and
    those across drawings are averaged apart and added, since the former are few.
    """
    tokens, mask = token_batch(batch.texts)
    segments = model.segments(batch.strokes, batch.spans, batch.bounds)  # (P + Q, D)
    texts = functional.normalize(batch.bags @ model.texts(tokens, mask), dim=-1)  # (P, D)
    near = texts @ segments.T  # (P, P + Q) cosines; of unit vectors, |h - x|^2 = 2 - 2 cos
    own = near.diagonal()  # (P,)
    within, across = _differ(batch, tokens, mask)  # (P, P + Q)
    by_segment = near[:, : len(own)].T  # (P, P)
    return (
        _hinge(near, own, within)  # wrong segments for a text
        + _hinge(near, own, across)
        + _hinge(by_segment, own, within[:, : len(own)])  # wrong texts for a segment
        + _hinge(by_segment, own, across[:, : len(own)])  # who differs is symmetric
    )


def _differ(batch: PairBatch, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """1 where a pair's text must not fit a span, (P, P + Q): of one drawing, across drawings.

    Within a drawing that is every other span. Across drawings, whole ones differ by their subject
    and parts by what their texts say.
    """
    pairs = len(batch.bags)
    same_drawing = batch.drawing[:pairs, None] == batch.drawing  # (P, P + Q)
    same_span = (batch.spans[:pairs, None] == batch.spans).all(dim=-1)  # strokes lie end to end
    mean = batch.bags @ (tokens * mask[..., None]).sum(dim=1)  # (P, E)
    mean = functional.normalize(mean, dim=-1)
    both_whole = batch.whole[:, None] & batch.whole
    same_subject = batch.subject[:, None] == batch.subject
    same = torch.where(both_whole, same_subject, mean @ mean.T > ALIKE)  # (P, P)
    # A bent span belongs to no text: it is a wrong answer in its own drawing only.
    same = functional.pad(same, (0, len(batch.spans) - pairs), value=True)
    return (same_drawing & ~same_span).float(), (~same_drawing & ~same).float()


def _hinge(near: Tensor, own: Tensor, wrong: Tensor) -> Tensor:
    """The triplets of cosines (P, N) with wrong answers and (P,) with the right one."""
    weight = wrong * torch.exp(HARDNESS * near.detach())
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    losses = functional.relu(2 * (near - own[:, None]) + MARGIN)
    some = wrong.amax(dim=1).sum().clamp(min=1.0)  # a drawing of one step has no neighbours
    return (losses * weight).sum() / some
