"""Bundles side by side: which one answers, and what each of them has of its own."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest

from hitree import codec
from hitree.errors import BundleError, BundleIncomplete
from hitree.oip import inference_pb2 as oip
from hitree.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from hitree.v1 import hitree_pb2 as pb
from hitree_server.backend import load_all
from server.conftest import SUBJECTS, Serving, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from google.protobuf.message import Message

    from hitree_server.backend import Backend
    from hitree_server.settings import Settings
    from server.conftest import Fakes

    NewServer = Callable[..., AbstractAsyncContextManager[Serving]]

FIRST, SECOND, OWLS = "hitree@0.0.0+fake", "hitree@2", "owls@2"
SERVED = f"{FIRST}, {SECOND}, {OWLS}"
FOLDERS = (Path(SECOND), Path(OWLS))
CHOICES = [
    ({}, FIRST),
    ({"name": "hitree"}, FIRST),
    ({"name": "hitree", "version": "2"}, SECOND),
    ({"version": "2"}, SECOND),
    ({"name": "owls"}, OWLS),
    ({"name": "owls", "version": "2"}, OWLS),
]
HOUSE = pb.Drawing(strokes=[pb.Stroke(xs=[1, 2], ys=[1, 2])] * 2)
PATHS = {
    "Plan": "/v1/plan",
    "Annotate": "/v1/annotate",
    "Describe": "/v1/describe",
    "Score": "/v1/score",
}


@pytest.fixture
def settings() -> Settings:
    return settings_of(more_bundles=FOLDERS)


def requests(choice: dict[str, str]) -> dict[str, Message]:
    """A request of each method with one reply that tells its version."""
    return {
        "Plan": pb.PlanRequest(prompt="draw a cat", bundle=choice),
        "Annotate": pb.AnnotateRequest(drawing=HOUSE, bundle=choice),
        "Describe": pb.DescribeRequest(drawing=HOUSE, end=1, bundle=choice),
        "Score": pb.ScoreRequest(
            drawing=HOUSE, items=[pb.ScoreItem(end=1, text="a roof")], bundle=choice
        ),
    }


async def test_each_call_is_answered_by_the_bundle_that_it_chooses(server: Serving) -> None:
    for choice, label in CHOICES:
        name, version = label.split("@")
        for method, request in requests(choice).items():
            reply = await getattr(server.rpc, method)(request)
            assert reply.model_version == version, (method, choice)
            sent = await server.http.post(PATHS[method], json=codec.to_json(request))
            assert sent.json()["model_version"] == version, (method, choice)
        events = server.rpc.Draw(pb.DrawRequest(prompt="draw a cat", bundle=choice))
        told = [event async for event in events]
        assert told[0].started.model_version == version
        assert told[-1].WhichOneof("event") == "finished"

        info = await server.rpc.ModelInfo(pb.ModelInfoRequest(bundle=choice))
        assert f"{info.bundle}@{info.version}" == label
        assert [f"{one.name}@{one.version}" for one in info.bundles] == [FIRST, SECOND, OWLS]
        query = {f"bundle.{part}": value for part, value in choice.items()}
        asked = await server.http.get("/v1/model", params=query)
        assert asked.json() == codec.to_json(info)

        subjects = list((await server.rpc.Subjects(pb.SubjectsRequest(bundle=choice))).subjects)
        assert subjects == [*SUBJECTS, *([] if label == FIRST else [name])]
        asked = await server.http.get("/v1/subjects", params=query)
        assert asked.json()["subjects"] == subjects


@pytest.mark.parametrize("choice", [{"name": "crows"}, {"name": "owls", "version": "0.0.0+fake"}])
async def test_what_is_not_served_is_told_with_what_is(
    server: Serving, choice: dict[str, str]
) -> None:
    more = {"Subjects": pb.SubjectsRequest, "ModelInfo": pb.ModelInfoRequest}
    known = requests(choice) | {name: made(bundle=choice) for name, made in more.items()}
    for method, request in known.items():
        with pytest.raises(grpc.aio.AioRpcError, match=re.escape(SERVED)) as caught:
            await getattr(server.rpc, method)(request)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    draw = {"prompt": "draw a cat", "bundle": choice}
    reply = await server.http.post("/v1/draw", json=draw)
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["reason"] == "UNKNOWN_BUNDLE"
    assert error["details"] == {"served": SERVED}


@pytest.mark.parametrize(
    "query", ["x=1", "bundle=owls", "bundle.label=owls", "bundle=1&bundle.name=2"]
)
async def test_a_query_that_means_nothing_is_refused(server: Serving, query: str) -> None:
    reply = await server.http.get(f"/v1/subjects?{query}")
    assert (reply.status_code, reply.json()["error"]["reason"]) == (400, "UNKNOWN_FIELD")


async def test_the_document_tells_of_the_query(server: Serving) -> None:
    paths = (await server.http.get("/openapi.json")).json()["paths"]
    for path in ("/v1/model", "/v1/subjects"):
        told = [p["name"] for p in paths[path]["get"]["parameters"] if p["in"] == "query"]
        assert told == ["bundle.name", "bundle.version"]


async def test_a_drawing_is_taken_up_by_the_bundle_that_began_it(server: Serving) -> None:
    whole = [e async for e in server.rpc.Draw(pb.DrawRequest(prompt="draw a cat", seed=3))]
    version = whole[0].started.model_version
    stroke, *_ = (event.points for event in whole if event.HasField("points"))
    request = pb.DrawRequest(plan=whole[1].plan, seed=3, bundle={"name": "hitree"})
    request.bundle.version = version
    request.resume.strokes.add(xs=stroke.xs, ys=stroke.ys)
    request.resume.nodes.append(stroke.node)
    server.app.service.open(*reversed(server.fakes.opened))  # another one is the default by now
    rest = [event async for event in server.rpc.Draw(request)]
    assert rest[0].started.model_version == version
    assert rest[-1].finished.points == whole[-1].finished.points


async def test_each_engine_draws_and_counts_for_itself(server: Serving, fakes: Fakes) -> None:
    fakes.further[SECOND].hold()
    held = server.rpc.Draw(pb.DrawRequest(prompt="draw a cat", bundle={"version": "2"}))
    begun = asyncio.create_task(anext(aiter(held)))
    assert await asyncio.to_thread(fakes.further[SECOND].held.wait, 20)
    assert [e async for e in server.rpc.Draw(pb.DrawRequest(prompt="draw a cat"))]
    page = (await server.http.get("/metrics")).text
    assert f'hitree_points_total{{bundle="{FIRST}"}} 30.0\n' in page
    assert f'hitree_points_total{{bundle="{OWLS}"}} 0.0\n' in page
    assert f'hitree_requests_running{{bundle="{SECOND}"}} 1.0\n' in page
    assert f'hitree_requests_running{{bundle="{FIRST}"}} 0.0\n' in page
    fakes.further[SECOND].gate.set()
    await begun
    assert [e async for e in held][-1].WhichOneof("event") == "finished"


async def test_the_service_is_ready_where_all_engines_are(server: Serving) -> None:
    assert server.app.ready
    await asyncio.to_thread(server.fakes.opened[2].engine.stop)
    assert not server.app.ready


# ---- raw models ------------------------------------------------------------------------------


def infer(version: str) -> oip.ModelInferRequest:
    """Ask the model that multiplies, by 2 where it is of the default bundle, else by 3."""
    return oip.ModelInferRequest(
        model_name="doubling",
        model_version=version,
        inputs=[
            {"name": "x", "datatype": "FP32", "shape": [1, 2]},
            {"name": "n", "datatype": "INT64", "shape": [1]},
        ],
        raw_input_contents=[np.ones(2, "<f4").tobytes(), np.ones(1, "<i8").tobytes()],
    )


@pytest.mark.parametrize(("asked", "version", "made"), [("", "0.0.0+fake", 2), ("2", "2", 3)])
async def test_raw_models_have_the_versions_of_the_bundles(
    server: Serving, asked: str, version: str, made: float
) -> None:
    rpc: Any = GRPCInferenceServiceStub(server.channel)
    told = await rpc.ModelMetadata(oip.ModelMetadataRequest(name="doubling", version=asked))
    assert list(told.versions) == ["0.0.0+fake", "2"]  # of two bundles, the second once
    assert (await rpc.ModelReady(oip.ModelReadyRequest(name="doubling", version=asked))).ready
    reply = await rpc.ModelInfer(infer(asked))
    assert reply.model_version == version
    assert np.frombuffer(reply.raw_output_contents[0], "<f4").tolist() == [made, made]

    path = "/v2/models/doubling" + (f"/versions/{asked}" if asked else "")
    assert (await server.http.get(path)).json()["versions"] == ["0.0.0+fake", "2"]
    tensors = [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 1]},
        {"name": "n", "datatype": "INT64", "shape": [1], "data": [1]},
    ]
    found = (await server.http.post(f"{path}/infer", json={"inputs": tensors})).json()
    assert found["model_version"] == version
    assert found["outputs"][0]["data"] == [made, made]


async def test_raw_models_of_other_versions_are_not_found(server: Serving) -> None:
    rpc: Any = GRPCInferenceServiceStub(server.channel)
    assert not (await rpc.ModelReady(oip.ModelReadyRequest(name="doubling", version="9"))).ready
    with pytest.raises(grpc.aio.AioRpcError, match=r"ask for one of 0.0.0\+fake, 2"):
        await rpc.ModelInfer(infer("9"))
    reply = await server.http.get("/v2/models/doubling/versions/9")
    assert (reply.status_code, "0.0.0+fake, 2" in reply.json()["error"]) == (404, True)


# ---- life ------------------------------------------------------------------------------------


def test_bundles_of_the_same_name_and_version_are_refused(fakes: Fakes) -> None:
    twice = settings_of(more_bundles=(Path("a") / OWLS, Path("b") / OWLS))
    with pytest.raises(BundleError, match=rf"b/{OWLS} is {OWLS}, as another one"):
        load_all(twice, fakes.open)
    assert len(fakes.opened) == 3
    assert not any(backend.engine.ready for backend in fakes.opened)


def test_no_engine_is_left_where_one_bundle_cannot_be_loaded(
    fakes: Fakes, settings: Settings
) -> None:
    def open_some(given: Settings) -> Backend:
        if given.bundle == Path(OWLS):
            raise BundleIncomplete("there are no owls")
        return fakes.open(given)

    with pytest.raises(BundleIncomplete):
        load_all(settings, open_some)
    assert [backend.manifest.label for backend in fakes.opened] == [FIRST, SECOND]
    assert not any(backend.engine.ready for backend in fakes.opened)


@pytest.fixture
def missing(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Folders that are not there when bundles are loaded."""
    away: set[Path] = set()
    open_fake = fakes.open

    def open_there(settings: Settings) -> Backend:
        if settings.bundle in away:
            raise BundleIncomplete(f"there is no bundle at {settings.bundle}")
        return open_fake(settings)

    monkeypatch.setattr(fakes, "open", open_there)
    return away


