"""Image encoder: looks at segments instead of following the pen.

A segment is seen as three small grey images: the canvas before it, the canvas with it, and the
finished drawing. They are drawn inside the network, from the same stroke features that
`SegmentEncoder` reads and to the same rule as `hitree.raster.render`, so that batches,
augmentation and the exported graph do not depend on which encoder there is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hitree.raster import SIZE, SPACING

BETWEEN = 4  # samples for each of a stroke's points: at most half a cell apart in most strokes


class ImageEncoder(nn.Module):
    """Reads segments of drawings given as `hitree.segments.stroke_features`."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=5, padding=2, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.segment = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(64 * (SIZE // 8) ** 2, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Encode ``strokes`` (n, 32, 4) over ``spans`` (S, 2) int64; return (S, width).

        ``bounds`` is as in `SegmentEncoder.forward`.
        """
        encoded: Tensor = self.segment(self.look(images(strokes, spans, bounds)))
        return encoded


def images(strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
    """Canvas before, canvas with the segment, whole drawing: (S, 3, SIZE, SIZE), 0 to 1."""
    ink = rasters(strokes)  # (n, G, G)
    sums = torch.cat([torch.zeros_like(ink[:1]), ink.cumsum(dim=0)])  # (n + 1, G, G)
    start, end = spans[:, 0], spans[:, 1]
    if bounds is None:
        first, last = torch.zeros_like(start), torch.zeros_like(start) + strokes.shape[0]
    else:
        first, last = bounds[:, 0], bounds[:, 1]
    before = sums[first]
    seen = [sums[start] - before, sums[end] - before, sums[last] - before]
    return torch.stack(seen, dim=1).clamp(0.0, 1.0)


def rasters(strokes: Tensor) -> Tensor:
    """The ink of each stroke of ``strokes`` (n, 32, 4) by itself: (n, SIZE, SIZE), 0 to 1.

    Samples are spread bilinearly. The spread of a sample is a tent along x times a tent along y,
    so that a stroke's ink is one product of two matrices.
    """
    points = (strokes[..., :2] + 1.0) * (SIZE / 2) - 0.5  # (n, 32, 2) in cells
    share = torch.arange(BETWEEN, dtype=points.dtype) / BETWEEN  # (K,)
    steps = points[:, 1:] - points[:, :-1]  # (n, 31, 2)
    line = points[:, :-1, None] + steps[:, :, None] * share[:, None]  # (n, 31, K, 2)
    line = torch.cat([line.flatten(1, 2), points[:, -1:]], dim=1)  # (n, P, 2)
    # As much ink as samples of `SPACING` would give, and a whole one for the last point.
    ink = steps.square().sum(dim=-1).sqrt() / (BETWEEN * SPACING)  # (n, 31)
    ink = torch.cat([ink.repeat_interleave(BETWEEN, dim=1), torch.ones_like(ink[:, :1])], dim=1)
    near = (1.0 - (line.unsqueeze(-1) - torch.arange(SIZE, dtype=line.dtype)).abs()).clamp(min=0)
    across, down = near[:, :, 0] * ink.unsqueeze(-1), near[:, :, 1]  # (n, P, G) each
    return (down.transpose(1, 2) @ across).clamp(max=1.0)
