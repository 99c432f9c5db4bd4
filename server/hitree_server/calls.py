"""What every door does around a call: its id and deadline, a log line, counts, one error tree."""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hitree.errors import HiTreeError, InternalError
from hitree_server import refusals
from hitree_server.logs import logger
from hitree_server.tracing import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hitree_server.metrics import Metrics

Door = Literal["grpc", "http", "embedded"]

log = logger(__name__)

LONGEST = 30 * 24 * 3600.0  # seconds that a call may take: threads cannot wait for any length

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True)
class Call:
    """One call of a method, whatever door it came through."""

    request_id: str
    deadline: float | None = None  # by `time.monotonic`, seconds; None: none
    door: Door = "embedded"
    trace: Trace = field(default_factory=Trace, compare=False)

    @classmethod
    def of(
        cls,
        door: Door,
        *,
        request_id: str = "",
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Call:
        """A call that has ``timeout`` seconds; an id that is missing or odd is replaced.

        ``headers`` may name the trace that it belongs to.
        """
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = f"{random.getrandbits(128):032x}"  # no secret, so no system call
        deadline = None if timeout is None else time.monotonic() + min(timeout, LONGEST)
        return cls(request_id, deadline, door, Trace.of(headers) if headers else Trace())

    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None where there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


@contextmanager
def observed(method: str, call: Call, metrics: Metrics) -> Iterator[None]:
    """Log and count a call; whatever is no `HiTreeError` leaves as `InternalError`."""
    began = time.perf_counter()
    outcome, error = "OK", None
    call.trace.begin(method, door=call.door, request_id=call.request_id)
    try:
        yield
    except HiTreeError as exc:
        outcome, error = exc.reason, exc
        metrics.rejected.labels(exc.reason).inc()
        raise
    except (asyncio.CancelledError, GeneratorExit):
        outcome = "CANCELLED"
        raise
    except Exception as exc:
        outcome = InternalError.reason
        metrics.rejected.labels(outcome).inc()
        raise internal_error(exc, call) from exc
    finally:
        seconds = time.perf_counter() - began
        call.trace.end(error)
        metrics.call(call.door, method, outcome, seconds)
        many = outcome in refusals.REASONS
        if many:
            metrics.refusals.add(outcome)
        tell = log.debug if many else log.info
        tell(
            "call",
            door=call.door,
            method=method,
            code=outcome,
            ms=round(seconds * 1000, 1),
            request_id=call.request_id,
        )


def internal_error(exc: Exception, call: Call) -> InternalError:
    """Log a fault of our own with its traceback; callers get the request id to ask us about."""
    log.error("fault", request_id=call.request_id, exc_info=exc)
    return InternalError(
        f"the service failed on request {call.request_id}; its log says why",
        details={"request_id": call.request_id},
    )
