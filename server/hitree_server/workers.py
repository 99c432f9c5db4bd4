"""A few threads for model calls, so that none of them blocks the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from hitree.errors import Overloaded
from hitree_server.errand import Errand
from hitree_server.niceness import MODELS, give_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from hitree_server.calls import Call
    from hitree_server.metrics import Metrics

_T = TypeVar("_T")


class Workers:
    """Runs model calls; what may wait is bounded. Belongs to one event loop."""

    def __init__(self, threads: int, queue: int, metrics: Metrics, niceness: int = MODELS) -> None:
        self._pool = ThreadPoolExecutor(
            threads, "hitree-model", initializer=lambda: give_way(niceness)
        )
        self._limit = threads + queue
        self._metrics = metrics
        self._unfinished: set[Future[Any]] = set()  # Any: each model has its own result

    async def run(
        self, name: str, call: Call, work: Callable[[], _T], *, accepted: bool = False
    ) -> _T:
        """Run ``work`` in a thread; ``name`` is the model in the metrics.

        Work that has begun stops at its next look (`hitree_server.errand.go_on`) once the deadline
        has passed or the caller has gone. Work for what was ``accepted`` elsewhere, and is bounded
        there, is never refused.

        Raises:
            Overloaded: too many calls wait.
            DeadlineExceeded: the call's deadline passed first.
        """
        if len(self._unfinished) >= self._limit and not accepted:
            raise Overloaded(
                f"{len(self._unfinished)} model calls run or wait, the limit is {self._limit}; "
                "try again in a second",
                retry_after=1.0,
            )
        loop = asyncio.get_running_loop()
        errand = Errand(name, call)
        future: Future[_T] = self._pool.submit(self._timed, errand, call, work)
        self._unfinished.add(future)
        future.add_done_callback(lambda done: self._forget(loop, done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), call.remaining())
        except TimeoutError as exc:
            raise errand.late() from exc
        finally:
            errand.call_off()

    def close(self) -> None:
        """Take no more calls and drop those that wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, errand: Errand, call: Call, work: Callable[[], _T]) -> _T:
        with self._metrics.model(errand.name), call.trace.work(errand.name), errand.begun():
            return work()

    def _forget(self, loop: asyncio.AbstractEventLoop, future: Future[_T]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._unfinished.discard, future)
