"""Clients of the SDK that draw at the same time, and what each of them saw.

Every client draws one long drawing of a seed of its own, so that it can be compared, point by
point, with the same drawing made in peace.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, cast

from hitree.errors import HiTreeError
from hitree.events import Points
from hitree.tree import Node, Plan, build
from hitree_sdk import AsyncClient
from hitree_sdk._config import Config
from hitree_sdk._grpc import AsyncGrpcTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    import numpy as np
    from google.protobuf.message import Message
    from numpy.typing import NDArray

    from hitree.v1 import hitree_pb2 as pb

PARTS = ("a head", "two ears", "a body", "four legs", "a tail", "two eyes", "a nose", "whiskers")
LEAVES = 60  # more than the points of any drawing here can fill
PATIENCE = 120.0  # seconds for a drawing, whatever befalls it
RETRIES = 10
CALLS = 10  # that go before the drawings
CONNECT_SECONDS = 0.5  # that they take

Placed = tuple[int, float, float]  # a point, and the index of its stroke


@dataclass
class Seen:
    """What one client saw of its drawing."""

    seed: int
    code: str = ""  # "OK", or the reason of the error that it ended with
    points: list[Placed] = field(default_factory=list)
    resumed: int = 0  # how often it was taken up
    silence: float = 0.0  # longest time between two events, seconds
    ended: float = 0.0  # by `time.monotonic`


@dataclass(frozen=True)
class Difference:
    """A drawing against the one that was made in peace."""

    lost: int  # points that are missing
    doubled: int  # points that are there and should not be


class Noting:
    """The SDK's own transport, to one of several replicas, which notes what is taken up."""

    def __init__(self, addresses: Iterable[str]) -> None:
        target = f"ipv4:{','.join(addresses)}"
        self._carrier = AsyncGrpcTransport(Config("grpc", target, PATIENCE, RETRIES))
        self.resumed: Counter[int] = Counter()  # by seed
        self.errors: Counter[str] = Counter()  # that streams broke with, by reason

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        return await self._carrier.unary(method, request, timeout=timeout)

    async def stream(
        self, method: str, request: pb.DrawRequest, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        self.resumed[request.seed] += request.HasField("resume")
        source = self._carrier.stream(method, request, timeout=timeout)
        try:
            async with aclosing(cast("AsyncGenerator[pb.DrawEvent]", source)) as events:
                async for event in events:
                    if event.HasField("error"):
                        self.errors[event.error.reason] += 1
                    yield event
        except HiTreeError as exc:
            self.errors[exc.reason] += 1
            raise

    async def close(self) -> None:
        await self._carrier.close()


class Crowd:
    """Clients that draw at the same time, over one connection to each of the replicas."""

    def __init__(self, addresses: Iterable[str], seeds: Iterable[int], points: int) -> None:
        self.carrier = Noting(addresses)
        self._client = AsyncClient(transport=self.carrier, retries=RETRIES, timeout=PATIENCE)
        self._points = points
        self._seen = [Seen(seed) for seed in seeds]
        self._drawing = asyncio.Event()  # all have points
        self._begun = 0
        self._connected = asyncio.create_task(self._connect())
        self._tasks = [asyncio.create_task(self._draw(seen)) for seen in self._seen]

    async def drawing(self) -> None:
        """Return once every client has points."""
        await self._drawing.wait()

    async def seen(self) -> list[Seen]:
        """What all saw, when all is over."""
        await asyncio.gather(*self._tasks)
        await self._client.close()
        for seen in self._seen:
            seen.resumed = self.carrier.resumed[seen.seed]
        return self._seen

    async def _connect(self) -> None:
        """Call until every replica has had the time to be connected to: then they take turns."""
        for _ in range(CALLS):
            await self._client.model_info()
            await asyncio.sleep(CONNECT_SECONDS / CALLS)

    async def _draw(self, seen: Seen) -> None:
        await self._connected
        last: float | None = None
        try:
            async with self._client.draw(PLAN, seed=seen.seed, max_points=self._points) as stream:
                async for event in stream:
                    now = time.monotonic()
                    seen.silence, last = max(seen.silence, now - (last or now)), now
                    if isinstance(event, Points):
                        self._count(seen)
                        seen.points += placed(event.points, event.stroke)
            seen.code = "OK"
        except HiTreeError as exc:
            seen.code = exc.reason
        self._count(seen)  # whoever was refused must not keep the others waiting
        seen.ended = time.monotonic()

    def _count(self, seen: Seen) -> None:
        if not seen.points:
            self._begun += 1
            if self._begun == len(self._seen):
                self._drawing.set()


async def draw_all(addresses: Iterable[str], seeds: Iterable[int], points: int) -> list[Seen]:
    """Have drawings made in peace."""
    return await Crowd(addresses, seeds, points).seen()


def placed(points: NDArray[np.float32], stroke: int) -> list[Placed]:
    return [(stroke, float(x), float(y)) for x, y in points]


def difference(seen: Seen, whole: Seen) -> Difference:
    """What is missing of a drawing, and what is there twice or should not be there."""
    if seen.points == whole.points:
        return Difference(0, 0)
    matcher = SequenceMatcher(None, whole.points, seen.points, autojunk=False)
    same = sum(block.size for block in matcher.get_matching_blocks())
    return Difference(len(whole.points) - same, len(seen.points) - same)


def _plan() -> Plan:
    texts = [f"add {PARTS[index % len(PARTS)]}" for index in range(LEAVES)]
    root = Node(0, None, "draw a cat")
    leaves = [Node(index, 0, text) for index, text in enumerate(texts, 1)]
    return Plan(build([root, *leaves]), subject="cat")


PLAN = _plan()
