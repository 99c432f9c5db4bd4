"""The gRPC door: statuses, metadata, health, reflection, deadlines, cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from hitree.errors import BY_REASON, Overloaded, PortBusy
from hitree.limits import LIMITS
from hitree.v1 import hitree_pb2 as pb
from hitree_server.rpc.errors import to_status
from hitree_server.rpc.server import HITREE, RpcServer
from hitree_server.rpc.service import HiTreeServicer

if TYPE_CHECKING:
    from hitree_server.service import Service
    from server.conftest import Serving

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("reason", BY_REASON)
def test_every_error_has_its_status(reason: str) -> None:
    error = BY_REASON[reason]("what happened", details={"a": "b"}, retry_after=1.5)
    status = to_status(error)
    info, hint = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(hint)
    assert (info.reason, info.domain, dict(info.metadata)) == (reason, "hitree", {"a": "b"})
    assert hint.retry_delay.ToMilliseconds() == 1500
    assert status.code == grpc.StatusCode[error.grpc_code].value[0]
    assert status.message == "what happened"


def test_no_hint_is_no_retry_info() -> None:
    assert len(to_status(Overloaded("full")).details) == 1


async def test_request_id_is_kept_and_told(rpc_door: Serving) -> None:
    call = rpc_door.rpc.Draw(
        pb.DrawRequest(prompt="draw a cat"), metadata=(("x-request-id", "mine-1"),)
    )
    events = [event async for event in call]
    assert events[0].started.request_id == "mine-1"
    assert dict(await call.initial_metadata())["x-request-id"] == "mine-1"
    call = rpc_door.rpc.ModelInfo(pb.ModelInfoRequest(), metadata=(("x-request-id", "?" * 500),))
    assert len(dict(await call.initial_metadata())["x-request-id"]) == 32
    await call
    call = rpc_door.rpc.Draw(pb.DrawRequest(), metadata=(("x-request-id", "mine-3"),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine-3"


async def test_leaving_cancels_the_drawing(rpc_door: Serving) -> None:
    rpc_door.fakes.device.hold(after=3)
    call = rpc_door.rpc.Draw(pb.DrawRequest(prompt="draw a cat"))
    for _ in range(4):
        await call.read()
    call.cancel()
    idle = asyncio.create_task(rpc_door.app.service.idle())
    await idle  # the handler was cancelled while the engine was held
    rpc_door.fakes.device.gate.set()
    await finished(rpc_door)
    assert rpc_door.fakes.opened[0].engine.stats.finished["cancelled"] == 1


class Left:
    """The context of a client that leaves before the events come, which gRPC has not noticed."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> None:
        return None

    async def send_initial_metadata(self, _: object) -> None:
        pass

    async def write(self, _: object) -> None:
        raise grpc.aio.InternalError("it cannot be sent")


async def test_a_client_that_leaves_while_it_is_written_to_is_no_fault(service: Service) -> None:
    context: Any = Left()
    with pytest.raises(asyncio.CancelledError):
        await HiTreeServicer(service).Draw(pb.DrawRequest(prompt="draw a cat"), context)
    calls = service.metrics.calls.collect()[0].samples
    assert {sample.labels["code"] for sample in calls} == {"CANCELLED"}
    assert not service.metrics.rejected.collect()[0].samples


async def finished(rpc_door: Serving) -> list[Any]:
    return [event async for event in rpc_door.rpc.Draw(pb.DrawRequest(prompt="draw a cat"))]


async def test_events_come_in_groups_where_they_are_asked_for(rpc_door: Serving) -> None:
    request = pb.DrawRequest(prompt="draw a cat", seed=1)
    plain = [event async for event in rpc_door.rpc.Draw(request)]
    request.grouped = True
    messages = [message async for message in rpc_door.rpc.Draw(request)]
    assert len(messages) < len(plain)
    assert messages[0].group.events[0].HasField("started")
    assert all(len(m.group.events) > 1 for m in messages if m.HasField("group"))
    unwrapped = [e for m in messages for e in (m.group.events or (m,))]
    assert [e.index for e in unwrapped] == list(range(len(unwrapped)))
    assert told(unwrapped) == told(plain)


