"""What the peers draw with makes the engine's points."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bundles import tiny_bundle
from hitree_server.engine import Engine, Leaf, SequenceSpec
from hitree_server.engine.device import open_device

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
BUDGETS = ((40, 60), (25, 6), (3, 60), (1, 1))  # most points: in all, of a leaf


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(PEERS))
    return {name: import_module(name) for name in ("drawing", "prepare", "stepper")}


@pytest.fixture
def specs() -> list[SequenceSpec]:
    graph = tiny_bundle().manifest.decoder
    width = next(t.shape[-1] for t in graph.inputs if t.name == "condition")
    rng = np.random.default_rng(3)
    made = []
    for seed in range(100):
        nodes = (1, 3, 4) if seed < 20 else (2,)  # one leaf ends as soon as it may
        leaves = tuple(Leaf(node, rng.normal(size=width).astype(np.float32)) for node in nodes)
        most, most_leaf = BUDGETS[seed % len(BUDGETS)]
        made.append(SequenceSpec(str(seed), leaves, seed, most, most_leaf, temperature=2.0))
    return made


@pytest.fixture
async def expected(
    modules: dict[str, ModuleType], specs: list[SequenceSpec]
) -> list[NDArray[np.int32]]:
    bundle = tiny_bundle()
    graph = bundle.manifest.decoder
    engine = Engine(graph, open_device(bundle.file(graph.choose("cpu")[1]), "cpu", threads=1))
    engine.start()
    draw = modules["prepare"].draw
    drawn = await asyncio.gather(*(draw(engine, spec) for spec in specs))
    await asyncio.to_thread(engine.stop)
    return drawn


def job(drawing: ModuleType, spec: SequenceSpec) -> Any:
    return drawing.Job(
        seed=spec.seed,
        temperature=spec.temperature,
        max_points=spec.max_points,
        max_points_leaf=spec.max_points_leaf,
        nodes=tuple(leaf.node for leaf in spec.leaves),
        conditions=np.stack([leaf.condition for leaf in spec.leaves]),
    )


def test_the_drawings_differ_in_length_leaves_and_strokes(
    expected: list[NDArray[np.int32]],
) -> None:
    assert len({len(points) for points in expected}) > 3
    assert {3, 4} <= {int(node) for points in expected for node in points[:, 3]}
    assert max(int(points[:, 2].max()) for points in expected) > 2


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_a_batch_makes_the_engines_points(
    modules: dict[str, ModuleType],
    specs: list[SequenceSpec],
    expected: list[NDArray[np.int32]],
    rows: int,
) -> None:
    drawing = modules["drawing"]
    batch = drawing.Studio(tiny_bundle().path).batch(rows)
    sketches = [batch.join(job(drawing, spec)) for spec in specs]
    parts: dict[Any, list[NDArray[np.int32]]] = {sketch: [] for sketch in sketches}
    while batch.live:
        for sketch in batch.step():
            assert not sketch.over
            parts[sketch].append(sketch.take())
    assert all(sketch.over for sketch in sketches)
    for sketch, points in zip(sketches, expected, strict=True):
        assert (
            1 <= len(parts[sketch][0]) <= tiny_bundle().manifest.decoder.stride
        )  # the first points go out at once
        np.testing.assert_array_equal(np.concatenate(parts[sketch]), points)


def test_bursts_leave_nothing_out(
    modules: dict[str, ModuleType],
    specs: list[SequenceSpec],
    expected: list[NDArray[np.int32]],
) -> None:
    drawing = modules["drawing"]
    batch = drawing.Studio(tiny_bundle().path).batch(len(specs))
    sketches = [batch.join(job(drawing, spec)) for spec in specs]
    parts: dict[Any, list[NDArray[np.int32]]] = {sketch: [] for sketch in sketches}
    for _ in batch.bursts():
        for sketch in sketches:
            parts[sketch].append(sketch.take())
    for sketch, points in zip(sketches, expected, strict=True):
        assert 1 <= len(parts[sketch][0]) <= tiny_bundle().manifest.decoder.stride  # as above
        np.testing.assert_array_equal(np.concatenate(parts[sketch]), points)


async def test_a_stepper_serves_all_its_generators(
    modules: dict[str, ModuleType],
    specs: list[SequenceSpec],
    expected: list[NDArray[np.int32]],
) -> None:
    drawing = modules["drawing"]
    stepper = modules["stepper"].Stepper(drawing.Studio(tiny_bundle().path).batch(5))

    async def read(spec: SequenceSpec) -> NDArray[np.int32]:
        parts = []
        async for sketch in stepper.draw(job(drawing, spec)):
            parts.append(sketch.take())
            for _ in range(9):  # the reader falls behind the steps
                await asyncio.sleep(0)
        return np.concatenate(parts)

    for drawn, points in zip(await asyncio.gather(*map(read, specs)), expected, strict=True):
        np.testing.assert_array_equal(drawn, points)


def test_a_request_has_what_the_encoder_makes_of_the_texts(
    modules: dict[str, ModuleType],
) -> None:
    prepare = modules["prepare"]
    bundle = tiny_bundle()
    models = prepare.Models.load(bundle, threads=1)
    plan = prepare.Planner(models).plan("draw a cat", seed=1)
    made = prepare.job(models, plan, 7)
    spec = made.sequence(0, bundle.manifest.settings)
    one = modules["drawing"].Job.of(prepare.peer_request(spec))
    np.testing.assert_array_equal(one.conditions, made.conditions)
    assert one.nodes == tuple(leaf.id for leaf in plan.leaves)
    assert (one.seed, one.max_points) == (7, prepare.MAX_POINTS)
