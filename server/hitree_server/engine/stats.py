"""What the engine counts, as plain data; the doors turn it into Prometheus metrics.

The engine's thread writes, others read without a lock: a reader may see a step half counted, and
never a number that goes back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

ROWS = tuple(float(1 << power) for power in range(11))
SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.066, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32)
STEP_SECONDS = (0.00025, 0.0005, *SECONDS)


class Histogram:
    """Counts of values by upper bounds, as Prometheus has them but not cumulative."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds  # upper, inclusive, ascending
        self.counts = [0] * (len(bounds) + 1)  # the last one is for values above every bound
        self.total = 0.0  # sum of the values

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean of the values; 0 without any."""
        return self.total / max(1, self.count)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, ``times`` times over."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


def _rows() -> Histogram:
    return Histogram(ROWS)


def _seconds() -> Histogram:
    return Histogram(SECONDS)


def _step_seconds() -> Histogram:
    return Histogram(STEP_SECONDS)


@dataclass
class Stats:
    """Gauges, counters and histograms of one engine."""

    ready: bool = False  # started, and the last steps did not all fail
    running: int = 0  # sequences that own rows
    waiting: int = 0  # sequences that wait for rows
    paused: int = 0  # sequences whose reader is slow
    steps: int = 0  # computed
    steps_failed: int = 0
    points: int = 0  # made
    step_rows: Histogram = field(default_factory=_rows)  # live rows of a step
    step_padding: int = 0  # rows computed beyond the live ones
    step_seconds: Histogram = field(default_factory=_step_seconds)  # the device's time
    first_point_seconds: Histogram = field(default_factory=_seconds)  # from acceptance
    gap_seconds: Histogram = field(default_factory=_step_seconds)  # between points of a sequence
    queue_seconds: Histogram = field(default_factory=_seconds)  # from acceptance to the batch
    finished: Counter[str] = field(default_factory=Counter)  # terminal events, by reason
    rejected: Counter[str] = field(default_factory=Counter)  # refused submissions, by reason
