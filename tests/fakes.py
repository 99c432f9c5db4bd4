"""Fakes at the seams of the server: a clock, a device, and small step graphs with real names."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from hitree.bundle import StateTensor, StepGraph, Tensor
from hitree.stroke5 import DOWN, DRAWING, END, SEGMENT, STROKE, UP
from hitree_server.engine import (
    Ended,
    Engine,
    EngineSettings,
    Leaf,
    PointsMade,
    SequenceSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HIDDEN, CONDITION = 8, 3


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def step_graph(
    *,
    hidden: int = HIDDEN,
    condition: int = CONDITION,
    extra: tuple[StateTensor, ...] = (),
    stride: int = 1,
) -> StepGraph:
    """The manifest's description of a sketch decoder without a canvas."""
    return StepGraph(
        file="decoder_step.onnx",
        inputs=(
            Tensor("noise", (2, stride, 5)),
            Tensor("temperature", (1,)),
            Tensor("condition", (2, condition)),
            Tensor("forced", (stride, 5)),
            Tensor("force", (stride,)),
            Tensor("last", (2,)),
            Tensor("begun", (1,)),
            Tensor("limit", (2,)),
        ),
        outputs=(Tensor("points", (stride, 3)), Tensor("made", (2,))),
        state=(
            StateTensor("row", (5,), output="row_out", initial=(0, 0, 0, 1, 0)),
            StateTensor("position", (2,), output="position_out", initial=(128, 128)),
            StateTensor("h", (hidden,), output="h_out"),
            StateTensor("c", (hidden,), output="c_out"),
            *extra,
        ),
        noise=5,
        stride=stride,
    )


def memory_graph(stride: int = 1) -> StepGraph:
    """A graph with a state tensor that the plain one lacks."""
    memory = StateTensor("memory", (2, 3), output="memory_out", initial=(1, 2, 3, 4, 5, 6))
    return step_graph(extra=(memory,), stride=stride)


