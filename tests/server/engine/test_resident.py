"""The device that holds the state, with a real decoder on the CPU: what a GPU does, but recording.

Everything here is compared with the device whose state lies on the host.
"""

from __future__ import annotations

import random
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bundles import tiny_bundle
from fakes import FakeClock, SteppedEngine, points, settle, spec, stepped
from hitree.errors import Unavailable
from hitree_server.engine import Broken, Ended, Leaf, PointsMade
from hitree_server.engine import device as devices
from hitree_server.engine.device import OnnxDevice, Resident, open_device
from hitree_server.engine.runner import Runner, StepError, buckets
from hitree_server.engine.sequence import Sequence
from hitree_server.engine.slots import Slots
from hitree_server.engine.step import Step

if TYPE_CHECKING:
    from pathlib import Path

    from hitree.bundle import StepGraph
    from hitree_server.engine import Device, SequenceSpec

MAX_ROWS = 12


class Watched:
    """A session that notes its runs."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.runs: list[tuple[Any, str]] = []  # binding and recording of each

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        assert devices._BUSY.locked()  # another engine's step might be recorded meanwhile
        recording = options.get_run_config_entry("gpu_graph_id") if options else ""
        self.runs.append((binding, recording))
        self.session.run_with_iobinding(binding, options)


def decoder() -> StepGraph:
    return tiny_bundle().manifest.decoder


def session(file: str) -> Any:
    return devices._session(tiny_bundle().file(file), "cpu", 1)


def resident(precision: str = "fp16") -> Resident:
    step, rows = decoder().choose("cuda", precision)[1], decoder().rows
    return Resident(Watched(session(step)), Watched(session(rows)), "cpu")


def on_host(precision: str = "fp16") -> Device:
    return open_device(tiny_bundle().file(decoder().choose("cpu", precision)[1]), "cpu", 1)


def drawing(seed: int, **changes: object) -> SequenceSpec:
    """Something to draw, with a canvas and without."""
    dice, rng = random.Random(seed), np.random.default_rng(seed)
    width = next(t.shape[-1] for t in decoder().inputs if t.name == "condition")
    leaves = tuple(Leaf(n, rng.normal(size=width).astype(np.float32)) for n in range(1, 4))
    canvas = np.zeros((dice.choice([0, 0, 5]), 5), np.float32)
    canvas[:, :2], canvas[:, 3] = rng.integers(-9, 9, (len(canvas), 2)), 1
    chosen = {"leaves": leaves, "prefix": canvas, "first_stroke": len(canvas)}
    return spec(seed, **{**chosen, "max_points": 60, "max_points_leaf": 25, **changes})


async def play(
    engine: SteppedEngine, clock: FakeClock, seed: int
) -> tuple[list[list[object]], int]:
    """Drawings that come one after another to readers of all speeds, some of whom leave.

    Returns the events of each, and how many were paused at most.
    """
    dice = random.Random(seed)
    streams, told, paused = [], defaultdict(list), 0
    for turn in range(2000):
        if len(streams) < 30 and dice.random() < 0.3:
            streams.append(engine.submit(drawing(len(streams))))
        if streams and dice.random() < 0.01:
            dice.choice(streams).cancel()
        clock.advance(0.02)
        engine.tick()
        paused = max(paused, engine.stats.paused)
        await settle()
        for number, stream in enumerate(streams):
            if turn % (1 + number % 3 * 9) == 0:
                while stream._events:
                    told[number].append(await anext(stream))
        if len(streams) == 30 and all(over(told[n]) for n in range(30)):
            return [told[n] for n in range(30)], paused
    raise AssertionError("a drawing does not end")


def over(events: list[object]) -> bool:
    return bool(events) and isinstance(events[-1], Ended | Broken)


def plain(event: object) -> object:
    """An event as something that can be compared bit by bit."""
    if isinstance(event, PointsMade):
        return event.positions.tobytes(), event.t_ms.tobytes(), event.stroke, event.leaf
    return (event.strokes, event.points) if isinstance(event, Ended) else str(event)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
async def test_drawings_are_those_of_the_host_bit_by_bit(precision, monkeypatch):
    found = []
    limits = {"max_rows": MAX_ROWS, "buffer_events": 3}
    device = resident(precision)
    fetch, fetched = device.fetch, []
    monkeypatch.setattr(device, "fetch", lambda *rows: fetched.append(rows) or fetch(*rows))
    for one in (on_host(precision), device):
        clock = FakeClock()
        engine = stepped(one, clock, decoder(), **limits)
        events, paused = await play(engine, clock, seed=1)
        assert paused > 2
        assert sum(len(points(told)) for told in events) > 300
        found.append([[plain(event) for event in told] for told in events])
    assert found[0] == found[1]
    assert len(fetched) > 2
    assert len(device._rows.runs) > len(fetched)


class Bench:
    """A runner with slots of its own."""

    def __init__(self, device: Device) -> None:
        self.slots = Slots(decoder(), MAX_ROWS, device.store(decoder(), MAX_ROWS))
        self.runner = Runner(decoder(), device, FakeClock())
        self.live = [Sequence(drawing(seed), seed, 0.0) for seed in range(4)]

    def run(self, **changes: Any) -> None:
        parts = {"parks": (), "departures": (), "joins": (), "running": tuple(self.live)} | changes
        self.runner.run(Step(number=0, **parts), self.slots)

    def begin(self) -> None:
        self.run(joins=tuple(self.live))
        self.run()

    def rearrange(self) -> None:
        """One is parked, one leaves and one comes, in one step."""
        parked, gone = self.live[0], self.live[1]
        fresh = Sequence(drawing(9), 9, 0.0)
        self.live = [*self.live[2:], fresh]
        self.parked = parked
        self.run(parks=(parked,), departures=(gone,), joins=(fresh,))

    def go_ahead(self) -> None:
        """One leaves, and two come and compute a step of their own."""
        gone, fresh = self.live.pop(1), [Sequence(drawing(n), n, 0.0) for n in (7, 8)]
        self.live += fresh
        self.run(departures=(gone,), joins=tuple(fresh), running=tuple(fresh), ahead=True)

    def resume(self) -> None:
        self.live.append(self.parked)
        self.run(joins=(self.parked,))

    def held(self) -> list[bytes]:
        """What the live rows hold on the host, and what the last step made of them."""
        slots, rows = self.slots, slice(0, self.slots.rows)
        columns = (*slots.outputs.values(), *slots.inputs.values(), *slots.pens.columns)
        return [column[rows].tobytes() for column in columns]


def test_newcomers_go_ahead_as_on_the_host():
    benches = calm, struck = Bench(on_host()), Bench(resident())
    for bench in benches:
        bench.begin()
        bench.go_ahead()
    for _ in range(3):
        assert struck.held() == calm.held()
        for bench in benches:
            bench.run()
    for bench in benches:
        bench.rearrange()
        bench.run()
    assert struck.held() == calm.held()


def strike(session: Any, after: int) -> None:
    """Have one run of a session fail, ``after`` so many."""
    real, calls = session.run_with_iobinding, iter(range(99))

    def run(*given: Any) -> None:
        if next(calls) == after:
            raise RuntimeError("the device is on strike")
        real(*given)

    session.run_with_iobinding = run


def test_where_newcomers_fail_to_go_ahead_the_others_are_as_they_were():
    device = resident()
    benches = calm, struck = Bench(on_host()), Bench(device)
    for bench in benches:
        bench.begin()
    strike(device._rows, 1)  # the first run settles, the second one keeps what was made
    with pytest.raises(StepError, match="on strike"):
        struck.go_ahead()
    calm.go_ahead()
    for bench in benches:
        *bench.live, one, other = bench.live
        bench.run(departures=(one, other))
    for _ in range(3):
        assert struck.held() == calm.held()
        for bench in benches:
            bench.run()


@pytest.mark.parametrize("failing", ["step", "gather", "fetch"])
def test_a_failed_step_leaves_every_row_as_it_was(failing):
    device = resident()
    calm, struck = Bench(on_host()), Bench(device)
    for bench in (calm, struck):
        bench.begin()
    # The rows' first run of a rearrangement fetches what is parked, the second one gathers.
    broken, after = {
        "step": (device._session, 0),
        "fetch": (device._rows, 0),
        "gather": (device._rows, 1),
    }[failing]
    strike(broken, after)
    with pytest.raises(StepError, match="on strike"):
        struck.rearrange()
    struck.run()
    calm.rearrange()
    for _ in range(3):
        assert struck.held() == calm.held()
        for bench in (struck, calm):
            bench.run()
    for bench in (struck, calm):
        bench.resume()
        bench.run()
    assert struck.held() == calm.held()


def test_every_bucket_and_side_is_a_recording_of_its_own_at_fixed_addresses():
    device = resident()
    bench = Bench(device)
    bench.runner.warm_up(bench.slots)
    recorded = dict((recording, binding) for binding, recording in device._session.runs)
    assert len(recorded) == 2 * len(buckets(MAX_ROWS)) == len(device._session.runs)
    assert all(int(recording) > 0 for recording in recorded)  # 0 and below are the runtime's own
    bench.begin()
    bench.rearrange()
    for _ in range(5):
        bench.run()
    assert len(device._session.runs) > len(recorded)
    for binding, recording in device._session.runs:
        assert recorded[recording] is binding
    assert {recording for _, recording in device._rows.runs} == {""}


def test_what_is_given_to_a_step_lies_at_one_address_for_both_sides():
    device = resident()
    slots = Slots(decoder(), 4, device.store(decoder(), 4))
    staged = []
    for _ in "ab":
        device.bind(slots.feeds(2), slots.results(2))
        staged.append({key: held.value.data_ptr() for key, held in device._staged.items()})
        slots.flip()
    assert staged[0] == staged[1]
    names = {name for name, _ in staged[0]}
    graph = decoder()
    assert names == {t.name for t in (*graph.inputs, *graph.outputs)}  # the state never moves


class Runtime:
    """As much of onnxruntime as opening a session takes, on a machine with a GPU."""

    def __init__(self, *providers: str) -> None:
        self.asked: list[list[tuple[str, dict[str, str]]]] = []
        self.providers = list(providers)

    def SessionOptions(self) -> Any:  # noqa: N802  # the runtime's name
        return SimpleNamespace(add_session_config_entry=lambda *_: None)

    def InferenceSession(self, _model: bytes, _options: Any, providers: Any) -> Any:  # noqa: N802
        self.asked.append(providers)
        return SimpleNamespace(get_providers=lambda: self.providers)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("step", "rows"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path / "step", tmp_path / "rows"


def test_on_a_gpu_only_a_step_that_can_be_recorded_is(monkeypatch, files):
    step, rows = files
    runtime = Runtime("CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(devices, "_runtime", lambda: runtime)
    assert isinstance(open_device(step, "cuda", 1, rows), Resident)
    assert isinstance(open_device(step, "cuda", 1), OnnxDevice)
    gpu = "CUDAExecutionProvider"
    assert runtime.asked == [[(gpu, {"enable_cuda_graph": "1"})], [(gpu, {})], [(gpu, {})]]


def test_a_gpu_that_cannot_be_started_is_not_passed_over(monkeypatch, files):
    monkeypatch.setattr(devices, "_runtime", lambda: Runtime("CPUExecutionProvider"))
    with pytest.raises(Unavailable, match="choose cpu"):
        open_device(files[0], "cuda", 1)
