"""What a closed client says: the same error, whatever carried its calls."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, cast

from hitree.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from google.protobuf.message import Message

    from hitree.transport import AsyncTransport, Transport
    from hitree.v1 import hitree_pb2 as pb


class _Gate:
    """Open until the client is closed."""

    def __init__(self) -> None:
        self._shut = False

    def shut(self) -> None:
        self._shut = True

    def check(self) -> None:
        if self._shut:
            raise ClientClosed(
                "the client is closed; make another one, or call before its close() and inside "
                "its with block"
            )

    @contextmanager
    def watch(self) -> Iterator[None]:
        """A call: it may not begin once the gate is shut, and what fails then failed by that."""
        self.check()
        try:
            yield
        except (Exception, asyncio.CancelledError) as exc:
            if not _is_cancelled_by_its_caller(exc):
                self.check()
            raise


def _is_cancelled_by_its_caller(exc: BaseException) -> bool:
    """Whether the task was told to stop; gRPC raises the same where its channel was closed."""
    if not isinstance(exc, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Closable:
    """A transport that refuses calls once it is closed."""

    def __init__(self, carrier: Transport) -> None:
        """Carry calls by ``carrier``, which is closed with it."""
        self._carrier = carrier
        self._gate = _Gate()

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; see `hitree.transport.Transport`."""
        with self._gate.watch():
            return self._carrier.unary(method, request, timeout=timeout)

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Generator[pb.DrawEvent]:
        """Call a streaming ``method``; it ends where the client is closed."""
        with self._gate.watch():
            source = self._carrier.stream(method, request, timeout=timeout)
            with closing(cast("Generator[pb.DrawEvent]", source)) as told:
                for event in told:
                    yield event
                    self._gate.check()

    def close(self) -> None:
        """Close the carrier; idempotent."""
        self._gate.shut()
        self._carrier.close()


class AsyncClosable:
    """The asyncio twin of `Closable`."""

    def __init__(self, carrier: AsyncTransport) -> None:
        """Carry calls by ``carrier``, which is closed with it."""
        self._carrier = carrier
        self._gate = _Gate()

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method``; see `hitree.transport.AsyncTransport`."""
        with self._gate.watch():
            return await self._carrier.unary(method, request, timeout=timeout)

    async def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncGenerator[pb.DrawEvent]:
        """Call a streaming ``method``; it ends where the client is closed."""
        with self._gate.watch():
            source = self._carrier.stream(method, request, timeout=timeout)
            async with aclosing(cast("AsyncGenerator[pb.DrawEvent]", source)) as told:
                async for event in told:
                    yield event
                    self._gate.check()

    async def close(self) -> None:
        """Close the carrier; idempotent."""
        self._gate.shut()
        await self._carrier.close()
