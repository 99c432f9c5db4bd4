"""Whatever a gRPC request holds: it is answered, or refused as its own fault; serving goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import assume
from hypothesis import strategies as st

from end_to_end.fuzzing import AMOUNTS, SECONDS, fuzz
from hitree.codec import event_from_wire, ungrouped
from hitree.errors import BY_REASON
from hitree.limits import LIMITS
from hitree.oip import inference_pb2 as oip
from hitree.v1 import hitree_pb2 as pb
from messages import damaged, messages, mutations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    from end_to_end.threads import Inside

    Metadata = Sequence[tuple[str, str]]

# What hypothesis prints of a large message may be long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

SERVICES = [
    file.services_by_name[name]
    for file, name in ((pb.DESCRIPTOR, "HiTree"), (oip.DESCRIPTOR, "GRPCInferenceService"))
]
METHODS = {method.name: method for service in SERVICES for method in service.methods}
OTHERS = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}  # gRPC's own
LINES = pb.Drawing(
    strokes=[pb.Stroke(xs=[40, 80, 90], ys=[40, 80, 70]), pb.Stroke(xs=[400], ys=[500])] * 2,
    key_id="mine",
)
PLAN = pb.Plan(
    subject="cat",
    nodes=[
        pb.Node(id=0, text="draw a cat"),
        pb.Node(id=1, parent=0, text="add a head", score=-0.5),
        pb.Node(id=2, parent=0, text="add a tail"),
    ],
)
QUICK = pb.PlanOptions(expansions=2, max_depth=1, max_nodes=6, nearest_subject=True)
RESUME = pb.Resume(strokes=LINES.strokes[:2], nodes=[1, 1], last_stroke_finished=True)
GOOD: dict[str, list[Message]] = {
    "Plan": [pb.PlanRequest(prompt="draw a cat", seed=1, options=QUICK)],
    "Draw": [
        pb.DrawRequest(prompt="draw a cat", seed=1, max_points=9, plan_options=QUICK),
        pb.DrawRequest(plan=PLAN, canvas=LINES, seed=1, max_points=9, temperature=0.5),
        pb.DrawRequest(plan=PLAN, seed=1, max_points=9, resume=RESUME),
        pb.DrawRequest(plan=PLAN, seed=1, max_points=5, candidates=3, priority=pb.PRIORITY_LOW),
    ],
    "Annotate": [
        pb.AnnotateRequest(drawing=LINES, parser=pb.PARSER_CKY, max_nodes=3),
        pb.AnnotateRequest(drawing=LINES, subject="cat"),
    ],
    "Describe": [pb.DescribeRequest(drawing=LINES, start=0, end=2, subject="cat", n_best=2)],
    "Score": [
        pb.ScoreRequest(drawing=LINES, items=[pb.ScoreItem(start=0, end=1, text="add a line")])
    ],
    "ModelReady": [oip.ModelReadyRequest(name="condition")],
    "ModelMetadata": [oip.ModelMetadataRequest(name="scorer_texts")],
}


@dataclass(frozen=True)
class Door:
    """The gRPC door of a running service, called with bytes."""

    inside: Inside
    channel: grpc.Channel
    good: dict[str, list[Message]]  # requests of each method that are answered

    def call(
        self, method: MethodDescriptor, request: bytes, metadata: Metadata = ()
    ) -> tuple[grpc.RpcError | None, list[Any]]:
        """The error that a call ends with, or the messages that it is answered with."""
        kinds = (
            "stream" if s else "unary" for s in (method.client_streaming, method.server_streaming)
        )
        made = getattr(self.channel, "_".join(kinds))(
            f"/{method.containing_service.full_name}/{method.name}",
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        given = iter([request]) if method.client_streaming else request
        try:
            reply = made(given, timeout=SECONDS, metadata=metadata)
            return None, list(reply) if method.server_streaming else [reply]
        except grpc.RpcError as exc:
            return exc, []

    def check(self, method: MethodDescriptor, request: bytes, metadata: Metadata = ()) -> None:
        """Send a request, and look at how it is answered."""
        assume(len(request) <= 2 * LIMITS.message_bytes)  # beyond it gRPC refuses by itself
        error, replies = self.call(method, request, metadata)
        if error is not None:
            check_refusal(error)
        elif method.output_type.name == "DrawEvent":
            check_events(replies)
        self.inside.settle()


def check_refusal(error: Any) -> None:
    """The caller's fault, and says so in our words."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error.code()} {error.details()}"
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "hitree"
    known = BY_REASON[info.reason]
    assert error.code().name == known.grpc_code
    assert known.http_status < 500 or info.reason == "UNIMPLEMENTED", f"{info}{error.details()}"
    assert info.reason != "OVERLOADED", error.details()


