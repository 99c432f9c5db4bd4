"""Both gRPC transports against a real, tiny server."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from hitree import codec, errors
from hitree.v1 import hitree_pb2 as pb
from hitree.v1 import hitree_pb2_grpc as pb_grpc
from hitree_sdk import _grpc
from hitree_sdk._grpc import error_of
from sdk.fakes import PLAN, STROKES, AsyncTwin, SyncTwin, drawing_events, wired

if TYPE_CHECKING:
    from collections.abc import Iterator

    Twin = SyncTwin | AsyncTwin


class Servicer(pb_grpc.HiTreeServicer):
    """Answers by the prompt's last word; records what reached it."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.seconds = 0.0
        self.groups = 0  # that were sent
        self.gone = threading.Event()  # the caller of an endless drawing has left

    def Plan(self, request: pb.PlanRequest, context: Any) -> pb.PlanResponse:  # noqa: N802
        self.metadata = dict(context.invocation_metadata())
        self.seconds = context.time_remaining()
        match request.prompt.split()[-1]:
            case "blorp":
                error = errors.UnknownSubject("no blorp é", details={"nearest": "cat, lion"})
                context.abort_with_status(rpc_status.to_status(rich(error)))
            case "crowd":
                error = errors.Overloaded("full", retry_after=2.5)
                context.abort_with_status(rpc_status.to_status(rich(error)))
            case "proxy":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "who are you?")
            case "slow":
                self.gone.wait(10)
        return pb.PlanResponse(plan=codec.plan_to_wire(PLAN))

    def Draw(self, request: pb.DrawRequest, context: Any) -> Iterator[pb.DrawEvent]:  # noqa: N802
        messages = wired(drawing_events())
        if request.grouped:
            pair = pb.EventGroup(events=messages[1:3])
            messages[1:3] = [pb.DrawEvent(index=1, group=pair)]
            self.groups += 1
        if request.prompt.endswith("forever"):
            context.add_callback(self.gone.set)
            yield from messages[:4]
            self.gone.wait(10)
            return
        if request.prompt.endswith("broken"):
            yield from messages[:4]
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield from messages


for name in ("Annotate", "Describe", "Score", "ModelInfo", "Subjects", "Redraw", "Session"):
    setattr(Servicer, name, getattr(pb_grpc.HiTreeServicer, name))


def rich(error: errors.HiTreeError) -> Status:
    """The status as the service writes it."""
    delay = Duration()
    delay.FromMilliseconds(round((error.retry_after or 0) * 1000))
    status = Status(code=grpc.StatusCode[error.grpc_code].value[0], message=error.message)
    info = ErrorInfo(reason=error.reason, domain="hitree", metadata=error.details)
    for detail in (info, RetryInfo(retry_delay=delay)):
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def url(servicer: Servicer) -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        pb_grpc.add_HiTreeServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"grpc://127.0.0.1:{port}"
        servicer.gone.set()
        server.stop(None).wait()


async def test_a_plan_with_key_and_deadline(twin: Twin, url: str, servicer: Servicer) -> None:
    client = twin.connect(url, api_key="secret", timeout=20)
    assert await twin.call(client, "plan", "draw a flamingo") == PLAN
    assert servicer.metadata["authorization"] == "Bearer secret"
    assert 15 < servicer.seconds <= 20
    await twin.call(client, "close")
    await twin.call(client, "close")


async def test_a_drawing_comes_in_groups(twin: Twin, url: str, servicer: Servicer) -> None:
    client = twin.connect(url)
    stream = client.draw(PLAN, seed=7)
    seen = await twin.events(stream)
    assert [event.kind for event in seen] == [event.kind for event in drawing_events()]
    sketch = await twin.call(stream, "result")
    for got, drawn in zip(sketch.strokes, STROKES, strict=True):
        np.testing.assert_array_equal(got, drawn)
    assert servicer.groups == 1
    await twin.call(client, "close")


async def test_leaving_cancels_on_the_server(twin: Twin, url: str, servicer: Servicer) -> None:
    client = twin.connect(url)
    stream = client.draw("draw forever")
    await twin.events(stream, leave_after=4)
    assert servicer.gone.wait(5)
    with pytest.raises(errors.Cancelled) as raised:
        await twin.call(stream, "result")
    assert len(raised.value.partial.strokes) == 1
    await twin.call(client, "close")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("draw a blorp", errors.UnknownSubject("no blorp é", details={"nearest": "cat, lion"})),
        ("draw a crowd", errors.Overloaded("full", retry_after=2.5)),
        ("draw a proxy", errors.Unauthenticated("who are you?")),
    ],
)
async def test_errors_are_typed(
    twin: Twin, url: str, prompt: str, expected: errors.HiTreeError
) -> None:
    client = twin.connect(url, retries=0)
    with pytest.raises(type(expected)) as raised:
        await twin.call(client, "plan", prompt)
    error = raised.value
    assert (error.message, error.details, error.retry_after) == (
        expected.message,
        expected.details,
        expected.retry_after,
    )
    assert isinstance(error.__cause__, grpc.RpcError)
    await twin.call(client, "close")


