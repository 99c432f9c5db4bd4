"""The Open Inference Protocol over both doors: metadata, inference, refusals."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from bundles import tiny_bundle
from hitree.errors import InvalidInput, UnknownModel
from hitree.limits import LIMITS
from hitree.oip import inference_pb2 as pb
from hitree.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from hitree_server.models import Models
from hitree_server.raw import tensor

if TYPE_CHECKING:
    from server.conftest import Serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

X = np.arange(6, dtype=np.float32).reshape(3, 2)
N = np.array([4], np.int64)
VERSION = "0.0.0+fake"
LENGTH = "inference-header-content-length"


def stub(server: Serving) -> Any:
    return GRPCInferenceServiceStub(server.channel)


def asked(*, raw: bool = True, **changes: Any) -> pb.ModelInferRequest:
    """A request of the doubling model."""
    x = {"name": "x", "datatype": "FP32", "shape": [3, 2]}
    n = {"name": "n", "datatype": "INT64", "shape": [1]}
    given: dict[str, Any] = {"raw_input_contents": [X.tobytes(), N.tobytes()]}
    if not raw:
        x["contents"], n["contents"] = {"fp32_contents": X.ravel()}, {"int64_contents": N}
        given = {}
    made: dict[str, Any] = {"model_name": "doubling", "id": "7", "inputs": [x, n], **given}
    return pb.ModelInferRequest(**{**made, **changes})


def body(**changes: Any) -> dict[str, Any]:
    """The same as JSON."""
    x = {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": X.tolist()}
    n = {"name": "n", "datatype": "INT64", "shape": [1], "data": [4]}
    return {"id": "7", "inputs": [x, n], **changes}


async def test_health_and_metadata(shared_server: Serving) -> None:
    rpc = stub(shared_server)
    assert (await rpc.ServerLive(pb.ServerLiveRequest())).live
    assert (await rpc.ServerReady(pb.ServerReadyRequest())).ready
    assert (await rpc.ServerMetadata(pb.ServerMetadataRequest())).name == "hitree"
    assert (await rpc.ModelReady(pb.ModelReadyRequest(name="doubling", version=VERSION))).ready
    assert not (await rpc.ModelReady(pb.ModelReadyRequest(name="tripling"))).ready
    told = await rpc.ModelMetadata(pb.ModelMetadataRequest(name="doubling"))
    assert list(told.versions) == [VERSION]
    assert [(t.name, t.datatype, list(t.shape)) for t in told.inputs] == [
        ("x", "FP32", [-1, 2]), ("n", "INT64", [1]),
    ]  # fmt: skip

    http = shared_server.http
    assert (await http.get("/v2/health/live")).json() == {"live": True}
    assert (await http.get("/v2/health/ready")).status_code == 200
    assert (await http.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/doubling", f"/v2/models/doubling/versions/{VERSION}"):
        assert (await http.get(f"{path}/ready")).status_code == 200
        found = (await http.get(path)).json()
        assert found["inputs"] == [
            {"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in told.inputs
        ]


@pytest.mark.parametrize("raw", [True, False])
async def test_a_model_runs_over_grpc(shared_server: Serving, raw: bool) -> None:
    reply = await stub(shared_server).ModelInfer(asked(raw=raw))
    assert (reply.model_name, reply.model_version, reply.id) == ("doubling", VERSION, "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in reply.outputs] == [
        ("y", "FP32", [3, 2]), ("m", "INT64", [1]),
    ]  # fmt: skip
    y, m = reply.raw_output_contents
    assert np.frombuffer(y, "<f4").tolist() == (2 * X).ravel().tolist()
    assert struct.unpack("<q", m) == (7,)
    only = await stub(shared_server).ModelInfer(asked(raw=raw, outputs=[{"name": "m"}]))
    assert [o.name for o in only.outputs] == ["m"]


async def test_a_model_runs_over_http(shared_server: Serving) -> None:
    reply = (await shared_server.http.post("/v2/models/doubling/infer", json=body())).json()
    assert reply == {
        "model_name": "doubling", "model_version": VERSION, "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [3, 2], "data": (2 * X).ravel().tolist()},
            {"name": "m", "datatype": "INT64", "shape": [1], "data": [7]},
        ],
    }  # fmt: skip


async def test_tensors_come_and_go_as_bytes_over_http(shared_server: Serving) -> None:
    made = body(outputs=[{"name": "m"}, {"name": "y", "parameters": {"binary_data": True}}])
    del made["inputs"][0]["data"]
    made["inputs"][0]["parameters"] = {"binary_data_size": X.nbytes}
    head = json.dumps(made).encode()
    reply = await shared_server.http.post(
        "/v2/models/doubling/infer", content=head + X.tobytes(), headers={LENGTH: str(len(head))}
    )
    cut = int(reply.headers[LENGTH])
    told = json.loads(reply.content[:cut])
    assert told["outputs"][0]["parameters"] == {"binary_data_size": X.nbytes}
    assert told["outputs"][1]["data"] == [7]
    assert np.frombuffer(reply.content[cut:], "<f4").tolist() == (2 * X).ravel().tolist()
    every = body(parameters={"binary_data_output": True, "priority": 1})
    reply = await shared_server.http.post("/v2/models/doubling/infer", json=every)
    assert len(reply.content) == int(reply.headers[LENGTH]) + X.nbytes + N.nbytes


WRONG: dict[str, dict[str, Any]] = {
    "a tensor too few": {"inputs": [], "raw_input_contents": []},
    "raw contents too few": {"raw_input_contents": [X.tobytes()]},
    "too few bytes": {"raw_input_contents": [X.tobytes()[1:], N.tobytes()]},
    "an unknown output": {"outputs": [{"name": "z"}]},
    "a value it cannot read": {"raw_input_contents": [X.tobytes(), (-N).tobytes()]},
    "a long id": {"id": "x" * 501},
    "nothing at all": {"raw_input_contents": []},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_wrong_tensors_are_refused_over_grpc(
    shared_server: Serving, wrong: dict[str, Any]
) -> None:
    request = asked(**{k: v for k, v in wrong.items() if v})
    for name in (name for name, value in wrong.items() if not value):
        request.ClearField(name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(shared_server).ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_tensor_comes_once(shared_server: Serving) -> None:
    request = asked(raw=False)
    request.raw_input_contents.extend([X.tobytes(), N.tobytes()])
    with pytest.raises(grpc.aio.AioRpcError, match="both raw and in contents"):
        await stub(shared_server).ModelInfer(request)


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """The body with another tensor ``name``."""
    made = body()
    made["inputs"] = [one | changes if one["name"] == name else one for one in made["inputs"]]
    return made


BAD_BODIES: dict[str, tuple[Any, dict[str, str]]] = {
    "no JSON": (b"{", {}),
    "no object": ([], {}),
    "no inputs": ({"id": "7"}, {}),
    "no data": (body(inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}]), {}),
    "text for numbers": (
        body(inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "data": ["a"]}]), {},
    ),
    "ragged": (
        body(inputs=[{"name": "x", "datatype": "FP32", "shape": [2], "data": [[1], 2]}]), {},
    ),
    "an unknown type": (
        body(inputs=[{"name": "x", "datatype": "BF16", "shape": [1], "data": [1]}]), {},
    ),
    "a length beyond the body": (body(), {LENGTH: "100000"}),
    "a length below 0": (body(), {LENGTH: "-1"}),
    "no length": (body(), {LENGTH: "many"}),
    "a number as text": (changed("x", shape=["3", 2]), {}),
    "text as a number": (changed("n", data=["4"]), {}),
    "a flag as a number": (changed("n", data=[True]), {}),
    "a fraction as an integer": (changed("n", data=[4.5]), {}),
    "more than an integer holds": (changed("n", data=[2**63]), {}),
    "what JSON cannot answer with": (changed("x", data=[1e39, 0, 0, 0, 0, 0]), {}),
    "a tensor twice": (body(inputs=[body()["inputs"][0], *body()["inputs"]]), {}),
    "a long id": (body(id="x" * 501), {}),
    "bytes left over": (json.dumps(body()).encode() + b"1", {LENGTH: str(len(json.dumps(body())))}),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "headers"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_wrong_bodies_are_refused_in_the_protocols_words(
    shared_server: Serving, sent: Any, headers: dict[str, str]
) -> None:
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    reply = await shared_server.http.post(
        "/v2/models/doubling/infer", content=content, headers=headers
    )
    assert reply.status_code == 400
    assert isinstance(reply.json()["error"], str)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": [{}] * 1000}, "inputs.0.name"),
        ({"inputs": [body()["inputs"][0]] * 257}, "inputs: List should have at most 256"),
        ({"outputs": [{}] * 1000}, "outputs.0.name"),
        ({"outputs": [{"name": "y"}] * 257}, "outputs: List should have at most 256"),
        ({"inputs": [{**body()["inputs"][0], "shape": [1] * 9}]}, "shape: List should have"),
    ],
)
async def test_too_much_is_refused_at_its_first_fault(
    shared_server: Serving, changes: dict[str, Any], says: str
) -> None:
    reply = await shared_server.http.post("/v2/models/doubling/infer", json=body(**changes))
    assert reply.status_code == 400
    assert says in reply.json()["error"]
    assert ".1." not in reply.json()["error"]


async def test_unknown_models_and_versions_are_not_found(shared_server: Serving) -> None:
    for path in ("tripling", "doubling/versions/9"):
        for end in ("", "/ready"):
            assert (await shared_server.http.get(f"/v2/models/{path}{end}")).status_code == 404
        reply = await shared_server.http.post(f"/v2/models/{path}/infer", json=body())
        assert reply.status_code == 404
    for call, request in (
        ("ModelMetadata", pb.ModelMetadataRequest(name="tripling")),
        ("ModelInfer", asked(model_version="9")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub(shared_server), call)(request)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_replies_are_no_longer_than_messages_may_be(shared_server: Serving) -> None:
    x = np.ones((LIMITS.message_bytes // 4 // 2 - 500, 2), np.float32)
    request = asked(raw_input_contents=[x.tobytes(), N.tobytes()])
    request.inputs[0].shape[:] = x.shape
    with pytest.raises(grpc.aio.AioRpcError, match="ask for fewer rows or outputs") as caught:
        await stub(shared_server).ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_output_that_is_wanted_often_comes_once(shared_server: Serving) -> None:
    x = np.ones((LIMITS.message_bytes // 16, 2), np.float32)
    request = asked(raw_input_contents=[x.tobytes(), N.tobytes()], outputs=[{"name": "y"}] * 10)
    request.inputs[0].shape[:] = x.shape
    reply = await stub(shared_server).ModelInfer(request)
    assert [len(each) for each in reply.raw_output_contents] == [x.nbytes]


async def test_a_request_is_no_longer_than_messages_may_be(shared_server: Serving) -> None:
    request = asked(model_name="m" * LIMITS.message_bytes)
    with pytest.raises(grpc.aio.AioRpcError, match="the limit is") as caught:
        await stub(shared_server).ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([-1], b""),
        ([2**40, 2**40], b""),
        ([LIMITS.message_bytes], b""),
        ([2**63 - 1] * 200_000, b""),  # whose product would take minutes
        ([0, 2**62, 40], b""),
        ([2], b"1234"),
        ([1], [""]),
        ([1_000_000], ["x" * 1_000_000] + [1] * 999_999),  # as an array it would fill the memory
    ],
)
async def test_shapes_that_cannot_be_are_refused(shape: list[int], data: Any) -> None:
    with pytest.raises(InvalidInput):
        tensor("x", "FP32", shape, data)


async def test_every_graph_of_a_bundle_can_be_asked() -> None:
    bundle = tiny_bundle()
    raw = Models.load(bundle, threads=1).raw(bundle, threads=1)
    assert {"condition", "decoder_step", "generator_step", "scorer_unity"} <= set(raw.names)
    rng = np.random.default_rng(0)
    for name in raw.names:
        model = raw.get(name)
        feed = {}
        for info in model.inputs:
            shape = [3 if length < 0 else length for length in info.shape]
            if info.name == "spans":
                feed[info.name] = np.array([[0, 1], [1, 2], [0, 3]])
            elif info.datatype == "INT64":
                feed[info.name] = np.ones(shape, np.int64)
            else:
                feed[info.name] = rng.random(shape, np.float32)
        made = await asyncio.to_thread(model.infer, feed)
        assert list(made) == [info.name for info in model.outputs]
        for info in model.outputs:
            assert made[info.name].dtype == {"FP32": "f4", "INT64": "i8"}[info.datatype]
    beyond = {"strokes": rng.random((3, 32, 4), np.float32), "spans": np.array([[0, 99]])}
    with pytest.raises(InvalidInput, match="cannot run"):
        raw.get("scorer_unity").infer(beyond)
    with pytest.raises(UnknownModel, match="there are classifier, condition"):
        raw.get("nothing")
