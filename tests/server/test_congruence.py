"""gRPC = HTTP = embedded: the same replies, the same errors word for word, and serving goes on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from hitree import codec
from hitree.drawing import Drawing
from hitree.errors import HiTreeError, from_reason
from hitree.tree import Node, Plan, build
from hitree.v1 import hitree_pb2 as pb
from hitree_server.local import EmbeddedTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from server.conftest import Serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATHS = {
    "Plan": ("POST", "/v1/plan"),
    "Draw": ("POST", "/v1/draw"),
    "Annotate": ("POST", "/v1/annotate"),
    "Describe": ("POST", "/v1/describe"),
    "Score": ("POST", "/v1/score"),
    "ModelInfo": ("GET", "/v1/model"),
    "Subjects": ("GET", "/v1/subjects"),
}
REPLIES = {
    "Plan": pb.PlanResponse,
    "Annotate": pb.AnnotateResponse,
    "Describe": pb.DescribeResponse,
    "Score": pb.ScoreResponse,
    "ModelInfo": pb.ModelInfoResponse,
    "Subjects": pb.SubjectsResponse,
}


def wire(*strokes: list[list[float]]) -> pb.Drawing:
    return codec.drawing_to_wire(Drawing.of(strokes), "mine")


LINES = wire([[10, 10], [20, 20]], [[30, 10], [40.25, 20]])
PLAN = codec.plan_to_wire(Plan(build([Node(0, None, "draw a cat"), Node(1, 0, "add a head")])))
MANY = pb.Drawing(strokes=[pb.Stroke(xs=[1, 2], ys=[1, 2])] * 10_000)
KEYED = pb.Drawing(strokes=LINES.strokes, key_id="k" * 501)
PROMPTED = pb.Plan(nodes=PLAN.nodes, prompt="p" * 501)

GOOD = {
    "plan": ("Plan", pb.PlanRequest(prompt="draw a flamingo", seed=2**53)),
    "plan-nearest": (
        "Plan",
        pb.PlanRequest(prompt="a car", seed=1, options={"nearest_subject": True}),
    ),
    "draw": ("Draw", pb.DrawRequest(prompt="draw a cat", seed=4)),
    "draw-plan": ("Draw", pb.DrawRequest(plan=PLAN, seed=4, temperature=0.25)),
    "draw-canvas": ("Draw", pb.DrawRequest(prompt="draw a cat", seed=4, canvas=LINES)),
    "draw-candidates": ("Draw", pb.DrawRequest(prompt="draw a cat", seed=4, candidates=3)),
    "annotate": ("Annotate", pb.AnnotateRequest(drawing=LINES)),
    "annotate-greedy": ("Annotate", pb.AnnotateRequest(drawing=LINES, parser=pb.PARSER_GREEDY)),
    "describe": ("Describe", pb.DescribeRequest(drawing=LINES, start=0, end=1, n_best=2)),
    "score": (
        "Score",
        pb.ScoreRequest(drawing=LINES, items=[pb.ScoreItem(start=0, end=1, text="add a line")]),
    ),
    "model": ("ModelInfo", pb.ModelInfoRequest()),
    "model-chosen": ("ModelInfo", pb.ModelInfoRequest(bundle={"version": "0.0.0+fake"})),
    "subjects": ("Subjects", pb.SubjectsRequest()),
}

BAD = {
    "empty": ("Plan", pb.PlanRequest(prompt=""), "EMPTY_PROMPT"),
    "blank": ("Plan", pb.PlanRequest(prompt=" \n "), "EMPTY_PROMPT"),
    "no-words": ("Draw", pb.DrawRequest(prompt="?!"), "EMPTY_PROMPT"),
    "nothing-asked": ("Draw", pb.DrawRequest(), "EMPTY_PROMPT"),
    "long": ("Draw", pb.DrawRequest(prompt="a" * 501), "PROMPT_TOO_LONG"),
    "control": ("Plan", pb.PlanRequest(prompt="a\x00cat"), "NOT_TEXT"),
    "unknown-subject": ("Plan", pb.PlanRequest(prompt="draw a car"), "UNKNOWN_SUBJECT"),
    "unknown-subject-drawn": ("Draw", pb.DrawRequest(prompt="draw a car"), "UNKNOWN_SUBJECT"),
    "unknown-subject-read": (
        "Annotate", pb.AnnotateRequest(drawing=LINES, subject="car"), "UNKNOWN_SUBJECT",
    ),
    "no-strokes": ("Annotate", pb.AnnotateRequest(), "EMPTY_DRAWING"),
    "one-point": ("Annotate", pb.AnnotateRequest(drawing=wire([[1, 1]])), "SINGLE_POINT"),
    "many-strokes": ("Annotate", pb.AnnotateRequest(drawing=MANY), "TOO_MANY_STROKES"),
    "many-points": (
        "Annotate",
        pb.AnnotateRequest(drawing=wire([[i % 256, 0] for i in range(20_001)])),
        "TOO_MANY_POINTS",
    ),
    "far": ("Annotate", pb.AnnotateRequest(drawing=wire([[0, 0], [5000, 0]])), "OUT_OF_FRAME"),
    "far-canvas": (
        "Draw",
        pb.DrawRequest(prompt="draw a cat", canvas=wire([[0, 0], [5000, 0]])),
        "OUT_OF_FRAME",
    ),
    "many-canvas-strokes": (
        "Draw", pb.DrawRequest(prompt="draw a cat", canvas=MANY), "TOO_MANY_STROKES",
    ),
    "parser": ("Annotate", pb.AnnotateRequest(drawing=LINES, max_nodes=65), "INVALID_INPUT"),
    "segment": ("Describe", pb.DescribeRequest(drawing=LINES, start=1, end=3), "INVALID_INPUT"),
    "n-best": ("Describe", pb.DescribeRequest(drawing=LINES, end=1, n_best=99), "INVALID_INPUT"),
    "no-items": ("Score", pb.ScoreRequest(drawing=LINES), "INVALID_INPUT"),
    "empty-plan": ("Draw", pb.DrawRequest(plan=pb.Plan()), "INVALID_PLAN"),
    "orphan": (
        "Draw", pb.DrawRequest(plan=pb.Plan(nodes=[pb.Node(id=0, parent=3)])), "INVALID_PLAN",
    ),
    "many-nodes": (
        "Draw",
        pb.DrawRequest(plan=pb.Plan(nodes=[pb.Node(id=i, text="a") for i in range(65)])),
        "INVALID_PLAN",
    ),
    "empty-node": ("Draw", pb.DrawRequest(plan=pb.Plan(nodes=[pb.Node()])), "EMPTY_PROMPT"),
    "far-bundle": (
        "Plan", pb.PlanRequest(bundle={"name": "\U0001f9a9" * 100_000}), "UNKNOWN_BUNDLE",
    ),
    "long-key": ("Annotate", pb.AnnotateRequest(drawing=KEYED), "INVALID_INPUT"),
    "long-plan-prompt": ("Draw", pb.DrawRequest(plan=PROMPTED), "INVALID_INPUT"),
    "never-so-many": ("Draw", pb.DrawRequest(plan=PLAN, candidates=16), "INVALID_INPUT"),
    "hot": ("Draw", pb.DrawRequest(prompt="draw a cat", temperature=3), "INVALID_INPUT"),
    "cold": ("Draw", pb.DrawRequest(prompt="draw a cat", temperature=0), "INVALID_INPUT"),
    "hot-plan": (
        "Plan", pb.PlanRequest(prompt="draw a cat", options={"temperature": 3}), "INVALID_INPUT",
    ),
    "points": ("Draw", pb.DrawRequest(prompt="draw a cat", max_points=2001), "INVALID_INPUT"),
    "candidates": ("Draw", pb.DrawRequest(prompt="draw a cat", candidates=17), "INVALID_INPUT"),
    "paced": ("Draw", pb.DrawRequest(prompt="draw a cat", pace=9), "UNIMPLEMENTED"),
    "resumed": (
        "Draw", pb.DrawRequest(prompt="draw a cat", resume={"points": 3}), "INVALID_INPUT",
    ),
    "plan-canvas": ("Plan", pb.PlanRequest(prompt="draw a cat", canvas=LINES), "UNIMPLEMENTED"),
    "bundle": (
        "Plan", pb.PlanRequest(prompt="draw a cat", bundle={"name": "x"}), "UNKNOWN_BUNDLE",
    ),
    "bundle-told": ("ModelInfo", pb.ModelInfoRequest(bundle={"name": "x"}), "UNKNOWN_BUNDLE"),
    "version-listed": ("Subjects", pb.SubjectsRequest(bundle={"version": "9"}), "UNKNOWN_BUNDLE"),
}  # fmt: skip


@pytest.fixture(scope="module")
def embedded_transport(new_home: Any) -> Iterator[EmbeddedTransport]:
    """The service in this process, over another backend of the same fakes."""
    with new_home() as home:
        yield EmbeddedTransport(lambda: home)


async def over_grpc(server: Serving, method: str, request: Message) -> list[Message]:
    call = getattr(server.rpc, method)(request)
    try:
        return [event async for event in call] if method == "Draw" else [await call]
    except grpc.aio.AioRpcError as exc:
        raise error_of(exc) from exc


async def over_http(server: Serving, method: str, request: Message) -> list[Message]:
    verb, path = PATHS[method]
    body = codec.to_json(request)
    sent = (
        {"json": body}
        if verb == "POST"
        else {"params": {f"bundle.{name}": value for name, value in body.get("bundle", {}).items()}}
    )
    response = await server.http.request(verb, path, **sent)
    if response.status_code != 200:
        error = codec.from_json(response.json()["error"], pb.Error)
        raised = codec.error_from_wire(error)
        assert raised.http_status == response.status_code
        raise raised
    if method != "Draw":
        return [codec.from_json(response.json(), REPLIES[method])]
    data = [line[5:] for line in response.text.splitlines() if line.startswith("data:")]
    return [codec.from_json(json.loads(item), pb.DrawEvent) for item in data]


async def over_embedded(
    transport: EmbeddedTransport, method: str, request: Message
) -> list[Message]:
    if method == "Draw":
        return [event async for event in transport.aio.stream(method, request, timeout=20)]
    return [await transport.aio.unary(method, request, timeout=20)]


async def over_blocking(
    transport: EmbeddedTransport, method: str, request: Message
) -> list[Message]:
    def call() -> list[Message]:
        if method == "Draw":
            return list(transport.sync.stream(method, request, timeout=20))
        return [transport.sync.unary(method, request, timeout=20)]

    return await asyncio.to_thread(call)


def error_of(exc: grpc.aio.AioRpcError) -> HiTreeError:
    """The error that the rich status describes; code and class must agree."""
    status = rpc_status.from_call(exc)
    info, hint = ErrorInfo(), RetryInfo()
    for detail in status.details:
        for message in (info, hint):
            detail.Unpack(message)
    assert info.domain == "hitree"
    delay = hint.retry_delay.ToTimedelta().total_seconds() or None
    error = from_reason(
        info.reason, exc.details() or "", details=dict(info.metadata), retry_after=delay
    )
    assert error.grpc_code == exc.code().name
    return error


def stable(messages: list[Message]) -> list[Message]:
    """Without request ids and wall times; points of a stroke joined, however they were cut."""
    kept: list[Any] = []
    for message in messages:
        if isinstance(message, pb.DrawEvent):
            message.ClearField("index")
            message.started.ClearField("request_id") if message.HasField("started") else None
            message.finished.ClearField("timings") if message.HasField("finished") else None
            if kept and _same_stroke(kept[-1], message):
                for name in ("xs", "ys", "t_ms"):
                    getattr(kept[-1].points, name).extend(getattr(message.points, name))
                continue
        kept.append(message)
    return kept


def _same_stroke(before: pb.DrawEvent, after: pb.DrawEvent) -> bool:
    both = before.HasField("points") and after.HasField("points")
    return both and before.points.stroke == after.points.stroke


@pytest.mark.parametrize("name", GOOD)
async def test_replies_are_the_same(
    shared_server: Serving, embedded_transport: EmbeddedTransport, name: str
) -> None:
    method, request = GOOD[name]
    expected = stable(await over_grpc(shared_server, method, request))
    assert stable(await over_http(shared_server, method, request)) == expected
    assert stable(await over_embedded(embedded_transport, method, request)) == expected
    assert stable(await over_blocking(embedded_transport, method, request)) == expected


@pytest.mark.parametrize("name", BAD)
async def test_errors_are_the_same_and_serving_goes_on(
    shared_server: Serving, embedded_transport: EmbeddedTransport, name: str
) -> None:
    method, request, reason = BAD[name]
    calls = (
        over_grpc(shared_server, method, request),
        over_http(shared_server, method, request),
        over_embedded(embedded_transport, method, request),
        over_blocking(embedded_transport, method, request),
    )
    errors = await asyncio.gather(*calls, return_exceptions=True)
    told = [(type(e), e.message, e.details, e.retry_after) for e in errors]
    assert told == [told[0]] * len(told)
    assert errors[0].reason == reason
    await over_grpc(shared_server, *GOOD["plan"])
    await over_http(shared_server, *GOOD["plan"])
    await over_embedded(embedded_transport, *GOOD["plan"])
