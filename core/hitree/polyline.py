"""Geometry of polylines, vectorised over all strokes of a drawing at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Points = NDArray[np.float64]
"""(N, 2) positions."""


def lengths(points: Points) -> NDArray[np.float64]:
    """The length travelled up to each point: (N,), starting at 0."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def space(points: Points, spacing: float) -> Points:
    """Resample one polyline every ``spacing`` along its length; both ends are kept.

    A polyline without length becomes its one point.
    """
    travelled = lengths(points)
    at = np.append(np.arange(0, travelled[-1], spacing), travelled[-1])
    return np.stack([np.interp(at, travelled, column) for column in points.T], axis=1)


def divide(strokes: Sequence[NDArray[np.floating]], count: int) -> NDArray[np.float64]:
    """Resample each of n strokes at ``count`` points equally spaced along it: (n, count, 2)."""
    if not strokes:
        return np.zeros((0, count, 2))
    points = np.concatenate(strokes).astype(np.float64)
    firsts = np.cumsum([0, *map(len, strokes)])
    steps = np.zeros(len(points))
    steps[1:] = np.hypot(*np.diff(points, axis=0).T)
    steps[firsts[1:-1]] = 1  # any length between strokes, so that positions are unambiguous
    travelled = np.cumsum(steps)
    starts, ends = travelled[firsts[:-1], None], travelled[firsts[1:] - 1, None]
    share = np.linspace(0, 1, count)
    at = np.clip(starts * (1 - share) + ends * share, starts, ends)  # (n, count)
    return np.stack([np.interp(at, travelled, column) for column in points.T], axis=-1)


def keep_shape(points: Points, firsts: NDArray[np.integer], epsilon: float) -> NDArray[np.bool_]:
    """Choose the points that keep strokes within ``epsilon``: a mask (N,).

    Ramer-Douglas-Peucker on all strokes together, one level of the recursion a pass; ``firsts``
    holds the index of each stroke's first point. Distances are to the segment between two kept
    points and not to the line through them, so that a pen that turns back on itself keeps the
    turn.
    """
    kept = np.zeros(len(points), bool)
    kept[firsts] = True
    kept[np.append(firsts[1:], len(points)) - 1] = True
    open_ = ~kept  # points whose gap has to be looked at
    while open_.any():
        inner, gap = np.flatnonzero(open_), (np.cumsum(kept) - 1)[open_]
        anchors = np.flatnonzero(kept)
        distance = _distances(points[inner], points[anchors[gap]], points[anchors[gap + 1]])
        begins = np.flatnonzero(np.diff(gap, prepend=-1))
        farthest = np.repeat(
            np.maximum.reduceat(distance, begins), np.diff(np.append(begins, len(gap)))
        )
        split = farthest > epsilon
        hits = np.flatnonzero(split & (distance == farthest))
        hits = hits[np.unique(gap[hits], return_index=True)[1]]  # the first of each gap
        open_[inner[~split]] = False
        open_[inner[hits]], kept[inner[hits]] = False, True
    return kept


def _distances(points: Points, starts: Points, ends: Points) -> NDArray[np.float64]:
    """How far each point (N, 2) is from its segment: (N,)."""
    along = ends - starts
    square = (along**2).sum(axis=1)
    share = ((points - starts) * along).sum(axis=1) / np.where(square > 0, square, 1)
    away = points - starts - np.clip(share, 0, 1)[:, None] * along
    found: NDArray[np.float64] = np.hypot(away[:, 0], away[:, 1])
    return found