def check_events(messages: list[pb.DrawEvent]) -> None:
    """A whole stream, which ends as it should, in groups where they were asked for."""
    events = [event for message in messages for event in ungrouped(message)]
    told = [event_from_wire(event) for event in events]
    assert [event.index for event in events] == list(range(len(events)))
    assert told[-1].kind == "finished", told[-1]
    assert all(np.isfinite(event.points).all() for event in told if event.kind == "points")


@pytest.fixture(scope="module")
def door(tiny: Inside) -> Iterator[Door]:
    with grpc.insecure_channel(tiny.grpc) as channel:
        yield Door(tiny, channel, GOOD | {"ModelInfer": inferences(tiny)})


def inferences(service: Inside) -> list[Message]:
    """A request of each raw model."""
    raw = service.app.service.raw()
    requests: list[Message] = []
    for name in raw.names:
        request = oip.ModelInferRequest(model_name=name, id="mine")
        for info in raw.get(name).inputs:
            shape = [2 if length < 0 else length for length in info.shape]
            tensor = request.inputs.add(name=info.name, datatype=info.datatype, shape=shape)
            if info.datatype == "INT64":
                tensor.contents.int64_contents.extend([0, 1] * (math.prod(shape) // 2))
            else:
                tensor.contents.fp32_contents.extend([0.5] * math.prod(shape))
        requests.append(request)
    return requests


def test_these_are_all_methods(door: Door) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]))
    found = {service.name for service in next(call).list_services_response.service}
    assert found == OTHERS | {service.full_name for service in SERVICES}


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("name", METHODS)
def test_any_message_is_answered_or_refused(door: Door, name: str, amount: int) -> None:
    method = METHODS[name]
    good = door.good.get(name, [])
    drawn = messages(method.input_type)
    if good:
        drawn |= st.sampled_from(good).flatmap(mutations)
    fuzz(amount, drawn, lambda request: door.check(method, request.SerializeToString()))
    serves_on(door, method)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("name", METHODS)
def test_any_bytes_are_answered_or_refused(door: Door, name: str, amount: int) -> None:
    method = METHODS[name]
    good = [request.SerializeToString() for request in door.good.get(name, [])]
    drawn = st.binary() | st.sampled_from([b"\xff" * 99, b"\x0a" * 99, b"\x0b" * 20_000])
    if good:
        drawn |= st.sampled_from(good).flatmap(damaged)
    fuzz(amount, drawn, lambda data: door.check(method, data))
    serves_on(door, method)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_any_metadata_is_heeded_or_left(door: Door, amount: int) -> None:
    method = METHODS["Draw"]
    request = door.good["Draw"][1].SerializeToString()
    texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)
    names = st.sampled_from(["x-request-id", "authorization", "traceparent", "other"])
    long = st.just("x" * 1500)  # of 8 KiB together gRPC itself refuses the call
    drawn = st.lists(st.tuples(names, texts | long), max_size=4)
    fuzz(amount, drawn, lambda metadata: door.check(method, request, metadata))
    serves_on(door, method)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_what_is_planned_can_be_drawn(door: Door, amount: int) -> None:
    letters = st.characters(exclude_categories=["Cs", "Cc"])
    drawn = st.text(letters, max_size=500).map(lambda text: f"a cat {text}"[:500])

    def check(prompt: str) -> None:
        request = pb.PlanRequest(prompt=prompt, seed=1, options=QUICK)
        error, replies = door.call(METHODS["Plan"], request.SerializeToString())
        assert error is None, error
        drawing = pb.DrawRequest(plan=replies[0].plan, seed=1, max_points=2)
        error, events = door.call(METHODS["Draw"], drawing.SerializeToString())
        assert error is None, error
        check_events(events)

    fuzz(amount, drawn | st.just("a cat " + "\ufdfa" * 494), check)


def serves_on(door: Door, method: MethodDescriptor) -> None:
    """What is right is still answered, and nothing that was wrong was a fault of ours."""
    for request in door.good.get(method.name, []):
        error, _ = door.call(method, request.SerializeToString())
        assert error is None, error
    door.inside.settle()
    assert door.inside.faults() == 0
