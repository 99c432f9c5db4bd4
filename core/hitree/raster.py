"""Drawings as small grey images, for the networks that look rather than follow the pen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hitree.drawing import CENTRE, FRAME, bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hitree.drawing import Stroke

SIZE = 32  # cells a side
SPACING = 0.5  # cells between the samples along a stroke, at most
MARGIN = 8.0  # units that are left free around a drawing that is fitted to the frame


def render(strokes: Sequence[Stroke], size: int = SIZE) -> NDArray[np.float32]:
    """Ink of strokes, (N, 2) polylines in the frame, on ``size`` x ``size`` cells: 0 to 1.

    Lines are sampled evenly and spread bilinearly; ink does not grow where lines cross. No
    strokes give an empty image; what lies outside the frame is left out.
    """
    if not len(strokes):
        return np.zeros((size, size), np.float32)
    points = np.concatenate([sampled(stroke, size) for stroke in strokes])  # (P, 2) in cells
    low = np.floor(points)
    share = points - low  # of the next cell
    ink = np.zeros(size * size)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = (low + np.array([dx, dy])).astype(np.int64).T
            weight = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
            cell = row[inside] * size + column[inside]
            ink += np.bincount(cell, weight[inside], minlength=size * size)
    return np.minimum(ink, 1.0).astype(np.float32).reshape(size, size)


def fitted(strokes: Sequence[Stroke]) -> list[Stroke]:
    """The strokes moved and scaled alike to fill the frame, centred, but for a margin.

    What is drawn small or in a corner looks the same then. A lone dot is only moved.
    """
    if not len(strokes):
        return []
    left, top, right, bottom = bounds(strokes)
    middle = np.array([(left + right) / 2, (top + bottom) / 2], np.float32)
    extent = max(right - left, bottom - top)
    factor = np.float32((FRAME - 2 * MARGIN) / extent if extent else 1.0)
    return [(stroke - middle) * factor + np.float32(CENTRE) for stroke in strokes]


def sampled(stroke: Stroke, size: int) -> NDArray[np.float64]:
    """Points along a stroke, in cells from the centre of the first: (P, 2)."""
    points = np.asarray(stroke, np.float64) * (size / FRAME) - 0.5
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    along = np.linspace(0.0, length[-1], 1 + int(np.ceil(length[-1] / SPACING)))
    return np.stack([np.interp(along, length, points[:, axis]) for axis in (0, 1)], axis=1)
