"""Drawings that broke off, taken up over both doors: no point missing, none twice."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from hitree.codec import ungrouped
from hitree.errors import HiTreeError, InvalidInput
from hitree.v1 import hitree_pb2 as pb
from hitree_server import sse
from hitree_server.calls import Call
from hitree_server.sse import EventStream
from server.conftest import LEAF

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from hitree_server.service import Service
    from server.conftest import Serving

CALL = Call.of("embedded")
# As many points as a leaf of the fake decoder, which counts them all.
CANVAS = pb.Drawing(strokes=[pb.Stroke(xs=range(200, 200 + LEAF), ys=range(200, 200 + LEAF))])
ASK = pb.DrawRequest(prompt="draw a cat", seed=3, temperature=0.5)


async def drawn(service: Service, request: pb.DrawRequest) -> list[pb.DrawEvent]:
    return [event async for group in service.draw(request, CALL) for event in ungrouped(group)]


def points(told: list[pb.DrawEvent]) -> list[tuple[int, int, int, int, int]]:
    """All points: x, y, time, stroke, node."""
    made = [event.points for event in told if event.HasField("points")]
    return [
        (x, y, t, p.stroke, p.node)
        for p in made
        for x, y, t in zip(p.xs, p.ys, p.t_ms, strict=True)
    ]


def received(told: list[pb.DrawEvent], count: int) -> pb.DrawRequest:
    """The request of a client that got ``count`` events."""
    resume, started, plan = pb.Resume(), told[0].started, told[1].plan
    strokes: dict[int, pb.Stroke] = {}
    for event in told[:count]:
        if event.HasField("points"):
            stroke = strokes.setdefault(event.points.stroke, pb.Stroke())
            if not stroke.xs:
                resume.nodes.append(event.points.node)
            stroke.xs.extend(event.points.xs)
            stroke.ys.extend(event.points.ys)
        resume.last_stroke_finished = event.HasField("stroke_finished") or (
            resume.last_stroke_finished and not event.HasField("points")
        )
    resume.strokes.extend(strokes.values())
    return pb.DrawRequest(plan=plan, seed=started.seed, temperature=0.5, resume=resume)


def kinds(told: list[pb.DrawEvent]) -> list[tuple[str, int]]:
    """What was told beside points, after the head."""
    named = [(event.WhichOneof("event"), event) for event in told]
    return [
        (kind, getattr(getattr(event, kind), "stroke", getattr(getattr(event, kind), "node", 0)))
        for kind, event in named
        if kind not in ("started", "plan", "points", "finished")
    ]


@pytest.mark.parametrize("canvas", [None, CANVAS])
async def test_after_every_event_the_rest_is_drawn(
    service: Service, canvas: pb.Drawing | None
) -> None:
    request = pb.DrawRequest(prompt="draw a cat", seed=3, temperature=0.5, canvas=canvas)
    whole = await drawn(service, request)
    assert len(points(whole)) == 30
    for count in range(2, len(whole) + 1):
        asked = received(whole, count)
        if canvas:
            asked.canvas.CopyFrom(canvas)
        rest = await drawn(service, asked)
        have = points(whole[:count])
        assert points(rest) == points(whole)[len(have) :], count
        assert [event.WhichOneof("event") for event in rest[:2]] == ["started", "plan"]
        assert rest[1].plan == whole[1].plan
        assert rest[-1].finished.points == whole[-1].finished.points == 30
        assert rest[-1].finished.strokes == whole[-1].finished.strokes
        # Nodes may be told of again, and nothing else is.
        told = kinds(rest)
        expected = kinds(whole)[-len(told) :]
        assert [one for one in told if one[0] == "stroke_finished"] == [
            one for one in kinds(whole[count:]) if one[0] == "stroke_finished"
        ]
        assert told == expected or told[1:] == expected[1:]


async def test_a_client_that_kept_nothing_says_how_far_it_was(service: Service) -> None:
    whole = await drawn(service, ASK)
    for count in range(1, len(whole)):
        have = points(whole[:count])
        strokes = sum(event.HasField("stroke_finished") for event in whole[:count])
        asked = pb.DrawRequest(
            prompt="draw a cat", seed=3, temperature=0.5,
            resume={"points": len(have), "finished_strokes": strokes},
        )  # fmt: skip
        rest = await drawn(service, asked)
        assert points(rest) == points(whole)[len(have) :]
        over = [e.stroke_finished.stroke for e in rest if e.HasField("stroke_finished")]
        assert over == list(range(strokes, 6))


async def test_the_chosen_candidate_is_gone_on_with(service: Service) -> None:
    asked = pb.DrawRequest(prompt="draw a cat", seed=3, candidates=4)
    whole = await drawn(service, asked)
    asked.resume.points, asked.resume.candidate = 7, whole[0].started.candidate
    rest = await drawn(service, asked)
    assert points(rest) == points(whole)[7:]
    assert rest[0].started.candidate == whole[0].started.candidate


@pytest.mark.parametrize(
    "changed",
    [
        {"nodes": [1]},
        {"nodes": [1, 1, 9]},
        {"nodes": [2, 1, 1]},
        {"nodes": [1, 3, 3]},
        {"strokes": [pb.Stroke(xs=[1, 2], ys=[1])]},
        {"strokes": [pb.Stroke(xs=[10**6] * 2, ys=[1, 1])]},
        {"strokes": [pb.Stroke(xs=[1] * 2100, ys=[1] * 2100)]},
        {"strokes": [pb.Stroke(xs=[1], ys=[1])] * 3000},
    ],
)
async def test_what_cannot_have_been_received_is_refused(
    service: Service, changed: dict[str, Any]
) -> None:
    whole = await drawn(service, ASK)
    asked = received(whole, len(whole) // 2)
    assert len(asked.resume.strokes) == 3
    for name, value in changed.items():
        asked.resume.ClearField(name)
        getattr(asked.resume, name).extend(value)
    with pytest.raises(HiTreeError) as caught:
        await drawn(service, asked)
    assert caught.value.grpc_code == "INVALID_ARGUMENT"


async def test_strokes_need_their_plan(service: Service) -> None:
    asked = received(await drawn(service, ASK), 8)
    asked.prompt = "draw a cat"
    with pytest.raises(InvalidInput, match="needs their plan"):
        await drawn(service, asked)


def blocks(text: str) -> list[tuple[str, Any]]:
    """The ids and data of server-sent events."""
    lines = [block.splitlines() for block in text.strip().split("\n\n")]
    return [(b[0].removeprefix("id: "), json.loads(b[2].removeprefix("data: "))) for b in lines]


def positions(told: list[tuple[str, Any]]) -> list[list[float]]:
    """All points of events."""
    made = [event["points"] for _, event in told if event["kind"] == "points"]
    return [point for some in made for point in some]


async def test_over_http_the_last_id_is_enough(server: Serving) -> None:
    body = {"prompt": "draw a cat", "seed": 3}
    whole = blocks((await server.http.post("/v1/draw", json=body)).text)
    made = positions(whole)
    for have in range(len(whole) - 1):
        headers = {"last-event-id": whole[have][0]}
        rest = blocks((await server.http.post("/v1/draw", json=body, headers=headers)).text)
        assert positions(whole[: have + 1]) + positions(rest) == made
        assert rest[-1][0] == whole[-1][0]


@pytest.mark.parametrize("sent", ["7", "1-2", "1-2-x", "9999999-0-0", "1-1-99", "3-4-0"])
async def test_an_id_that_is_none_of_ours_is_refused(server: Serving, sent: str) -> None:
    body = {"prompt": "draw a cat", "seed": 3}
    reply = await server.http.post("/v1/draw", json=body, headers={"last-event-id": sent})
    assert reply.status_code == 400
    assert reply.json()["error"]["reason"] == "INVALID_INPUT"


class Client:
    """Takes what an application sends."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.news = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.heard.append(message.get("body", b"head"))
        self.news.set()

    async def until(self, beats: int) -> None:
        """Wait for heartbeats."""
        while self.heard.count(sse.HEARTBEAT) < beats:
            self.news.clear()
            await self.news.wait()


async def test_silence_is_filled_with_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()

    async def slow() -> AsyncGenerator[bytes]:
        await client.until(beats=3)
        yield b"two"

    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.001)
    async with asyncio.timeout(20):
        await EventStream(b"one", slow(), {}).stream_response(client.send)
    assert client.heard[:2] == [b"head", b"one"]
    assert client.heard[-2:] == [b"two", b""]
    assert set(client.heard[2:-2]) == {sse.HEARTBEAT}


async def test_leaving_during_silence_closes_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    client, closed = Client(), []

    async def silent() -> AsyncGenerator[bytes]:
        try:
            yield b"two"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.001)
    sending = asyncio.create_task(EventStream(b"one", silent(), {}).stream_response(client.send))
    await client.until(beats=1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert closed == [True]
    assert asyncio.all_tasks() == {asyncio.current_task()}
