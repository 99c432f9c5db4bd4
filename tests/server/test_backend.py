"""A bundle loaded for real: its graphs, its engine, and one drawing through the service."""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from bundles import tiny_bundle
from hitree.bundle import MANIFEST
from hitree.codec import ungrouped
from hitree.errors import BundleCorrupt, BundleError, BundleIncomplete
from hitree.v1 import hitree_pb2 as pb
from hitree_server import backend
from hitree_server.backend import load, load_all
from hitree_server.calls import Call
from hitree_server.metrics import Metrics
from hitree_server.service import Service

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_server.settings import Settings


async def test_loaded_bundle_draws_and_reads_what_it_drew(settings: Settings) -> None:
    loaded = load(settings.model_copy(update={"bundle": tiny_bundle().path, "provider": "cpu"}))
    service = Service(settings, Metrics())
    service.open(loaded)
    call = Call.of("embedded")
    request = pb.DrawRequest(prompt="draw a flamingo", seed=1, max_points=60)
    events = [event async for group in service.draw(request, call) for event in ungrouped(group)]
    assert events[-1].WhichOneof("event") == "finished"
    strokes: dict[int, pb.Stroke] = {}
    for event in events:
        if event.WhichOneof("event") == "points":
            stroke = strokes.setdefault(event.points.stroke, pb.Stroke())
            stroke.xs.extend(event.points.xs)
            stroke.ys.extend(event.points.ys)
    drawing = pb.Drawing(strokes=[strokes[index] for index in sorted(strokes)])
    tree = await service.annotate(pb.AnnotateRequest(drawing=drawing), call)
    assert tree.tree.nodes[0].end == len(drawing.strokes)
    engine = (await service.model_info(pb.ModelInfoRequest(), call)).engine
    assert engine.provider == "cpu"
    assert "cpu" in engine.available_providers
    loaded.engine.stop()
    service.stop()


async def test_versions_are_loaded_side_by_side(settings: Settings, tmp_path: Path) -> None:
    first, second = tiny_bundle().path, shutil.copytree(tiny_bundle().path, tmp_path / "second")
    manifest = json.loads((second / MANIFEST).read_text())
    (second / MANIFEST).write_text(json.dumps(manifest | {"version": "2"}))
    both = {"bundle": first, "more_bundles": (second,), "provider": "cpu"}
    loaded = load_all(settings.model_copy(update=both))
    assert [one.manifest.label for one in loaded] == [tiny_bundle().manifest.label, "hitree@2"]
    service = Service(settings, Metrics())
    service.open(*loaded)
    call = Call.of("embedded")
    for choice, steps in (({"version": "2"}, [False, True]), ({}, [True, True])):
        request = pb.DrawRequest(prompt="a flamingo", seed=1, max_points=30, bundle=choice)
        events = [event async for made in service.draw(request, call) for event in ungrouped(made)]
        assert events[-1].WhichOneof("event") == "finished"
        assert [one.engine.stats.steps > 0 for one in loaded] == steps
    for one in loaded:
        one.engine.stop()
    service.stop()


def test_the_same_bundle_twice_is_refused_and_leaves_no_thread(settings: Settings) -> None:
    path = tiny_bundle().path
    before = set(threading.enumerate())
    with pytest.raises(BundleError, match="leave one of them out"):
        load_all(settings.model_copy(update={"bundle": path, "more_bundles": (path,)}))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(("asked", "used"), [("auto", "int8"), ("fp32", "fp32")])
def test_the_decoder_runs_in_the_precision_that_is_best_or_asked_for(
    settings: Settings, asked: str, used: str
) -> None:
    update = {"bundle": tiny_bundle().path, "provider": "cpu", "precision": asked}
    loaded = load(settings.model_copy(update=update))
    loaded.engine.stop()
    assert loaded.info.precision == used
    assert loaded.info.provider == "cpu"


@pytest.mark.parametrize(("precision", "rows"), [("auto", True), ("fp16", True), ("fp32", False)])
def test_on_a_gpu_state_is_left_where_the_step_can_be_recorded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, precision: str, rows: bool
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(backend, "available", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(backend, "open_device", lambda *given: asked.append(given))
    bundle = tiny_bundle()
    backend.open_decoder(bundle, settings.model_copy(update={"precision": precision}))
    ((_, provider, _, moved),) = asked
    assert provider == "cuda"
    assert moved == (bundle.file("decoder_rows.onnx") if rows else None)


@pytest.mark.parametrize(
    ("harm", "error"),
    [(lambda path: path.unlink(), BundleIncomplete), (lambda p: p.write_text("x"), BundleCorrupt)],
)
@pytest.mark.parametrize("name", ["condition.onnx", "vocabulary.json"])
def test_harmed_bundle_is_refused_and_leaves_no_thread(
    settings: Settings, tmp_path: Path, name: str, harm: object, error: type[Exception]
) -> None:
    copy = shutil.copytree(tiny_bundle().path, tmp_path / "bundle")
    harm(copy / name)
    before = set(threading.enumerate())
    with pytest.raises(error, match=name):
        load(settings.model_copy(update={"bundle": copy}))
    assert set(threading.enumerate()) <= before