async def test_the_deadline(twin: Twin, url: str) -> None:
    client = twin.connect(url)
    with pytest.raises(errors.DeadlineExceeded, match=r"its timeout .*; give more time"):
        await twin.call(client, "plan", "draw something slow", timeout=0.1)
    await twin.call(client, "close")


async def test_a_method_that_is_not_built(twin: Twin, url: str) -> None:
    client = twin.connect(url)
    with pytest.raises(errors.Unimplemented):
        await twin.call(client, "subjects")
    await twin.call(client, "close")


async def test_a_stream_that_breaks(twin: Twin, url: str) -> None:
    client = twin.connect(url, retries=0)
    with pytest.raises(errors.Unavailable, match="gone"):
        await twin.call(client.draw("draw it broken"), "result")
    await twin.call(client, "close")


async def test_closing_the_client_ends_a_drawing_and_calls(twin: Twin, url: str) -> None:
    client = twin.connect(url)
    stream = client.draw("draw forever")
    await twin.call(stream, "__next__" if isinstance(twin, SyncTwin) else "__anext__")
    await twin.call(client, "close")
    with pytest.raises(errors.ClientClosed):
        await twin.call(stream, "result")
    with pytest.raises(errors.ClientClosed):
        await twin.call(client, "plan", "draw a flamingo")
    with pytest.raises(errors.ClientClosed):
        await twin.call(client.draw(PLAN), "result")


async def test_a_call_that_is_cancelled_is_not_a_closed_client(url: str) -> None:
    async with AsyncTwin().connect(url) as client:
        call = asyncio.create_task(client.plan("draw something slow"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await closing


async def test_nobody_listens(twin: Twin) -> None:
    client = twin.connect("grpc://127.0.0.1:1", retries=0)
    with pytest.raises(errors.Unavailable):
        await twin.call(client, "subjects")
    await twin.call(client, "close")


PINGS = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")


class Line:
    """Carries a client's connection to a server until it falls silent."""

    def __init__(self, url: str) -> None:
        self._server = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.silent = threading.Event()
        self.url = f"grpc://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._join, daemon=True).start()

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            end.close()

    def _join(self) -> None:
        self._ends += [self._listener.accept()[0], socket.create_connection(self._server)]
        for source, target in (self._ends, self._ends[::-1]):
            threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.silent.is_set():
                    target.sendall(data)


async def test_a_line_that_falls_silent_is_found_out(
    twin: Twin, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = dict.fromkeys(PINGS, 200)
    assert often.keys() <= dict(_grpc._OPTIONS).keys()
    monkeypatch.setattr(_grpc, "_OPTIONS", tuple((dict(_grpc._OPTIONS) | often).items()))
    line = Line(url)
    client = twin.connect(line.url, timeout=20, retries=0)
    with pytest.raises(errors.Unavailable):
        await twin.events(client.draw("draw forever"), told=lambda _: line.silent.set())
    assert line.silent.is_set()
    await twin.call(client, "close")
    line.close()


class Failure(grpc.RpcError):
    """A failed call without rich details."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> None:
        return None


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_code_means_an_error(code: grpc.StatusCode) -> None:
    error = error_of(Failure(code, "of its own accord"))
    assert type(error) is errors.BY_GRPC_CODE.get(code.name, errors.InternalError)
    assert "of its own accord" in error.message
    assert code.name in error_of(Failure(code)).message


@pytest.mark.parametrize("details", ["", "CANCELLED", "Received RST_STREAM with error code 8"])
def test_a_call_that_the_other_side_resets_may_be_tried_again(details: str) -> None:
    error = error_of(Failure(grpc.StatusCode.CANCELLED, details))
    assert type(error) is errors.Unavailable
    assert "reset" in error.message


def test_a_status_that_a_proxy_wrote_over_counts_by_its_code() -> None:
    class Overwritten(Failure):
        def trailing_metadata(self) -> Any:
            status = rich(errors.UnknownSubject("no blorp"))
            return (("grpc-status-details-bin", status.SerializeToString()),)

    assert type(error_of(Overwritten(grpc.StatusCode.UNAVAILABLE))) is errors.Unavailable
