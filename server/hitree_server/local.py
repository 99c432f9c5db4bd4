"""The embedded transport: the same service, in this process, without a door.

One engine a process. It starts with the first call, on an event loop in a thread of its own, and
is closed at exit; transports are only views of it.
"""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from hitree.codec import ungrouped
from hitree.errors import Unavailable, Unimplemented
from hitree_server.backend import load_all
from hitree_server.calls import Call, observed
from hitree_server.metrics import Metrics
from hitree_server.service import Service
from hitree_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from concurrent.futures import Future

    from google.protobuf.message import Message

    from hitree.v1 import hitree_pb2 as pb
    from hitree_server.backend import Backend

_T = TypeVar("_T")


class Home:
    """A running service with its event loop, its thread and its engines."""

    def __init__(self, backends: Sequence[Backend], settings: Settings) -> None:
        self.metrics = Metrics()
        self.service = Service(settings, self.metrics)
        self.loop = asyncio.new_event_loop()
        self._backends = backends
        self._thread = threading.Thread(
            target=self.loop.run_forever, name="hitree-embedded", daemon=True
        )
        self.service.open(*backends)
        self._thread.start()

    def run(self, work: Coroutine[object, object, _T]) -> Future[_T]:
        """Run a coroutine on the service's loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def answer(self, method: str, request: Message, timeout: float | None) -> Message:
        """Call a method with one reply."""
        call = Call.of("embedded", timeout=timeout)
        with self._closing(), observed(method, call, self.metrics):
            answer = self.service.unary.get(method)
            if answer is None:
                raise Unimplemented(f"there is no method {method}")
            return await answer(request, call)

    async def pump(
        self,
        method: str,
        request: Message,
        timeout: float | None,
        put: Callable[[pb.DrawEvent | None], object],
    ) -> None:
        """Hand a stream's events to ``put``, and None after the last one, whatever happens."""
        call = Call.of("embedded", timeout=timeout)
        try:
            with self._closing(), observed(method, call, self.metrics):
                answer = self.service.streams.get(method)
                if answer is None:
                    raise Unimplemented(f"there is no stream {method}")
                async with aclosing(answer(request, call)) as groups:
                    async for group in groups:
                        for event in ungrouped(group):
                            put(event)
        finally:
            put(None)

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """A call that `close` cancels fails; one that its caller cancels is just over."""
        try:
            yield
        except asyncio.CancelledError:
            if self.service.ready:
                raise
            raise Unavailable("the embedded engine was closed during the call") from None

    def close(self) -> None:
        """Break off what runs and stop."""
        self.service.close()
        for backend in self._backends:
            backend.engine.stop()
        self.run(_cancel_others()).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.service.stop()


class EmbeddedTransport:
    """Two views of this process' service, blocking and asyncio."""

    def __init__(self, home: Callable[[], Home]) -> None:
        self.sync = EmbeddedSync(home)
        self.aio = EmbeddedAsync(home)


class EmbeddedSync:
    """For blocking clients, see `hitree.transport.Transport`."""

    def __init__(self, home: Callable[[], Home]) -> None:
        self._home = home

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; the time that the engine takes to start does not count."""
        home = self._home()
        future = home.run(home.answer(method, request, timeout))
        try:
            return future.result()
        finally:
            future.cancel()

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        """Call a streaming method; closing the generator cancels the drawing."""
        home = self._home()
        inbox: queue.SimpleQueue[pb.DrawEvent | None] = queue.SimpleQueue()
        future = home.run(home.pump(method, request, timeout, inbox.put))
        try:
            while (event := inbox.get()) is not None:
                yield event
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Nothing to give back: the engine is the process' and closes at exit."""


class EmbeddedAsync:
    """For asyncio clients, see `hitree.transport.AsyncTransport`."""

    def __init__(self, home: Callable[[], Home]) -> None:
        self._home = home

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; the time that the engine takes to start does not count."""
        home = await asyncio.to_thread(self._home)
        return await asyncio.wrap_future(home.run(home.answer(method, request, timeout)))

    async def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        """Call a streaming method; closing the generator cancels the drawing."""
        home = await asyncio.to_thread(self._home)
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[pb.DrawEvent | None] = asyncio.Queue()

        def put(event: pb.DrawEvent | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(inbox.put_nowait, event)

        future = home.run(home.pump(method, request, timeout, put))
        try:
            while (event := await inbox.get()) is not None:
                yield event
            await asyncio.wrap_future(future)
        finally:
            future.cancel()

    async def close(self) -> None:
        """Nothing to give back: the engine is the process' and closes at exit."""


def open_transport() -> EmbeddedTransport:
    """The transport into this process' service; the engine starts with the first call."""
    return EmbeddedTransport(_the_home)


_lock = threading.Lock()
_homes: list[Home] = []  # none or one


def _the_home() -> Home:
    """This process' home, made with the first call.

    Raises:
        HiTreeError: what `hitree_server.backend.load_all` raises; the next call tries again.
    """
    with _lock:
        if not _homes:
            settings = Settings.of()
            _homes.append(Home(load_all(settings), settings))
            atexit.register(close)
        return _homes[0]


def close() -> None:
    """Stop this process' engine, where there is one; a later call starts another."""
    with _lock:
        while _homes:
            _homes.pop().close()


async def _cancel_others() -> None:
    await asyncio.sleep(0)  # so that every call has begun and can say why it fails
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
