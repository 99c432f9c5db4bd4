"""What the scorer and the generator see of strokes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hitree.drawing import CENTRE
from hitree.polyline import divide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hitree.drawing import Drawing

POINTS = 32  # of a resampled stroke
SMALLEST = 1.0  # units; the half size of a stroke counts as at least this, so dots stay dots


def stroke_features(drawing: Drawing) -> NDArray[np.float32]:
    """Turn n strokes into features: (n, 32, 4) float32.

    Every stroke is resampled at 32 points equally spaced along its length, a dot repeats its
    point. Columns 0 and 1: the position, -1 to 1 over the frame. Columns 2 and 3: the position
    seen from the centre of the stroke's box, divided by half the box's larger side: its shape
    alone, whatever its place and size.
    """
    points = divide(drawing.strokes, POINTS)
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    half = np.maximum((high - low).max(axis=2, keepdims=True) / 2, SMALLEST)
    shape = (points - (low + high) / 2) / half
    return np.concatenate([points / CENTRE - 1, shape], axis=2).astype(np.float32)
