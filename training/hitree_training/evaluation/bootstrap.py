"""Intervals of figures: percentiles of what resampled drawings give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)  # a 95 % interval


def interval(samples: ArrayLike) -> NDArray[np.float64]:
    """The lower and the upper end (2, …) of samples (RESAMPLES, …)."""
    ends: NDArray[np.float64] = np.percentile(np.asarray(samples, np.float64), PERCENTILES, axis=0)
    return ends
