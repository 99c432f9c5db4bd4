"""Step encoder: a segment of strokes, each of which is known by its neighbours as well.

A small circle is an eye inside a head and a nostril inside a snout. `SegmentEncoder` reads every
stroke by itself; `StrokeContext` beside it reads what a stroke has to do with those around it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hitree_training.models.segment_encoder import SegmentEncoder
from hitree_training.models.stroke_context import StrokeContext, numbered, prefix_sums, span_mean


class StepEncoder(nn.Module):
    """Reads segments of drawings given as `hitree.segments.stroke_features`."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        """``layers`` of the context: how many neighbours on each side are seen."""
        super().__init__()
        self.alone = SegmentEncoder(width, dropout)
        self.context = StrokeContext(width, layers, dropout)
        self.among = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )

    def forward(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Encode ``strokes`` (n, 32, 4) over ``spans`` (S, 2) int64; return (S, width).

        ``bounds`` is as in `SegmentEncoder.forward`.
        """
        start, end = spans[:, 0], spans[:, 1]
        if bounds is None:
            last = torch.zeros_like(end) + strokes.shape[0]
            bounds = torch.stack([torch.zeros_like(start), last], dim=1)
        known = self.context(strokes, numbered(strokes, bounds))  # (n, W)
        total = prefix_sums(known)
        parts = [
            span_mean(total, start, end),
            known[start],
            known[end - 1],
            span_mean(total, bounds[:, 0], bounds[:, 1]),
        ]
        encoded: Tensor = self.alone(strokes, spans, bounds) + self.among(torch.cat(parts, dim=1))
        return encoded
