"""What rows cost under a sketch decoder, and the talk's matching loss.

Shapes: B rows (sequences), T steps, M mixture components, H width, S segments, C condition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from hitree_training.models.decoder import DecoderPreset, Head


class Losses(NamedTuple):
    """Negative log-likelihoods of every row, in nats: (B, T) each."""

    offset: Tensor  # of the offset in scaled units
    pen: Tensor  # of the pen's flags
    segment: Tensor  # of the segment's end


def losses(head: Head, rows: Tensor, segment_end: Tensor, scale: float) -> Losses:
    """Score rows (B, T, 5) and segment ends (B, T) under what the network said of them."""
    z = (rows[..., None, :2] / scale - head.mean) / head.sigma  # (B, T, M, 2)
    one = 1 - head.rho**2
    quadratic = (z**2).sum(dim=-1) - 2 * head.rho * z[..., 0] * z[..., 1]
    log_density = (
        -quadratic / (2 * one)
        - head.sigma.log().sum(dim=-1)
        - 0.5 * one.log()
        - math.log(2 * math.pi)
    )
    offset = -torch.logsumexp(torch.log_softmax(head.mixture, dim=-1) + log_density, dim=-1)
    pen = -(torch.log_softmax(head.pen, dim=-1) * rows[..., 2:]).sum(dim=-1)
    segment = functional.binary_cross_entropy_with_logits(
        head.segment, segment_end, reduction="none"
    )
    return Losses(offset, pen, segment)


class Matching(nn.Module):
    """The talk's triplet loss between mean states over segments and their instructions.

    `sum_i [ |h_i - x_i+|^2 - |h_i - x_i-|^2 + alpha ]_+`, h the mean hidden state, x the condition
    that encodes the instruction. It has a layer of its own, which drawing has no need of.
    """

    def __init__(self, preset: DecoderPreset, margin: float) -> None:
        """``margin``: alpha, between squared distances of unit vectors (0 to 4)."""
        super().__init__()
        self.margin = margin
        self.project = nn.Linear(preset.width, preset.condition, bias=False)

    def forward(self, states: Tensor, encoded: Tensor, segment: Tensor, valid: Tensor) -> Tensor:
        """The loss of ``states`` (B, T, H) under the conditions ``encoded`` (S, C).

        ``segment`` (B, T) is the segment of each row. Negatives are a segment's neighbours in the
        batch, which are of the same drawing where it has several.
        """
        sums = states.new_zeros(len(encoded), states.shape[-1])
        rows = (states * valid[..., None]).flatten(0, 1)  # (B, T, H) -> (B * T, H)
        sums = sums.index_add(0, segment.flatten(), rows)  # a mean's length does not matter
        told = functional.normalize(encoded, dim=-1, eps=1e-6)
        mean = functional.normalize(self.project(sums), dim=-1, eps=1e-6)
        own = (mean * told).sum(dim=-1)  # of unit vectors |h - x|^2 = 2 - 2 cos
        hinges = [
            functional.relu(2 * (mean * told.roll(by, dims=0)).sum(dim=-1) - 2 * own + self.margin)
            for by in (1, -1)
        ]
        return torch.stack(hinges).mean()
