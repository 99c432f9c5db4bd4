"""Drawings as stroke-5 rows, the one preprocessing that training, export and server share.

A row is ``(dx, dy, p_down, p_up, p_end)``: the move to a point, then what the pen does after
arriving there (stays down, lifts, or the drawing is over). The pen starts lifted in the frame's
centre, so the first row, the *placement*, puts the drawing in place absolutely. N points make N
rows and one end row. After Ha & Eck, "A Neural Representation of Sketch Drawings" (2017), whose
rows start from the first point instead.

Offsets lie on a grid of a quarter of a unit, the grid that the decoder samples on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hitree.drawing import CENTRE, FRAME, Drawing
from hitree.errors import NotFinite, OutOfFrame

GRID = 4  # steps a unit
DOWN, UP, END = 2, 3, 4  # columns of a row
ROW = 5  # of them in all

# What ends with a row that a decoder draws; each includes those before it.
NOTHING, STROKE, SEGMENT, DRAWING = range(4)

_WIRE_LIMIT = 2**29  # units, either way, that still fit a signed 32-bit count of grid steps

Rows = NDArray[np.float32]
"""Stroke-5 rows: (T, 5) float32, offsets in units."""


def snap(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round units to the grid, halves to even."""
    return (np.rint(np.asarray(values, np.float32) * GRID) / GRID).astype(np.float32)


def to_grid(values: NDArray[np.floating], noun: str = "the drawing") -> NDArray[np.int32]:
    """Count units in grid steps, as the wire carries positions; same shape.

    Raises:
        NotFinite, OutOfFrame: a value is no number, or too large for the wire.
    """
    if not np.isfinite(values).all():
        raise NotFinite(f"{noun} has a coordinate that is NaN or infinite; send finite numbers")
    if np.abs(values).max(initial=0) >= _WIRE_LIMIT:
        raise OutOfFrame(
            f"{noun} has a coordinate far outside the frame of 0 to {FRAME}; "
            "scale the drawing into the frame"
        )
    return np.rint(np.asarray(values, np.float64) * GRID).astype(np.int32)


def from_grid(steps: NDArray[np.integer]) -> NDArray[np.float32]:
    """Turn counts of grid steps back into units; same shape."""
    return np.asarray(steps, np.float32) / np.float32(GRID)


def to_rows(drawing: Drawing, *, end: bool = True) -> Rows:
    """Turn a drawing of N points into N rows, and the end row where ``end``.

    Positions are snapped to the grid first, so offsets never accumulate rounding.
    """
    points = snap(np.concatenate(drawing.strokes))
    rows = np.zeros((len(points) + end, 5), np.float32)
    rows[: len(points), :2] = np.diff(points, axis=0, prepend=np.full((1, 2), CENTRE, np.float32))
    rows[: len(points), DOWN] = 1
    lifts = np.cumsum([len(stroke) for stroke in drawing.strokes]) - 1
    rows[lifts, DOWN], rows[lifts, UP] = 0, 1
    if end:
        rows[-1, END] = 1
    return rows


def from_rows(rows: Rows) -> Drawing:
    """Turn rows back into a drawing; rows from the first end row on are left out."""
    ends = np.flatnonzero(rows[:, END] > 0)
    rows = rows[: ends[0]] if len(ends) else rows
    points = np.cumsum(rows[:, :2], axis=0, dtype=np.float32) + np.float32(CENTRE)
    lifts = np.flatnonzero(rows[:, UP] > 0) + 1
    strokes = np.split(points, lifts)
    return Drawing(tuple(stroke for stroke in strokes if len(stroke)))
