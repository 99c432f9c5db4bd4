"""A real decoder's drawing over a line that breaks again and again is the drawing it would be."""

from __future__ import annotations

from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bundles import tiny_bundle
from end_to_end.threads import inside
from hitree import events
from hitree.errors import Unavailable
from hitree_sdk import AsyncClient, Client
from hitree_sdk._config import resolve
from hitree_sdk._transport import connect, connect_async
from hitree_server.backend import load
from hitree_server.local import EmbeddedSync, Home
from hitree_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from google.protobuf.message import Message

    from end_to_end.threads import Inside
    from hitree.transport import AsyncTransport, Transport
    from hitree.v1 import hitree_pb2 as pb

PROMPTS = ("draw a flamingo", "draw a cat", "draw a snail")


class Breaking:
    """Breaks every stream off after ``every`` events, until ``times`` have broken."""

    def __init__(self, whole: Transport, every: int, times: int) -> None:
        self._whole, self._every, self.left = whole, every, times

    def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        return self._whole.unary(method, request, timeout=timeout)

    def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> Iterator[pb.DrawEvent]:
        with closing(self._whole.stream(method, request, timeout=timeout)) as events:
            for number, event in enumerate(events):
                if self.left and number >= self._every:
                    self.left -= 1
                    raise Unavailable("the line broke")
                yield event

    def close(self) -> None:
        self._whole.close()


class AsyncBreaking:
    """Breaks the first stream off after ``first`` events."""

    def __init__(self, whole: AsyncTransport, first: int) -> None:
        self._whole, self._first, self.left = whole, first, 1

    async def unary(self, method: str, request: Message, *, timeout: float | None) -> Message:
        return await self._whole.unary(method, request, timeout=timeout)

    async def stream(
        self, method: str, request: Message, *, timeout: float | None
    ) -> AsyncIterator[pb.DrawEvent]:
        number = 0
        async with aclosing(self._whole.stream(method, request, timeout=timeout)) as told:
            async for event in told:
                if self.left and number == self._first:
                    self.left = 0
                    raise Unavailable("the line broke")
                number += 1
                yield event

    async def close(self) -> None:
        await self._whole.close()


def told(stream: list[events.DrawEvent]) -> list[tuple[Any, ...]]:
    """What a stream tells, whatever points came together and how long it took."""
    parts: list[tuple[Any, ...]] = []
    for event in stream:
        match event:
            case events.Points():
                points = zip(event.points.tolist(), event.t_ms, strict=True)
                parts += [(*point, at, event.stroke, event.node) for point, at in points]
            case events.Started():
                parts.append((event.kind, event.seed, event.model_version))
            case events.Finished():
                parts.append((event.kind, event.reason, event.strokes, event.points))
            case _:
                parts.append((event,))
    return parts


@pytest.fixture(scope="module")
def service() -> Iterator[Inside]:
    with inside() as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(service: Inside, request: pytest.FixtureRequest) -> str:
    return service.http if request.param == "http" else f"grpc://{service.grpc}"


def test_whatever_event_it_breaks_after_each_is_told_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitree_sdk._stream.sleep", lambda _: None)
    with closing(connect(resolve(url))) as line, Client(url) as client:
        plan = client.plan("draw a flamingo", seed=3)
        whole = list(client.draw(plan, seed=7, max_points=60))
        for first in range(len(whole)):
            breaking = Breaking(line, first, times=1)
            again = list(Client(transport=breaking).draw(plan, seed=7, max_points=60))
            assert told(again) == told(whole), first


async def test_whatever_event_it_breaks_after_each_is_told_once_to_asyncio(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nap(_: float) -> None:
        pass

    monkeypatch.setattr("hitree_sdk._stream.asleep", nap)
    line = connect_async(resolve(url))
    async with AsyncClient(url) as client:
        plan = await client.plan("draw a flamingo", seed=3)
        whole = [event async for event in client.draw(plan, seed=7, max_points=60)]
        for first in range(len(whole)):
            breaking = AsyncBreaking(line, first)
            stream = AsyncClient(transport=breaking).draw(plan, seed=7, max_points=60)
            assert told([event async for event in stream]) == told(whole), first
    await line.close()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    settings = Settings(bundle=tiny_bundle().path, provider="cpu")
    other = load(settings.model_copy(update={"precision": "fp32"}))  # draws something else
    other = replace(other, manifest=replace(other.manifest, version="2"))
    made = Home([load(settings), other], settings)
    yield made
    made.close()


@pytest.mark.parametrize("canvas", [None, [[[40, 40], [90, 60]], [[100, 100]]]])
@pytest.mark.parametrize(("every", "bundle"), [(3, None), (5, None), (8, None), (5, "@2")])
def test_a_line_that_breaks_changes_nothing(
    home: Home,
    every: int,
    bundle: str | None,
    canvas: list[list[list[int]]] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hitree_sdk._stream.sleep", lambda _: None)
    whole = EmbeddedSync(lambda: home)
    for seed, prompt in enumerate(PROMPTS):
        client = Client(transport=whole, bundle=bundle)
        expected = client.draw(prompt, seed=seed, canvas=canvas).result()
        line = Breaking(whole, every, times=9)
        client = Client(transport=line, retries=10, bundle=bundle)
        sketch = client.draw(prompt, seed=seed, canvas=canvas).result()
        assert line.left < 9
        assert sketch.plan == expected.plan
        assert len(sketch.strokes) == len(expected.strokes)
        for got, drawn in zip(sketch.strokes, expected.strokes, strict=True):
            assert np.asarray(got).tobytes() == np.asarray(drawn).tobytes()