class FakeDevice:
    """A decoder in a few lines of numpy, with a memory where the graph has one."""

    provider = "fake"

    def __init__(self, *, lift: float = 0.2, segment_end: float = 0.4) -> None:
        self.lift, self.segment_end = lift, segment_end  # chances
        self.buckets: list[int] = []  # of every call that was computed
        self.failures = 0  # how many of the next calls fail
        self.poison: float | None = None  # a condition that makes positions infinite
        self.before: Callable[[], None] = lambda: None  # called at the start of every call

    def store(self, _graph: StepGraph, _rows: int, /) -> None:
        return None

    def bind(
        self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> Callable[[], None]:
        return lambda: self._run(inputs, outputs)

    def _run(self, i: Mapping[str, np.ndarray], o: Mapping[str, np.ndarray]) -> None:
        self.before()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the device is on strike")
        self.buckets.append(len(i["row"]))
        names = [name.removesuffix("_out") for name in o if name.endswith("_out")]
        state = {name: i[name].copy() for name in names}
        limit, rows, stride = i["limit"], np.arange(len(i["row"])), o["points"].shape[1]
        leaf = np.zeros(len(rows), np.int64)  # the one at hand, or the next one
        drawn = np.zeros((len(rows), 2), np.int64)
        live = limit[:, 0] > 0
        state["row"][live & (i["begun"][:, 0] == 0), DOWN:] = 0, 1, 0  # the pen is lifted
        for index in range(stride):
            told = _told(i, index, leaf, drawn[rows, leaf])
            for name, value in self._once(told, state).items():
                where = live.reshape(-1, *[1] * (value.ndim - 1))
                state[name] = np.where(where, value, state[name])
            ends = self._ends(state["row"], told["noise"])
            o["points"][:, index] = np.column_stack([state["position"], ends])
            drawn[rows, leaf] += live
            crosses = live & (leaf == 0) & (ends == SEGMENT) & (limit[:, 1] > 0)
            goes_on = (ends < SEGMENT) & (drawn[rows, leaf] < limit[rows, leaf])
            live, leaf = live & (goes_on | crosses), leaf + crosses
        o["made"][:] = drawn
        for name, value in state.items():
            o[f"{name}_out"][:] = value

    def _once(
        self, i: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        forced, force, condition = i["forced"], i["force"], i["condition"]
        drive = condition.sum(axis=1, keepdims=True) + state["row"][:, :1] / 8
        made = {
            "h": np.tanh(0.5 * state["h"] + drive).astype(np.float32),
            "c": state["c"] + forced[:, :1] * force,
        }
        push = made["h"][:, :2]
        if "memory" in state:
            made["memory"] = 0.9 * state["memory"] + push[:, :, None]
            push = push + made["memory"][:, :, 0]
        sampled = self._sample(i["noise"], i["temperature"], i["may_end"], state["row"], push)
        row = made["row"] = np.where(force > 0, forced, sampled)
        made["position"] = state["position"] + (row[:, 4:] < 0.5) * row[:, :2]
        made["position"][condition[:, 0] == self.poison] = np.inf
        return made

    def _ends(self, row: np.ndarray, noise: np.ndarray) -> np.ndarray:
        stroke = (row[:, UP] > 0) * (STROKE + (noise[:, 4] < self.segment_end))
        return np.where(row[:, END] > 0, DRAWING, stroke)

    def _sample(
        self,
        noise: np.ndarray,
        temperature: np.ndarray,
        may_end: np.ndarray,
        last: np.ndarray,
        push: np.ndarray,
    ) -> np.ndarray:
        row = np.zeros_like(last)
        offset = (noise[:, 1:3] - 0.5) * 40 * temperature + push
        ends = (may_end > 0) & (last[:, 3] > 0) & (noise[:, 3] > 0.8)
        lifts = ~ends & (noise[:, 3] < self.lift)
        row[:, :2] = np.rint(offset * 4) / 4 * ~ends[:, None]
        row[:, 2], row[:, 3], row[:, 4] = ~ends & ~lifts, lifts, ends
        return row


def _told(
    i: Mapping[str, np.ndarray], index: int, leaf: np.ndarray, at: np.ndarray
) -> dict[str, np.ndarray]:
    """What the inputs say of a step's row ``index``, the ``at``-th that it draws under ``leaf``."""
    rows = np.arange(len(leaf))
    first = (at == 0) & ((leaf > 0) | (i["begun"][:, 0] == 0))
    return {
        "noise": i["noise"][rows, leaf, at],
        "temperature": i["temperature"],
        "condition": i["condition"][rows, leaf],
        "forced": i["forced"][:, index],
        "force": i["force"][:, index : index + 1],
        "may_end": i["last"][rows, leaf] * ~first,
    }


class SteppedEngine(Engine):
    """An engine without a thread: the test calls ``tick``."""

    def _launch(self) -> None:
        self._warm_up()

    def run(self) -> None:
        """Tick until there is nothing to do."""
        for _ in range(20_000):
            if not self.tick():
                return
        raise AssertionError("the engine does not come to rest")


def stepped(
    device: FakeDevice | None = None,
    clock: FakeClock | None = None,
    graph: StepGraph | None = None,
    **limits: int,
) -> SteppedEngine:
    """An engine without a thread, started; ``limits`` are of its settings."""
    engine = SteppedEngine(
        graph or step_graph(),
        device or FakeDevice(),
        EngineSettings(**limits),
        clock or FakeClock(),
    )
    engine.start()
    return engine


def points(events: list[object]) -> np.ndarray:
    """All points of a stream, (N, 2)."""
    made = [e.positions for e in events if isinstance(e, PointsMade)]
    return np.concatenate(made) if made else np.zeros((0, 2), np.float32)


def flat(events: list[object]) -> list[tuple[object, ...]]:
    """Events with their points one by one, however they were bundled."""
    told = list[tuple[object, ...]]()
    for event in events:
        if isinstance(event, PointsMade):
            points = zip(event.positions.tolist(), event.t_ms.tolist(), strict=True)
            told += [("point", *each, event.stroke, event.leaf) for each in points]
        else:
            told.append((type(event).__name__, *event[: 3 if isinstance(event, Ended) else None]))
    return told


def spec(seed: int = 1, **changes: Any) -> SequenceSpec:
    """A drawing of three leaves."""
    leaves = tuple(Leaf(node, np.full(CONDITION, node / 8, np.float32)) for node in range(1, 4))
    default = SequenceSpec(
        request_id=f"request-{seed}",
        leaves=leaves,
        seed=seed,
        max_points=200,
        max_points_leaf=80,
    )
    return replace(default, **changes)


async def settle() -> None:
    """Let the event loop run what other threads or callbacks have scheduled on it."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


_ONNX = """
<ir_version: 9, opset_import: ["" : 18]>
step (float[B,2,1,5] noise, float[B,1] temperature, float[B,2,C] condition, float[B,1,5] forced,
      float[B,1] force, float[B,2] last, float[B,1] begun, float[B,2] limit, float[B,5] row,
      float[B,2] position, float[B,H] h, float[B,H] c)
  => (float[B,1,3] points, float[B,2] made, float[B,5] row_out, float[B,2] position_out,
      float[B,H] h_out, float[B,H] c_out)
<float one = {1}, float half = {0.5}, float grid = {4}, float reach = {30}, float lift = {0.1},
 float close = {0.3}, float rare = {0.9}, float drawing = {3}, float[1,3] lifted = {0, 1, 0},
 float[2] most = {1, 0}, int64 at_hand = {0}>
{
  under = Gather <axis = 1> (condition, at_hand)
  may_last, _ = Split <axis = 1, num_outputs = 2> (last)
  may_end = Mul (may_last, begun)
  way, flags = Split <axis = 1> (row, parts)
  is_begun = Greater (begun, half)
  before = Where (is_begun, flags, lifted)
  x = Concat <axis = 1> (way, before, under, h)
  gates_raw = MatMul (x, W)
  gates = Add (gates_raw, b)
  i_raw, f_raw, o_raw, g_raw = Split <axis = 1, num_outputs = 4> (gates)
  i = Sigmoid (i_raw)
  f = Sigmoid (f_raw)
  o = Sigmoid (o_raw)
  g = Tanh (g_raw)
  kept = Mul (f, c)
  fresh = Mul (i, g)
  c_out = Add (kept, fresh)
  squashed = Tanh (c_out)
  h_out = Mul (o, squashed)
  mean = MatMul (h_out, V)
  leaf_noise = Gather <axis = 1> (noise, at_hand)
  uniforms = Squeeze (leaf_noise, one_axis)
  n_mix, n_xy, n_pen, n_end = Split <axis = 1> (uniforms, widths)
  centred = Sub (n_xy, half)
  spread = Mul (centred, temperature)
  raw = Add (mean, spread)
  wide = Mul (raw, reach)
  wide_grid = Mul (wide, grid)
  rounded = Round (wide_grid)
  offset = Div (rounded, grid)
  is_rare = Greater (n_pen, rare)
  rarely = Cast <to = 1> (is_rare)
  ends = Mul (rarely, may_end)
  is_lift = Less (n_pen, lift)
  lifts = Cast <to = 1> (is_lift)
  not_down = Add (ends, lifts)
  down = Sub (one, not_down)
  sampled = Concat <axis = 1> (offset, down, lifts, ends)
  forcing = Greater (force, half)
  given = Squeeze (forced, one_axis)
  row_out = Where (forcing, given, sampled)
  xy, pen, up, end = Split <axis = 1> (row_out, columns)
  stays = Sub (one, end)
  move = Mul (xy, stays)
  position_out = Add (position, move)
  is_close = Less (n_end, close)
  closes = Cast <to = 1> (is_close)
  segment = Add (closes, one)
  up_ends = Mul (up, segment)
  end_ends = Mul (end, drawing)
  what_ends = Add (up_ends, end_ends)
  point = Concat <axis = 1> (position_out, what_ends)
  points = Unsqueeze (point, one_axis)
  made = Min (limit, most)
}
"""


def write_step_graph(
    path: Path, *, hidden: int = 32, condition: int = 16, seed: int = 0
) -> StepGraph:
    """Write a small LSTM decoder with random weights as ONNX; returns its description."""
    rng = np.random.default_rng(seed)
    width = 5 + condition + hidden

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1 / np.sqrt(shape[0])
        return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)

    model = parser.parse_model(_ONNX.replace("2,C", f"2,{condition}").replace("B,H", f"B,{hidden}"))
    model.graph.initializer.extend(
        [
            weights("W", width, 4 * hidden),
            weights("b", 4 * hidden),
            weights("V", hidden, 2),
            numpy_helper.from_array(np.array([1, 2, 1, 1], np.int64), "widths"),
            numpy_helper.from_array(np.array([2, 1, 1, 1], np.int64), "columns"),
            numpy_helper.from_array(np.array([2, 3], np.int64), "parts"),
            numpy_helper.from_array(np.array([1], np.int64), "one_axis"),
        ]
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return replace(step_graph(hidden=hidden, condition=condition), file=path.name)
