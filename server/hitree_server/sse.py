"""Server-sent events: frames with ids to resume from, and a heartbeat while nothing comes.

An event's id says how far the drawing has been sent. A client that sends the same request again,
with its seed and the id in ``Last-Event-ID``, gets what it lacks.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from starlette.responses import StreamingResponse

from hitree.codec import to_json
from hitree.errors import InvalidInput
from hitree.v1 import hitree_pb2 as pb
from hitree_server.openapi import LAST_EVENT_ID
from hitree_server.resume import received

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from google.protobuf.message import Message
    from starlette.types import Send

HEARTBEAT_SECONDS = 15.0  # of silence, after which a comment tells proxies that the stream lives
HEARTBEAT = b": still drawing\n\n"

_encode = json.JSONEncoder(separators=(",", ":")).encode
_EVENT_ID = re.compile(r"(\d{1,6})-(\d{1,6})-(\d{1,6})")


class EventStream(StreamingResponse):
    """Server-sent events; a client that leaves closes the events' source at once."""

    media_type = "text/event-stream"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], headers: dict[str, str]) -> None:
        super().__init__(rest, headers={"cache-control": "no-store", **headers})
        self._first = first
        self._rest = rest

    async def stream_response(self, send: Send) -> None:
        """Send the first event with the headers, then the rest."""
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(self._rest), beating(send) as tell:
            await send(head)
            await tell(self._first)
            async for chunk in self._rest:
                await tell(chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def beating(
    send: Send, seconds: float | None = None
) -> AsyncGenerator[Callable[[bytes], Awaitable[None]]]:
    """What sends chunks of a body; after so many ``seconds`` of silence a heartbeat goes out."""
    seconds = HEARTBEAT_SECONDS if seconds is None else seconds
    clock = asyncio.get_running_loop().time
    told = clock()

    async def tell(chunk: bytes) -> None:
        nonlocal told
        told = clock()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def beat() -> None:
        while True:
            await asyncio.sleep(told + seconds - clock())
            if clock() >= told + seconds:
                await tell(HEARTBEAT)

    heart = asyncio.create_task(beat())
    try:
        yield tell
    finally:
        heart.cancel()


@dataclass
class Place:
    """How far a drawing has been sent: the id of its events."""

    points: int
    strokes: int  # finished ones
    candidate: int

    @classmethod
    def of(cls, message: Message, last_event: str | None) -> Self:
        """Where a drawing is begun: at its beginning, or where the client lost it.

        ``last_event`` is the id that a client sent; it is written into the message.

        Raises:
            InvalidInput: it is no id of ours.
        """
        if not isinstance(message, pb.DrawRequest):
            return cls(0, 0, 0)
        held = message.resume
        if last_event is not None:
            found = _EVENT_ID.fullmatch(last_event)
            if found is None:
                raise InvalidInput(
                    f"the header {LAST_EVENT_ID} is {last_event!r}; send the id of the last event"
                )
            held.points, held.finished_strokes, held.candidate = map(int, found.groups())
        return cls(*received(held), held.candidate)

    def after(self, event: pb.DrawEvent) -> Self:
        """Count what an event brings."""
        self.points += len(event.points.xs)
        self.strokes += event.HasField("stroke_finished")
        if event.HasField("started"):
            self.candidate = event.started.candidate
        return self

    def __str__(self) -> str:
        return f"{self.points}-{self.strokes}-{self.candidate}"


def framed(event: pb.DrawEvent, place: Place) -> bytes:
    body = to_json(event)
    return f"id: {place}\nevent: {body['kind']}\ndata: {_encode(body)}\n\n".encode()
