"""Fakes at the SDK's seams, one face for both twins, and a drawing to stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import hitree_sdk
from hitree import codec, events
from hitree.tree import Node, Plan, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from google.protobuf.message import Message

    from hitree.v1 import hitree_pb2 as pb

PLAN = Plan(
    build(
        [
            Node(0, None, "draw a flamingo"),
            Node(1, 0, "add the body", score=-0.5),
            Node(2, 0, "add two legs", score=-1.25),
        ]
    ),
    subject="flamingo",
    confidence=0.75,
    prompt="draw a flamingo",
)
STROKES = [
    np.array([[10, 20], [30.25, 40.5], [50, 60]], np.float32),
    np.array([[70, 80], [90, 100]], np.float32),
    np.array([[128, 128]], np.float32),
]


def drawing_events() -> list[events.DrawEvent]:
    """A whole drawing: `PLAN` drawn with `STROKES`, two for the body and one for the legs."""
    return [
        events.Started("r-1", "flamingo", 7, "1.0"),
        events.PlanMade(PLAN),
        events.NodeStarted(1, "add the body"),
        events.Points(STROKES[0][:2], (16, 32), 0, 1),
        events.Points(STROKES[0][2:], (48,), 0, 1),
        events.StrokeFinished(0, 1),
        events.Points(STROKES[1], (64, 80), 1, 1),
        events.StrokeFinished(1, 1),
        events.NodeFinished(1, 0, 2),
        events.NodeStarted(2, "add two legs"),
        events.Points(STROKES[2], (96,), 2, 2),
        events.StrokeFinished(2, 2),
        events.NodeFinished(2, 2, 3),
        events.Finished("complete", 3, 6, events.Timings(1, 2, 3)),
    ]


def wired(made: list[events.DrawEvent]) -> list[pb.DrawEvent]:
    """Events as messages of a stream."""
    return [codec.event_to_wire(event, index) for index, event in enumerate(made)]


@dataclass
class Script:
    """What a fake transport answers, call by call, and what it was asked."""

    answers: list[Any]  # a reply, an error, or for streams a list of messages and errors
    calls: list[tuple[str, Message, float | None]] = field(default_factory=list)
    cancelled: int = 0  # streams that were closed before their end
    closed: int = 0

    def next(self, method: str, request: Message, timeout: float | None) -> Any:
        self.calls.append((method, request, timeout))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeTransport:
    def __init__(self, script: Script) -> None:
        self.script = script

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        return self.script.next(method, request, timeout)

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        try:
            for item in self.script.next(method, request, timeout):
                if isinstance(item, Exception):
                    raise item
                yield item
        except GeneratorExit:
            self.script.cancelled += 1
            raise

    def close(self) -> None:
        self.script.closed += 1


class AsyncFakeTransport:
    def __init__(self, script: Script) -> None:
        self.script = script

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        return self.script.next(method, request, timeout)

    async def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        try:
            for item in self.script.next(method, request, timeout):
                if isinstance(item, Exception):
                    raise item
                yield item
        except GeneratorExit:
            self.script.cancelled += 1
            raise

    async def close(self) -> None:
        self.script.closed += 1


def ignore(_: Any) -> None:
    """Do nothing with an event."""


class SyncTwin:
    """`Client` behind the face that tests use."""

    def client(self, script: Script, **options: Any) -> hitree_sdk.Client:
        return hitree_sdk.Client("embedded", transport=FakeTransport(script), **options)

    def connect(self, url: str, **options: Any) -> hitree_sdk.Client:
        return hitree_sdk.Client(url, **options)

    async def call(self, owner: Any, name: str, *args: Any, **options: Any) -> Any:
        return getattr(owner, name)(*args, **options)

    async def events(
        self, stream: Any, leave_after: int | None = None, told: Callable[[Any], None] = ignore
    ) -> list[Any]:
        """The events of a ``with`` block that is left after ``leave_after`` of them.

        ``told`` gets each as it comes.
        """
        seen: list[Any] = []
        with stream as entered:
            for event in entered:
                seen.append(event)
                told(event)
                if len(seen) == leave_after:
                    break
        return seen


class AsyncTwin:
    """`AsyncClient` behind the same face."""

    def client(self, script: Script, **options: Any) -> hitree_sdk.AsyncClient:
        return hitree_sdk.AsyncClient("embedded", transport=AsyncFakeTransport(script), **options)

    def connect(self, url: str, **options: Any) -> hitree_sdk.AsyncClient:
        return hitree_sdk.AsyncClient(url, **options)

    async def call(self, owner: Any, name: str, *args: Any, **options: Any) -> Any:
        return await getattr(owner, name)(*args, **options)

    async def events(
        self, stream: Any, leave_after: int | None = None, told: Callable[[Any], None] = ignore
    ) -> list[Any]:
        seen: list[Any] = []
        async with stream as entered:
            async for event in entered:
                seen.append(event)
                told(event)
                if len(seen) == leave_after:
                    break
        return seen
