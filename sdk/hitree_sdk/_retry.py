"""When a failed call is tried again: a pure decision, and the budget of one call."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from hitree.errors import (
    ClientClosed,
    DeadlineExceeded,
    HiTreeError,
    MissingPackage,
    Overloaded,
    PortBusy,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 5.0  # seconds; a hint of the service may be longer


def retry_delay(error: HiTreeError, attempt: int, *, retries: int, jitter: float) -> float | None:
    """Seconds to wait before the next try, or None where trying again makes no sense.

    Only `Unavailable` and `Overloaded` pass by themselves. The delay doubles with each attempt
    (0 is the first) and is drawn from its upper half by ``jitter`` (0 to 1), so that clients
    which failed together do not come back together; the service's hint is the least delay.
    """
    lasting = isinstance(error, MissingPackage | PortBusy | ClientClosed)
    passing = isinstance(error, Unavailable | Overloaded) and not lasting
    if not passing or attempt >= retries:
        return None
    backoff: float = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY)
    return max(backoff * (1 + jitter) / 2, error.retry_after or 0.0)


class Attempts:
    """The tries of one call and the deadline that they share."""

    def __init__(
        self,
        timeout: float,
        retries: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Start the clock: ``timeout`` seconds from now all tries are over."""
        self._clock = clock
        self._jitter = jitter
        self._retries = retries
        self._timeout = timeout
        self._deadline = clock() + timeout
        self._attempt = 0

    def left(self) -> float:
        """Seconds left for the next try.

        Raises:
            DeadlineExceeded: none are.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded(
                f"the call took longer than its timeout of {self._timeout:g} s; give more time"
            )
        return left

    def delay_after(self, error: HiTreeError) -> float | None:
        """Seconds to wait before the next try; None where there is none to be made in time."""
        delay = retry_delay(error, self._attempt, retries=self._retries, jitter=self._jitter())
        self._attempt += 1
        if delay is None or self._clock() + delay >= self._deadline:
            return None
        return delay
