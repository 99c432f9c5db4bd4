"""Judge: how well an instruction fits a segment that continues a canvas.

Used for measuring alone. It never serves, and it shares neither weights nor training loss
with the tree scorer, which ranks: a drawing that pleases the scorer need not please the judge.

Beside what convolutions see in the strokes it is told where the segment lies, how large it is and
how it lies to the canvas, in numbers, so that it can tell big from small and left from right.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hitree_training.models.text_encoder import TextEncoder
from hitree_training.presets import Preset

CHANNELS = 48  # of the convolutions over a stroke's points
BOX = 8  # numbers about a box
STROKE = 2  # numbers about a stroke: length, straightness
SMALLEST = 0.02  # of half a frame: the side of a dot's box


class JudgePreset(Preset):
    """What a judge is made of."""

    width: int  # W, of the encoders
    space: int  # D, of the common space
    dropout: float  # in both towers, in training


class Judge(nn.Module):
    """Segments and instructions as unit vectors, and what a cosine is worth."""

    def __init__(self, preset: JudgePreset, *, token_width: int) -> None:
        """``token_width`` E, of token vectors."""
        super().__init__()
        self.preset = preset
        W, D = preset.width, preset.space
        self.points = nn.Sequential(
            nn.Conv1d(4, CHANNELS, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.Conv1d(CHANNELS, CHANNELS, kernel_size=5, padding=2, stride=2),
            nn.ReLU(),
        )
        self.stroke = nn.Sequential(nn.Linear(2 * CHANNELS + STROKE, W), nn.ReLU())
        # Mean and maximum of the segment, mean of the canvas; boxes of both and between them.
        self.segment_tower = nn.Sequential(
            nn.Dropout(preset.dropout),
            nn.Linear(3 * W + 3 * BOX, 2 * W),
            nn.ReLU(),
            nn.Dropout(preset.dropout),
            nn.Linear(2 * W, D),
        )
        self.text_encoder = TextEncoder(token_width, W)
        self.text_tower = nn.Sequential(nn.ReLU(), nn.Dropout(preset.dropout), nn.Linear(W, D))
        self.sharpness = nn.Parameter(torch.tensor(2.0))  # logarithm of what a cosine is worth

    def segments(self, strokes: Tensor, spans: Tensor, first: Tensor) -> Tensor:
        """Embed ``spans`` (S, 2) of ``strokes`` (n, 32, 4) to (S, D), unit norm.

        The canvas of a span is the strokes from ``first`` (S,) up to it.
        """
        encoded = self._strokes(strokes)  # (n, W)
        low, high = strokes[..., :2].amin(dim=1), strokes[..., :2].amax(dim=1)  # (n, 2)
        inside = _Members(spans[:, 0], spans[:, 1])
        canvas = _Members(first, spans[:, 0])
        box, before = inside.box(low, high), canvas.box(low, high)  # (S, 4)
        parts = [
            inside.mean(encoded),
            inside.most(encoded),
            canvas.mean(encoded),
            _describe(box, inside.count),
            _describe(before, canvas.count),
            _relate(box, before) * (canvas.count > 0),
        ]
        return functional.normalize(self.segment_tower(torch.cat(parts, dim=-1)), dim=-1)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed texts given as token vectors (B, T, E) and mask (B, T); return (B, D), unit."""
        return functional.normalize(self.text_tower(self.text_encoder(tokens, mask)), dim=-1)

    def _strokes(self, strokes: Tensor) -> Tensor:
        features = self.points(strokes.transpose(1, 2))  # (n, C, 16)
        step = torch.diff(strokes[..., :2], dim=1).norm(dim=-1).sum(dim=1, keepdim=True)  # (n, 1)
        chord = (strokes[:, -1:, :2] - strokes[:, :1, :2]).norm(dim=-1)  # (n, 1)
        shape = [(step + SMALLEST).log(), chord / (step + SMALLEST)]
        pooled = torch.cat([features.amax(dim=-1), features.mean(dim=-1), *shape], dim=-1)
        encoded: Tensor = self.stroke(pooled)
        return encoded


class _Members:
    """Which strokes belong to which span, as a list of (span, stroke)."""

    def __init__(self, start: Tensor, end: Tensor) -> None:
        size = end - start
        self.spans = len(start)
        self.count = size[:, None].float()  # (S, 1)
        self.span = torch.arange(len(start)).repeat_interleave(size)  # (K,)
        within = torch.arange(len(self.span)) - (size.cumsum(0) - size)[self.span]
        self.stroke = start[self.span] + within  # (K,)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of values (n, W) over each span: (S, W), zeros where it is empty."""
        empty = torch.zeros(self.spans, values.shape[1])
        total = empty.index_add(0, self.span, values[self.stroke])
        return total / self.count.clamp(min=1.0)

    def most(self, values: Tensor) -> Tensor:
        """The maximum, (S, W), zeros where a span is empty."""
        index = self.span[:, None].expand(-1, values.shape[1])
        empty = torch.zeros(self.spans, values.shape[1])
        return empty.scatter_reduce(0, index, values[self.stroke], "amax", include_self=False)

    def box(self, low: Tensor, high: Tensor) -> Tensor:
        """The corners (S, 4) of the box around each span's strokes."""
        return torch.cat([-self.most(-low), self.most(high)], dim=-1)


def _describe(box: Tensor, count: Tensor) -> Tensor:
    """A box (S, 4) of count (S, 1) strokes in `BOX` numbers; zeros where there is none."""
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    logs = (size + SMALLEST).log()
    aspect = logs[:, :1] - logs[:, 1:]
    return torch.cat([centre, size, logs, aspect, count.log1p()], dim=-1) * (count > 0)


def _relate(box: Tensor, canvas: Tensor) -> Tensor:
    """A box beside the canvas's, in `BOX` numbers."""
    middle, other = (box[:, :2] + box[:, 2:]) / 2, (canvas[:, :2] + canvas[:, 2:]) / 2
    sizes = [(b[:, 2:] - b[:, :2] + SMALLEST).log() for b in (box, canvas)]
    return torch.cat(
        [
            middle - other,
            sizes[0] - sizes[1],
            box[:, :2] - canvas[:, :2],
            canvas[:, 2:] - box[:, 2:],
        ],
        dim=-1,
    )
