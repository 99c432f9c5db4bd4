"""Both HTTP transports against a fake network."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse
import numpy as np
import pytest

from hitree import codec, errors
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import AsyncClient, Client, _http
from hitree_sdk._config import resolve
from sdk.fakes import PLAN, STROKES, AsyncTwin, SyncTwin, drawing_events, wired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    Twin = SyncTwin | AsyncTwin
    Handler = Callable[[httpx.Request], httpx.Response]

EVENT_STREAM = {"content-type": "text/event-stream"}


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in pieces and notes that it was hung up on."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.sent = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.sent += 1
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def connect(twin: Twin, handler: Handler, **options: Any) -> Client | AsyncClient:
    """A client over HTTP whose network is ``handler``."""
    config = resolve("http://draw.example:3000/sketches", **options)
    wire = httpx.MockTransport(handler)
    told: Any = {"retries": 0, "bundle": options.get("bundle")}
    if isinstance(twin, SyncTwin):
        return Client("embedded", transport=_http.HttpTransport(config, wire=wire), **told)
    transport = _http.AsyncHttpTransport(config, wire=wire)
    return AsyncClient("embedded", transport=transport, **told)


def framed(messages: list[pb.DrawEvent]) -> list[bytes]:
    """Messages as the service sends them, with a comment that keeps the line open."""
    frames = [f"id: {m.index}\ndata: {json.dumps(codec.to_json(m))}\n\n" for m in messages]
    return [b": still here\n\n", *map(str.encode, frames)]


def stream_of(body: Body) -> Handler:
    return lambda _: httpx.Response(200, headers=EVENT_STREAM, stream=body)


async def test_a_plan_with_key_and_deadline(twin: Twin) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        reply = codec.to_json(pb.PlanResponse(plan=codec.plan_to_wire(PLAN)))
        return httpx.Response(200, json={**reply, "of_a_newer_service": 1})

    client = connect(twin, answer, api_key="secret")
    plan = await twin.call(client, "plan", "draw a flamingo", seed=2**64 - 1, timeout=20)
    assert plan == PLAN
    request = seen[0]
    assert str(request.url) == "http://draw.example:3000/sketches/v1/plan"
    assert request.headers["authorization"] == "Bearer secret"
    assert 15_000 < int(request.headers["x-hitree-timeout-ms"]) <= 20_000
    asked = codec.from_json(json.loads(request.content), pb.PlanRequest)
    assert (asked.prompt, asked.seed) == ("draw a flamingo", 2**64 - 1)
    await twin.call(client, "close")


async def test_what_is_only_read_is_got(twin: Twin) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.content) == ("GET", b"")
        if request.url.path.endswith("/v1/subjects"):
            return httpx.Response(200, json={"subjects": ["cat"]})
        return httpx.Response(200, json={"version": "1.0"})

    client = connect(twin, answer)
    assert await twin.call(client, "subjects") == ["cat"]
    assert (await twin.call(client, "model_info")).version == "1.0"
    await twin.call(client, "close")


async def test_what_is_read_is_of_the_chosen_bundle(twin: Twin) -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, json={})

    for bundle in ("birds@2+ab", "@2+ab"):
        client = connect(twin, answer, bundle=bundle)
        await twin.call(client, "subjects")
        await twin.call(client, "model_info")
        await twin.call(client, "close")
    version = {"bundle.version": "2+ab"}
    assert asked == [{"bundle.name": "birds", **version}] * 2 + [version] * 2


async def test_a_drawing(twin: Twin) -> None:
    body = Body(*framed(wired(drawing_events())))
    client = connect(twin, stream_of(body))
    stream = client.draw(PLAN, seed=7, canvas=STROKES)
    seen = await twin.events(stream)
    assert [event.kind for event in seen] == [event.kind for event in drawing_events()]
    np.testing.assert_array_equal(seen[3].points, STROKES[0][:2])
    assert (await twin.call(stream, "result")).seed == 7
    assert body.closed
    await twin.call(client, "close")


async def test_closing_the_client_ends_a_drawing_and_calls(twin: Twin) -> None:
    body = Body(*framed(wired(drawing_events())))
    client = connect(twin, stream_of(body))
    stream = client.draw("draw a flamingo")
    await twin.call(stream, "__next__" if isinstance(twin, SyncTwin) else "__anext__")
    await twin.call(client, "close")
    with pytest.raises(errors.ClientClosed):
        await twin.call(stream, "result")
    assert body.closed
    with pytest.raises(errors.ClientClosed):
        await twin.call(client, "plan", "draw a flamingo")
    with pytest.raises(errors.ClientClosed):
        await twin.call(client.draw(PLAN), "result")


async def test_leaving_hangs_up(twin: Twin) -> None:
    body = Body(*framed(wired(drawing_events())))
    client = connect(twin, stream_of(body))
    await twin.events(client.draw("draw a flamingo"), leave_after=4)
    assert body.closed
    assert body.sent < len(body.pieces)
    await twin.call(client, "close")


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (httpx.ReadError("reset"), errors.Unavailable),
        (httpx.ReadTimeout("silence"), errors.DeadlineExceeded),
        (b"data: {half a\n\n", errors.InternalError),
        (b'data: {"index": 9, "kind": "dance"}\n\n', errors.InternalError),
        (b"", errors.Unavailable),
    ],
)
async def test_streams_that_break(
    twin: Twin, piece: bytes | Exception, expected: type[errors.HiTreeError]
) -> None:
    client = connect(twin, stream_of(Body(*framed(wired(drawing_events()[:4])), piece)))
    with pytest.raises(expected):
        await twin.call(client.draw("draw a flamingo"), "result")
    await twin.call(client, "close")


async def test_events_after_the_deadline_are_not_read(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 0.5, 1.5])
    monkeypatch.setattr(_http, "monotonic", lambda: next(moments))
    client = connect(twin, stream_of(Body(*framed(wired(drawing_events())))))
    with pytest.raises(errors.DeadlineExceeded):
        await twin.call(client.draw("draw a flamingo", timeout=1), "result")
    await twin.call(client, "close")


async def test_an_answer_that_is_no_event_stream(twin: Twin) -> None:
    client = connect(twin, lambda _: httpx.Response(200, text="<html>"))
    with pytest.raises(errors.InternalError, match="text/event-stream"):
        await twin.call(client.draw("draw a flamingo"), "result")
    await twin.call(client, "close")


async def test_a_reply_that_cannot_be_read(twin: Twin) -> None:
    for answer in (httpx.Response(200, text="<html>"), httpx.Response(200, json={"plan": 3})):
        client = connect(twin, lambda _, answer=answer: answer)
        with pytest.raises(errors.InternalError, match="cannot be read"):
            await twin.call(client, "plan", "draw a flamingo")
        await twin.call(client, "close")


@pytest.mark.parametrize("cls", sorted(errors.BY_REASON.values(), key=lambda cls: cls.reason))
async def test_errors_of_the_service_are_typed(twin: Twin, cls: type[errors.HiTreeError]) -> None:
    error = cls("it was refused", details={"a": "b"}, retry_after=0.25)
    body = {"error": codec.to_json(codec.error_to_wire(error))}
    client = connect(twin, lambda _: httpx.Response(cls.http_status, json=body))
    for call in (lambda: twin.call(client, "subjects"), lambda: twin.events(client.draw("a cat"))):
        with pytest.raises(cls) as raised:
            await call()
        got = raised.value
        assert type(got) is cls
        assert (got.message, got.details, got.retry_after) == ("it was refused", {"a": "b"}, 0.25)
    await twin.call(client, "close")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *_http.BY_STATUS.items(),
        *((status, errors.InvalidInput) for status in (302, 400, 413)),
        (500, errors.InternalError),
    ],
)
def test_every_foreign_status_means_an_error(
    status: int, expected: type[errors.HiTreeError]
) -> None:
    request = httpx.Request("GET", "http://draw.example/v1/model")
    for body in ("<html>", "[]", '{"error": "no"}', '{"error": {"reason": 3}}'):
        response = httpx.Response(status, text=body, request=request, headers={"retry-after": "7"})
        error = _http.error_of(response)
        assert type(error) is expected
        assert error.retry_after == 7


def test_a_reason_of_a_newer_service_counts_by_its_status() -> None:
    request = httpx.Request("GET", "http://draw.example/v1/model")
    body = {"error": {"reason": "TOO_PINK", "message": "less pink"}}
    error = _http.error_of(httpx.Response(400, json=body, request=request))
    assert (type(error), error.message) == (errors.InvalidInput, "less pink")


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (httpx.ConnectError("refused"), errors.Unavailable),
        (httpx.ConnectTimeout("silence"), errors.Unavailable),
        (httpx.PoolTimeout("busy"), errors.DeadlineExceeded),
        (httpx.WriteTimeout("slow"), errors.DeadlineExceeded),
        (httpx.RemoteProtocolError("half"), errors.Unavailable),
        (httpx.UnsupportedProtocol("gopher"), errors.InvalidInput),
        (httpx.InvalidURL("what?"), errors.InvalidInput),
        (httpx.DecodingError("zip"), errors.InternalError),
        (httpx.TooManyRedirects("round"), errors.InternalError),
        (httpx_sse.SSEError("html"), errors.InternalError),
        (ssl.SSLError("certificate required"), errors.Unavailable),
    ],
)
async def test_failures_of_httpx_are_mapped(
    twin: Twin, exc: Exception, expected: type[errors.HiTreeError]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise exc

    client = connect(twin, fail)
    for call in (lambda: twin.call(client, "subjects"), lambda: twin.events(client.draw("a cat"))):
        with pytest.raises(expected) as raised:
            await call()
        assert type(raised.value) is expected
        assert raised.value.__cause__ is exc
    await twin.call(client, "close")
