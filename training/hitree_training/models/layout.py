"""What lies where: attention over the finished strokes as the next one begins.

A raster of the canvas tells where ink is, not which of it is the head. So the decoder keeps, of
every finished stroke, its place and the condition that it was drawn under, and looks them up when
it lifts the pen: an eye asks for the head. What it found is held while the stroke is drawn.

Shapes: B rows (sequences), S strokes that are kept, A width of the layout, K = 2 A + 1 what is kept
of a stroke, C condition, T steps, N strokes of the longest sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hitree.drawing import CENTRE, FRAME
from hitree.stroke5 import UP

STROKES = 16  # S: the last ones; of a drawing with more, the first are forgotten
HEADS = 4
TOLD = 32  # what a stroke's condition is kept as
PLACE = 10  # first and last point, box, length, and 1 for a stroke that is there


class Layout(nn.Module):
    """Attention from a condition and a pen's position over strokes."""

    def __init__(self, condition: int, width: int) -> None:
        """``condition``: C; ``width``: A, of all heads together."""
        super().__init__()
        self.told = nn.Linear(condition, TOLD)
        self.query = nn.Linear(condition + 2, width)
        self.key = nn.Linear(PLACE + TOLD, width)
        self.value = nn.Linear(PLACE + TOLD, width)
        self.age = nn.Parameter(torch.zeros(HEADS, STROKES))  # the stroke before is often meant

    def tell(self, condition: Tensor) -> Tensor:
        """What a stroke remembers of the ``condition`` (…, C) it is drawn under: (…, TOLD)."""
        return torch.tanh(self.told(condition))

    def keep(self, place: Tensor, told: Tensor) -> Tensor:
        """What is kept of a stroke at ``place`` (…, PLACE), drawn under ``told``: (…, K)."""
        stroke = torch.cat([place, told], dim=-1)
        return torch.cat([self.key(stroke), self.value(stroke), place[..., PLACE - 1 :]], dim=-1)

    def look(self, condition: Tensor, position: Tensor, kept: Tensor) -> Tensor:
        """Look strokes ``kept`` (…, S, K) up, the last one first, from ``position`` (…, 2): (…, A).

        A head that looks for what is not there, or before the first stroke, finds zeros.
        """
        asker = torch.cat([condition, centred(position)], dim=-1)
        return self.find(self.query(asker), kept)

    def find(self, asked: Tensor, kept: Tensor) -> Tensor:
        """What a query ``asked`` (…, A) finds among strokes ``kept`` (…, S, K): (…, A)."""
        A = self.query.out_features
        of_head = torch.eye(HEADS).repeat_interleave(A // HEADS, dim=0)  # (A, heads)
        keys, values, there = torch.split(kept, [A, A, 1], dim=-1)
        scores = (keys * asked.unsqueeze(-2)) @ (of_head * (A // HEADS) ** -0.5)  # (…, S, heads)
        scores = scores + self.age.T - 1e4 * (1 - there)
        nothing = 0 * scores[..., :1, :]
        weight = torch.softmax(torch.cat([scores, nothing], dim=-2), dim=-2)[..., :STROKES, :]
        # A product, not a sum: ONNX Runtime sums one row alone in another order than several.
        found: Tensor = torch.ones(1, STROKES) @ (values * (weight @ of_head.T))  # (…, 1, A)
        return found[..., 0, :]

    def forward(self, rows: Tensor, position: Tensor, condition: Tensor) -> Tensor:
        """What is held before each row of ``rows`` (B, T, 5): (B, T, A).

        ``position`` (B, T, 2) is where the pen is before a row, in units, ``condition`` (B, T, C)
        what the row is drawn under.
        """
        B = len(rows)
        number = strokes_of(rows)  # (B, T)
        time = torch.arange(rows.shape[1]).expand(B, -1)
        N = int(number.max()) + 1
        first = rows.new_full((B, N), rows.shape[1] - 1, dtype=torch.int64)
        first.scatter_reduce_(1, number, time, "amin")
        last = torch.zeros_like(first).scatter_reduce_(1, number, time, "amax")
        place = _places(rows, position + rows[..., :2], number, first, last)
        kept = self.keep(place, self.tell(_at(condition, last)))  # (B, N, K)
        # Before stroke n, the kept ones are n - 1, n - 2, …; padding in front stands for none.
        padded = functional.pad(kept, (0, 0, STROKES, 0))  # (B, S + N, K)
        back = torch.arange(N)[:, None] + torch.arange(STROKES - 1, -1, -1)  # (N, S)
        before = padded[:, back]  # (B, N, S, K)
        held = self.look(_at(condition, first), _at(position, first), before)
        return _at(held, number)


def strokes_of(rows: Tensor) -> Tensor:
    """The number of the stroke that each row of (B, T, 5) belongs to: (B, T) int64."""
    lifted = rows[..., UP]
    return (lifted.cumsum(dim=1) - lifted).long()


def place_of(first: Tensor, last: Tensor, stroke: Tensor) -> Tensor:
    """A stroke's place: (…, PLACE).

    ``first`` and ``last`` (…, 2) are points in units, ``stroke`` (…, 6) is its left, top, right
    and bottom in units, its length in frames, and 1; all zero where there is none.
    """
    low, high, rest = torch.split(stroke, [2, 2, 2], dim=-1)
    return torch.cat([*map(centred, (first, last, low, high)), rest], dim=-1)


def centred(point: Tensor) -> Tensor:
    """Points in units as they are seen: the frame from -1 to 1."""
    return (point - CENTRE) / CENTRE


def _places(rows: Tensor, points: Tensor, number: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The places (B, N, PLACE) of strokes from rows ``first`` to ``last`` (B, N)."""
    B, N = first.shape
    of = number[..., None].expand_as(points)
    start = _at(points, first)
    low = start.scatter_reduce(1, of, points, "amin")
    high = start.scatter_reduce(1, of, points, "amax")
    way = rows[..., :2].abs().sum(dim=-1) / FRAME
    way = way.scatter(1, first, 0.0)  # to a stroke's first point the pen is lifted
    length = rows.new_zeros(B, N).scatter_add(1, number, way)[..., None]
    stroke = torch.cat([low, high, length, torch.ones_like(length)], dim=-1)
    return place_of(start, _at(points, last), stroke)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """``values`` (B, T, K) at ``index`` (B, N): (B, N, K)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
