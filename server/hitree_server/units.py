"""Drawings of very many strokes, as fewer units to parse.

Parsing looks at all O(n^2) segments. Beyond `MOST` strokes neighbours in drawing order are merged
first: greedily, always the two whose common box grows the least ink-free area, so that hatching,
dots and dashes become one unit and parts far apart stay apart. Only the cuts between units remain
for the parser to choose from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hitree.drawing import Drawing

MOST = 64  # units; as many nodes as a plan may have


def cuts(drawing: Drawing, most: int = MOST) -> NDArray[np.int64]:
    """Where units end: (U + 1,) stroke indices from 0 to n; unit i is [cuts[i], cuts[i + 1])."""
    low = np.array([stroke.min(axis=0) for stroke in drawing.strokes])  # (n, 2)
    high = np.array([stroke.max(axis=0) for stroke in drawing.strokes])
    ends = np.arange(len(low) + 1)
    while len(low) > most:
        joined_low, joined_high = np.minimum(low[:-1], low[1:]), np.maximum(high[:-1], high[1:])
        areas = _area(low, high)
        growth = _area(joined_low, joined_high) - areas[:-1] - areas[1:]
        at = int(np.argmin(growth))
        low[at], high[at] = joined_low[at], joined_high[at]
        low, high = np.delete(low, at + 1, axis=0), np.delete(high, at + 1, axis=0)
        ends = np.delete(ends, at + 1)
    return ends.astype(np.int64)


def _area(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """Box areas (n,), a unit wider each way so that straight lines count by their length."""
    area: NDArray[np.float32] = (high - low + 1).prod(axis=1)
    return area
