"""Delivers events to readers on their event loops, and never waits for one.

A reader that is ``buffer_events`` behind has its sequence paused: it leaves the batch with its
state kept, and joins again, in its old place in the queue, once half of that is read. So a slow
reader costs its neighbours nothing and itself no point, and what is buffered stays bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Self

from hitree_server.engine.sequence import Broken, Ended, EngineEvent, Sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType

    from hitree_server.engine.step import Emission

Delivery = list[tuple["Stream", tuple[EngineEvent, ...]]]


class Stream:
    """The events of one sequence: an asynchronous iterator for one reader on one event loop.

    The last event is `Ended` or `Broken`. Leaving ``async with stream`` cancels the sequence.
    """

    def __init__(
        self,
        sequence: Sequence,
        limit: int,
        cancel: Callable[[Sequence], None],
        resume: Callable[[Sequence], None],
    ) -> None:
        self.sequence = sequence
        self.loop = asyncio.get_running_loop()
        self._cancel, self._resume = cancel, resume
        self._limit = limit
        self._events: deque[EngineEvent] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._over = False  # the terminal event was read
        self._lock = Lock()  # over the next two, which both threads change
        self._behind = 0  # events that are published and not read
        self._paused = False

    def cancel(self) -> None:
        """Give the sequence up; its rows are free at the next step. Idempotent, any thread."""
        if not self._over:
            self._cancel(self.sequence)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EngineEvent:
        await self._news()
        if not self._events:
            raise StopAsyncIteration
        event = self._events.popleft()
        self._read(1, event)
        return event

    async def group(self) -> list[EngineEvent]:
        """The events that are there, one at least; none after the last one."""
        await self._news()
        events = list(self._events)
        if events:
            self._events.clear()
            self._read(len(events), events[-1])
        return events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    def note(self, count: int) -> bool:
        """Count events that are about to be delivered; says whether to pause. Engine's thread."""
        with self._lock:
            self._behind += count
            newly = self._behind >= self._limit and not self._paused
            self._paused = self._paused or newly
            return newly

    def receive(self, events: Iterable[EngineEvent]) -> None:
        """Take delivered events. Event loop's thread."""
        self._events.extend(events)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _news(self) -> None:
        """Wait until there are events, or never will be again."""
        while not self._events and not self._over:
            self._wake = self.loop.create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def _read(self, count: int, last: EngineEvent) -> None:
        self._over = isinstance(last, Ended | Broken)
        with self._lock:
            self._behind -= count
            resumes = self._paused and self._behind <= self._limit // 2
            self._paused = self._paused and not resumes
        if resumes:
            self._resume(self.sequence)


class Streams:
    """All streams that are not over; filled by the engine's thread."""

    def __init__(self) -> None:
        self._streams: dict[Sequence, Stream] = {}
        self._first: dict[asyncio.AbstractEventLoop, Delivery] = {}  # to be sent
        self._batches: dict[asyncio.AbstractEventLoop, Delivery] = {}  # to be sent after those

    def open(self, stream: Stream) -> None:
        """Have what is published about its sequence delivered to a stream."""
        self._streams[stream.sequence] = stream

    def publish(
        self, emissions: Iterable[Emission], ahead: Collection[Sequence] = ()
    ) -> tuple[Sequence, ...]:
        """Lay out events for `send`, which serves those ``ahead`` first; says who is slow."""
        slow: list[Sequence] = []
        for emission in emissions:
            stream = self._streams[emission.sequence]
            batches = self._first if emission.sequence in ahead else self._batches
            batches.setdefault(stream.loop, []).append((stream, emission.events))
            over = isinstance(emission.events[-1], Ended | Broken)
            if stream.note(len(emission.events)) and not over:
                slow.append(emission.sequence)
            if over:
                del self._streams[emission.sequence]
        return tuple(slow)

    def send(self) -> None:
        """Wake every event loop that something was published for: once, whatever the streams.

        The engine calls this right before the device computes, when the interpreter is free: a
        reader that woke earlier would hold up the next step.
        """
        first, self._first = self._first, {}
        batches, self._batches = self._batches, {}
        for loop in first | batches:
            batch = [*first.get(loop, ()), *batches.get(loop, ())]
            try:
                loop.call_soon_threadsafe(_deliver, batch)
            except RuntimeError:  # the loop is closed: nobody will read
                for stream, _ in batch:
                    stream.cancel()


def _deliver(batch: Delivery) -> None:
    for stream, events in batch:
        stream.receive(events)
