"""What carries a call: a gRPC channel, an HTTP connection or the engine in this process.

Transports speak the messages of ``hitree.v1``. They raise `hitree.errors.HiTreeError` only, and a
stream ends after its ``finished`` event; a bare end before it is an error. The server registers
its in-process transport under the entry point group ``hitree.transport`` with the name
``embedded``, and the SDK looks it up there: neither imports the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from google.protobuf.message import Message

    from hitree.v1 import hitree_pb2 as pb

ENTRY_POINT_GROUP = "hitree.transport"
EMBEDDED = "embedded"


class Transport(Protocol):
    """Carries calls for blocking clients."""

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method`` ("Plan", "Annotate", …) and return its reply.

        ``timeout`` is in seconds and becomes the deadline of the call.
        """
        ...

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        """Call a streaming method; closing the iterator (a generator) cancels the call."""
        ...

    def close(self) -> None:
        """Give back what the transport holds; idempotent."""
        ...


class AsyncTransport(Protocol):
    """Carries calls for asyncio clients."""

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        """Call ``method`` and return its reply; ``timeout`` in seconds."""
        ...

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        """Call a streaming method; closing the iterator (an async generator) cancels it."""
        ...

    async def close(self) -> None:
        """Give back what the transport holds; idempotent."""
        ...
