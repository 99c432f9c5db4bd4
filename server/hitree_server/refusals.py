"""The log of calls that are refused for what the service is like: some lines, however many come.

Under overload a line for each would cost more than the refusals themselves, and bury the rest. The
first one is told at once, those after it together, once a second; metrics count each.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING

from hitree.errors import Overloaded, Unauthenticated, Unavailable
from hitree_server.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 1.0  # between two lines
REASONS = frozenset(cls.reason for cls in (Overloaded, Unauthenticated, Unavailable))

log = logger(__name__)


class Refusals:
    """Refusals that were not told yet; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()  # by reason
        self._told = -math.inf  # when the last line was written, by the clock

    def add(self, reason: str) -> None:
        """Count a refusal."""
        self._counts[reason] += 1
        self.tell()

    def tell(self) -> None:
        """Write a line about those that were counted, if the last one is long enough ago."""
        if self._counts and (now := self._clock()) - self._told >= SECONDS:
            log.info("refused", **self._counts)
            self._counts.clear()
            self._told = now
