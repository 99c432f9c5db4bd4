"""The stream of a drawing: iterate over its events, or ask for the whole."""

from __future__ import annotations

from asyncio import sleep as asleep
from contextlib import aclosing, closing, suppress
from time import sleep
from typing import TYPE_CHECKING, Self, cast

from hitree.errors import HiTreeError
from hitree_sdk._assembly import Assembly

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from hitree.events import DrawEvent
    from hitree.transport import AsyncTransport, Transport
    from hitree.v1 import hitree_pb2 as pb
    from hitree_sdk._retry import Attempts
    from hitree_sdk._sketch import Sketch


class DrawStream:
    """A drawing while it is made: a context manager and an iterator of `hitree.events`.

    The call begins with the first event that is asked for. Leaving the ``with`` block before the
    ``finished`` event cancels it. An ``error`` event is raised as its typed error, and a stream
    that ends without its last event is broken off. What broke off in passing is taken up where
    it stopped, by whichever replica answers: no event is missing and none comes twice.
    """

    def __init__(
        self, transport: Transport, request: pb.DrawRequest, attempts: Callable[[], Attempts]
    ) -> None:
        """Prepare the call; `Client.draw` does this."""
        self._transport = transport
        self._request = request
        self._assembly = Assembly(request.canvas)
        self._events = self._run(attempts)

    def __enter__(self) -> Self:
        """The stream itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what is not finished."""
        self.close()

    def __iter__(self) -> Self:
        """The stream itself."""
        return self

    def __next__(self) -> DrawEvent:
        """The next event.

        Raises:
            HiTreeError: the call failed or the drawing broke off.
        """
        return next(self._events)

    def close(self) -> None:
        """Cancel the call if the drawing is not finished; idempotent."""
        self._events.close()

    def result(self) -> Sketch:
        """Consume what is left and return the whole drawing, its plan with spans.

        Raises:
            Cancelled: the stream was left early; ``partial`` is the `Sketch` so far.
            HiTreeError: the call failed or the drawing broke off; each time the same error.
        """
        for _ in self._events:
            pass
        return self._assembly.result()

    def _run(self, make_attempts: Callable[[], Attempts]) -> Generator[DrawEvent]:
        attempts = make_attempts()  # here, so that the clock starts with the call
        while True:
            try:
                yield from self._try(attempts.left())
                return
            except HiTreeError as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    self._assembly.fail(error)
                    raise
            sleep(delay)

    def _try(self, timeout: float) -> Generator[DrawEvent]:
        request = self._assembly.rest(self._request)
        source = self._transport.stream("Draw", request, timeout=timeout)
        # Transports return generators (see hitree.transport): closing one cancels its call.
        with closing(cast("Generator[pb.DrawEvent]", source)) as messages:
            for message in messages:
                event = self._assembly.take(message)
                if self._assembly.finished:
                    with suppress(HiTreeError):  # nothing can spoil a finished drawing
                        next(messages, None)  # the call's own end, else closing cancels it
                if event is not None:
                    yield event
        self._assembly.end()


class AsyncDrawStream:
    """The asyncio twin of `DrawStream`: ``async with``, ``async for``, ``await .result()``."""

    def __init__(
        self, transport: AsyncTransport, request: pb.DrawRequest, attempts: Callable[[], Attempts]
    ) -> None:
        """Prepare the call; `AsyncClient.draw` does this."""
        self._transport = transport
        self._request = request
        self._assembly = Assembly(request.canvas)
        self._events = self._run(attempts)

    async def __aenter__(self) -> Self:
        """The stream itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what is not finished."""
        await self.close()

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> DrawEvent:
        """The next event.

        Raises:
            HiTreeError: the call failed or the drawing broke off.
        """
        return await anext(self._events)

    async def close(self) -> None:
        """Cancel the call if the drawing is not finished; idempotent."""
        await self._events.aclose()

    async def result(self) -> Sketch:
        """Consume what is left and return the whole drawing, its plan with spans.

        Raises:
            Cancelled: the stream was left early; ``partial`` is the `Sketch` so far.
            HiTreeError: the call failed or the drawing broke off; each time the same error.
        """
        async for _ in self._events:
            pass
        return self._assembly.result()

    async def _run(self, make_attempts: Callable[[], Attempts]) -> AsyncGenerator[DrawEvent]:
        attempts = make_attempts()  # here, so that the clock starts with the call
        while True:
            try:
                async with aclosing(self._try(attempts.left())) as tried:
                    async for event in tried:
                        yield event
                return
            except HiTreeError as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    self._assembly.fail(error)
                    raise
            await asleep(delay)

    async def _try(self, timeout: float) -> AsyncGenerator[DrawEvent]:
        request = self._assembly.rest(self._request)
        source = self._transport.stream("Draw", request, timeout=timeout)
        # Transports return generators (see hitree.transport): closing one cancels its call.
        async with aclosing(cast("AsyncGenerator[pb.DrawEvent]", source)) as messages:
            async for message in messages:
                event = self._assembly.take(message)
                if self._assembly.finished:
                    with suppress(HiTreeError):  # nothing can spoil a finished drawing
                        await anext(messages, None)  # the call's own end, else closing cancels it
                if event is not None:
                    yield event
        self._assembly.end()
