"""Training pictures for the classifier: rendered anew for every batch, never twice alike.

Drawings are kept as points along their strokes, end to end in flat tensors, so that mirroring,
turning, stretching, bending, shifting and leaving out strokes are tensor operations on a batch,
and lines stay as sharp as `hitree.raster.render` draws them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from hitree import raster
from hitree.drawing import CENTRE, FRAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hitree_training.data import Example

REACH = (FRAME - 2 * raster.MARGIN) / FRAME  # of a fitted drawing's longer side, in frames


@dataclass(frozen=True)
class Augmentation:
    """How far a drawing may be changed without changing what it is."""

    mirror: float = 0.5  # share of drawings
    stretch: float = 0.25  # one side against the other, up to this share
    turn: float = 0.12  # radians, standard deviation
    shear: float = 0.1  # standard deviation
    bend: float = 0.02  # frames, standard deviation of a wave across the drawing
    shift: float = 0.012  # frames, standard deviation of every stroke
    leave_out: float = 0.05  # share of strokes


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Ink:
    """The points of a set of drawings, ready to be rendered on ``size`` x ``size`` cells."""

    def __init__(self, examples: Sequence[Example], size: int, label: str) -> None:
        self.size = size
        shown = track(examples, label, console=Console(stderr=True), transient=True)
        points, counts = [], []
        for example in shown:
            strokes = [raster.sampled(s, size) for s in raster.fitted(example.drawing.strokes)]
            points.append(np.concatenate(strokes).astype(np.float32))
            counts.append([len(stroke) for stroke in strokes])
        self.points = torch.from_numpy(np.concatenate(points))  # (P, 2) in cells
        self.strokes = torch.tensor([len(c) for c in counts])  # (N,) of every drawing
        self.lengths = torch.tensor([sum(c) for c in counts])  # (N,) points of every drawing
        self.offsets = self.lengths.cumsum(0) - self.lengths
        flat = torch.tensor([n for c in counts for n in c])
        stroke = torch.cat([torch.arange(int(n)) for n in self.strokes])
        self.stroke = stroke.to(torch.int16).repeat_interleave(flat)  # (P,) which of its drawing

    def __len__(self) -> int:
        return len(self.lengths)

    def images(self, index: Tensor, generator: torch.Generator, by: Augmentation) -> Tensor:
        """The drawings at ``index`` (B,), changed at random: (B, 1, size, size)."""
        length = self.lengths[index]
        row = torch.arange(len(index)).repeat_interleave(length)  # (Q,) which of the B
        start = length.cumsum(0) - length
        at = torch.arange(len(row)) - start[row] + self.offsets[index][row]  # (Q,)
        points = (self.points[at] + 0.5) / self.size - CENTRE / FRAME  # frames from centre
        first = self.strokes[index].cumsum(0) - self.strokes[index]
        stroke = self.stroke[at].long() + first[row]  # (Q,) which of the batch's
        points = _shift(points, stroke, int(self.strokes[index].sum()), generator, by)
        points = _bend(points, row, len(index), generator, by)
        points = (points[:, None] @ _affine(len(index), generator, by)[row])[:, 0]
        kept = _kept(stroke, row, int(self.strokes[index].sum()), generator, by)
        row, points = row[kept], points[kept]
        return splat(_refit(points, row, len(index)), row, len(index), self.size)


def _shift(
    points: Tensor, stroke: Tensor, strokes: int, generator: torch.Generator, by: Augmentation
) -> Tensor:
    """Every stroke moved a little by itself."""
    return points + (by.shift * torch.randn(strokes, 2, generator=generator))[stroke]


def _bend(
    points: Tensor, row: Tensor, rows: int, generator: torch.Generator, by: Augmentation
) -> Tensor:
    """A wave along each axis, half a period to one across the frame, of each drawing's own."""
    period = 1 + torch.rand(rows, 2, generator=generator)
    phase = 2 * math.pi * torch.rand(rows, 2, generator=generator)
    height = by.bend * torch.randn(rows, 2, generator=generator)
    return points + height[row] * torch.sin(math.pi * points.flip(-1) * period[row] + phase[row])


def _affine(rows: int, generator: torch.Generator, by: Augmentation) -> Tensor:
    """Matrices (rows, 2, 2) that mirror, stretch, shear and turn points from their right."""
    flip = 1 - 2 * (torch.rand(rows, generator=generator) < by.mirror).float()
    wide = 1 - by.stretch * (2 * torch.rand(rows, generator=generator) - 1)
    shear = by.shear * torch.randn(rows, generator=generator)
    angle = by.turn * torch.randn(rows, generator=generator)
    zero, one = torch.zeros(rows), torch.ones(rows)
    stretched = torch.stack([flip * wide, zero, shear, one], dim=-1).reshape(rows, 2, 2)
    turned = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=-1)
    return stretched @ turned.reshape(rows, 2, 2)


def _kept(
    stroke: Tensor, row: Tensor, strokes: int, generator: torch.Generator, by: Augmentation
) -> Tensor:
    """Which points stay (Q,): all but those of strokes that are left out."""
    out = (torch.rand(strokes, generator=generator) < by.leave_out)[stroke]
    ink = torch.zeros(int(row.max()) + 1).index_add_(0, row, (~out).float())
    return ~out | (ink[row] == 0)  # a drawing keeps at least something


def _refit(points: Tensor, row: Tensor, rows: int) -> Tensor:
    """As `hitree.raster.fitted`, each drawing by itself; in frames from the centre."""
    index = row[:, None].expand(-1, 2)
    low = torch.full((rows, 2), torch.inf).scatter_reduce(0, index, points, "amin")
    high = torch.full((rows, 2), -torch.inf).scatter_reduce(0, index, points, "amax")
    extent = (high - low).amax(dim=1, keepdim=True)  # (rows, 1)
    factor = torch.where(extent > 0, REACH / extent, 1.0)
    return (points - ((low + high) / 2)[row]) * factor[row]


def splat(points: Tensor, row: Tensor, rows: int, size: int) -> Tensor:
    """Ink of points (Q, 2), in frames from the centre, as `hitree.raster.render` spreads it.

    Returns (rows, 1, size, size).
    """
    cells = (points + CENTRE / FRAME) * size - 0.5
    low = cells.floor()
    share = cells - low  # of the next cell
    ink = torch.zeros(rows * size * size)
    for dx in (0, 1):
        for dy in (0, 1):
            column, line = (low[:, 0] + dx).long(), (low[:, 1] + dy).long()
            weight = (1 - dx - share[:, 0]).abs() * (1 - dy - share[:, 1]).abs()
            inside = (column >= 0) & (column < size) & (line >= 0) & (line < size)
            cell = (row * size + line.clamp(0, size - 1)) * size + column.clamp(0, size - 1)
            ink.index_add_(0, cell, weight * inside)
    return ink.clamp(max=1.0).reshape(rows, 1, size, size)