async def test_all_bundles_are_read_anew_and_no_call_is_lost(
    fakes: Fakes, settings: Settings, new_server: NewServer
) -> None:
    async with new_server(fakes, settings) as server:
        device = fakes.further[OWLS]
        device.hold(after=6)
        events = aiter(server.rpc.Draw(pb.DrawRequest(prompt="a cat", bundle={"name": "owls"})))
        await anext(events)
        await server.app.reload()
        old, new = fakes.opened[:3], fakes.opened[3:]
        assert [backend.manifest.label for backend in new] == [FIRST, SECOND, OWLS]
        async with asyncio.timeout(20):
            while any(backend.engine.ready for backend in old[:2]):  # nothing is drawn on them
                await asyncio.sleep(0)
        assert old[2].engine.ready
        device.gate.set()
        assert [event async for event in events][-1].WhichOneof("event") == "finished"
        async with asyncio.timeout(20):
            while old[2].engine.ready:
                await asyncio.sleep(0)
        assert server.app.ready
        for choice, _ in CHOICES:
            fresh = server.rpc.Draw(pb.DrawRequest(prompt="draw a cat", bundle=choice))
            assert [event async for event in fresh][-1].WhichOneof("event") == "finished"
        page = (await server.http.get("/metrics")).text
        for label in (FIRST, SECOND, OWLS):
            assert page.count(f'hitree_engine_ready{{bundle="{label}"}} 1.0') == 1
    assert not any(backend.engine.ready for backend in fakes.opened)


