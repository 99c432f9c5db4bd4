"""Segment encoder: strokes and spans to one vector a span, in time linear in both.

Every stroke is read once, by convolutions over its 32 points. What lies inside a span, before it
and in the whole drawing are then differences of prefix sums, so that scoring all O(n^2) spans of a
drawing costs one gather each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = 64  # of the convolutions over a stroke's points
FACTS = 5  # numbers about the span's size and place


class SegmentEncoder(nn.Module):
    """Reads segments of drawings given as `hitree.segments.stroke_features`."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv1d(4, CHANNELS, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.Conv1d(CHANNELS, CHANNELS, kernel_size=5, padding=2, stride=2),
            nn.ReLU(),
        )
        self.stroke = nn.Sequential(nn.Linear(2 * CHANNELS, width), nn.ReLU())
        # Inside, first stroke, last stroke, canvas before, whole drawing; and the facts.
        self.segment = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(5 * width + FACTS, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Encode ``strokes`` (n, 32, 4) over ``spans`` (S, 2) int64; return (S, width).

        ``bounds`` (S, 2) int64 is the drawing that each span belongs to, where ``strokes`` holds
        several drawings one after the other; without it all strokes are one drawing.
        """
        strokes_n = self._strokes(strokes)  # (n, W)
        sums = torch.cat([torch.zeros_like(strokes_n[:1]), strokes_n.cumsum(dim=0)])  # (n + 1, W)
        start, end = spans[:, 0], spans[:, 1]
        if bounds is None:
            first, last = torch.zeros_like(start), torch.zeros_like(start) + strokes.shape[0]
        else:
            first, last = bounds[:, 0], bounds[:, 1]
        parts = [
            _mean(sums, start, end),
            strokes_n[start],
            strokes_n[end - 1],
            _mean(sums, first, start),
            _mean(sums, first, last),
            _facts(start - first, end - first, last - first),
        ]
        encoded: Tensor = self.segment(torch.cat(parts, dim=-1))
        return encoded

    def _strokes(self, strokes: Tensor) -> Tensor:
        features = self.points(strokes.transpose(1, 2))  # (n, C, 16)
        pooled = torch.cat([features.amax(dim=-1), features.mean(dim=-1)], dim=-1)  # (n, 2C)
        encoded: Tensor = self.stroke(pooled)
        return encoded


def _mean(sums: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The mean over each span; zeros where it is empty. (S, W)."""
    count = (end - start).clamp(min=1).unsqueeze(-1).to(sums.dtype)
    return (sums[end] - sums[start]) / count


def _facts(start: Tensor, end: Tensor, size: Tensor) -> Tensor:
    """How large the span is and where it lies in its drawing. (S, FACTS)."""
    start, end, size = (t.to(torch.float32) for t in (start, end, size))
    size = size.clamp(min=1.0)
    count = end - start
    return torch.stack(
        [torch.log1p(count), count / size, torch.log1p(start), start / size, end / size], dim=-1
    )