def told(events: list[pb.DrawEvent]) -> dict[str, list[Any]]:
    """What came of each kind; points one by one, however they were delivered."""
    found: dict[str, list[Any]] = {}
    for event in events:
        kind = str(event.WhichOneof("event"))
        if kind == "points":
            points = event.points
            marks = ((points.stroke, points.node),) * len(points.xs)
            found.setdefault(kind, []).extend(
                zip(points.xs, points.ys, points.t_ms, marks, strict=True)
            )
        elif kind not in ("started", "finished"):  # each has its id and timings
            found.setdefault(kind, []).append(getattr(event, kind))
    return found


async def test_deadline_of_the_context_reaches_the_engine(rpc_door: Serving) -> None:
    rpc_door.fakes.device.hold(after=3)
    call = rpc_door.rpc.Draw(pb.DrawRequest(prompt="draw a cat"), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in call]
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await rpc_door.app.service.idle()
    rpc_door.fakes.device.gate.set()
    assert (await finished(rpc_door))[-1].WhichOneof("event") == "finished"


async def test_leaving_cancels_a_call_that_is_not_answered_yet(rpc_door: Serving) -> None:
    rpc_door.fakes.models.gate.clear()
    call = rpc_door.rpc.Plan(pb.PlanRequest(prompt="draw a cat"))
    assert await asyncio.to_thread(rpc_door.fakes.models.asked.wait, 20)
    call.cancel()
    async with asyncio.timeout(20):
        await rpc_door.app.service.idle()  # the model is still at it


async def test_message_above_the_limit_has_our_error(rpc_door: Serving) -> None:
    request = pb.PlanRequest(prompt="x" * (LIMITS.message_bytes + 1))
    with pytest.raises(grpc.aio.AioRpcError, match="the limit is") as caught:
        await rpc_door.rpc.Plan(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_built_says_so(rpc_door: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in rpc_door.rpc.Redraw(pb.RedrawRequest())]
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in rpc_door.rpc.Session(iter([pb.SessionRequest()]))]
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_fault_is_an_internal_error_with_the_request_id(rpc_door: Serving) -> None:
    rpc_door.fakes.models.fault = ZeroDivisionError("a bug")
    call = rpc_door.rpc.Plan(
        pb.PlanRequest(prompt="draw a cat"), metadata=(("x-request-id", "mine-2"),)
    )
    with pytest.raises(grpc.aio.AioRpcError, match="mine-2") as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "bug" not in (caught.value.details() or "")
    rpc_door.fakes.models.fault = None
    assert await rpc_door.rpc.Plan(pb.PlanRequest(prompt="draw a cat"))


async def test_health_of_server_and_service(rpc_door: Serving) -> None:
    health = health_pb2_grpc.HealthStub(rpc_door.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=HITREE))
    assert [await until_serving(watch)] == [SERVING]
    reply = await health.Check(health_pb2.HealthCheckRequest())
    assert reply.status == SERVING
    await rpc_door.app.drain()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def until_serving(watch: Any) -> int:
    while (reply := await watch.read()).status != SERVING:
        pass
    return reply.status


async def test_not_serving_while_starting(service: Service) -> None:
    door = RpcServer(service, "127.0.0.1", 0)
    await door.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
    await door.stop(0)


async def test_reflection_lists_the_services(rpc_door: Serving) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(rpc_door.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]))
    reply = await call.read()
    names = {service.name for service in reply.list_services_response.service}
    assert {HITREE, "grpc.health.v1.Health"} <= names
    call.cancel()


async def test_busy_port_is_refused(service: Service) -> None:
    first = RpcServer(service, "127.0.0.1", 0)
    with pytest.raises(PortBusy, match=rf"gRPC port {first.port} .*--port"):
        RpcServer(service, "127.0.0.1", first.port)
    await first.stop(0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\x0a\x03\xff\xfe\xfd", "NOT_TEXT"), (b"\xff\xff", "INVALID_INPUT")],
)
@pytest.mark.parametrize("method", ["Plan", "Draw"])
async def test_bytes_that_are_no_message_are_refused(
    rpc_door: Serving, method: str, data: bytes, reason: str
) -> None:
    kind = rpc_door.channel.unary_unary if method == "Plan" else rpc_door.channel.unary_stream
    call = kind(f"/hitree.v1.HiTree/{method}")(data)
    with pytest.raises(grpc.aio.AioRpcError, match=r"send a message of hitree\.v1") as caught:
        _ = await call if method == "Plan" else await call.read()
    info = ErrorInfo()
    status = rpc_status.from_call(caught.value)
    assert status.details[0].Unpack(info)
    assert info.reason == reason
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