async def test_one_bundle_that_cannot_be_read_anew_leaves_all_as_they_are(
    fakes: Fakes, settings: Settings, new_server: NewServer, missing: set[Path]
) -> None:
    async with new_server(fakes, settings) as server:
        missing.add(Path(OWLS))
        await server.app.reload()
        old, new = fakes.opened[:3], fakes.opened[3:]
        assert [backend.engine.ready for backend in old] == [True, True, True]
        assert [backend.engine.ready for backend in new] == [False, False]
        assert server.app.ready
        told = await server.rpc.Plan(pb.PlanRequest(prompt="a cat", bundle={"name": "owls"}))
        assert told.model_version == "2"


@pytest.fixture
async def stopping(
    fakes: Fakes, settings: Settings, new_server: NewServer
) -> AsyncIterator[Serving]:
    quick = settings.model_copy(update={"drain_seconds": 0.0})
    async with new_server(fakes, quick) as server:
        yield server


async def test_draining_stops_every_engine(stopping: Serving, fakes: Fakes) -> None:
    device = fakes.further[OWLS]
    device.hold(after=6)
    draw = {"prompt": "a cat", "bundle": {"name": "owls"}}
    async with stopping.http.stream("POST", "/v1/draw", json=draw) as reply:
        lines = aiter(reply.aiter_lines())
        await anext(lines)
        stopping.app.stopping.set()
        while fakes.opened[2].engine.ready:
            await asyncio.sleep(0)
        device.gate.set()
        data = [line[5:] async for line in lines if line.startswith("data:")]
    assert json.loads(data[-1])["error"]["reason"] == "UNAVAILABLE"
    await stopping.task
    assert not any(backend.engine.ready for backend in fakes.opened)
    with pytest.raises(httpx.ConnectError):
        await stopping.http.get("/livez")
