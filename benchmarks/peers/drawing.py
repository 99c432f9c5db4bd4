"""What every peer draws with: a batch of drawings that is stepped as a whole.

It makes the very points that the project's engine makes, so that servers differ in how they serve
and in nothing else. Noise and device are the engine's own; the bookkeeping is written anew, with
numpy, as the user of another server would write it: who joins, leaves, budgets, and which points
are to be sent. Not safe for threads, but for `Batch.join`, which any thread may call.
"""

from __future__ import annotations

import base64
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hitree import bundle as bundles
from hitree.stroke5 import DRAWING, NOTHING, SEGMENT, STROKE
from hitree_server.engine import noise
from hitree_server.engine.device import open_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from hitree.bundle import StateTensor, StepGraph
    from hitree_server.engine.runner import Call, Device

ROWS = 64  # drawings that are made at a time
FLUSH_POINTS = 64  # most points that are held back
FLUSH_SECONDS = 0.033  # longest time that a point is held back
MAX_POINTS = 512  # most that a request may ask for
GRID = 4  # steps of the grid in a unit: points go out as integers


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be drawn."""

    seed: int
    temperature: float
    max_points: int
    max_points_leaf: int
    nodes: tuple[int, ...]  # ids of the leaves, in drawing order
    conditions: NDArray[np.float32]  # (leaves, C)

    @classmethod
    def of(cls, request: dict[str, Any]) -> Job:
        """Read a request."""
        raw = base64.b64decode(request["conditions"])
        return cls(
            seed=request["seed"],
            temperature=request["temperature"],
            max_points=min(request["max_points"], MAX_POINTS),
            max_points_leaf=request["max_points_leaf"],
            nodes=tuple(request["nodes"]),
            conditions=np.frombuffer(raw, np.float32).reshape(len(request["nodes"]), -1),
        )


class Studio:
    """A bundle's step graph."""

    def __init__(self, folder: Path) -> None:
        bundle = bundles.load(folder)
        self._graph = bundle.manifest.decoder
        self._device = open_device(bundle.file(self._graph.choose("cpu")[1]), "cpu", threads=1)

    def batch(self, rows: int = ROWS) -> Batch:
        """An empty batch."""
        return Batch(self._graph, self._device, rows)


class Sketch:
    """One drawing in a batch."""

    def __init__(self, batch: Batch, job: Job, name: str) -> None:
        self.job = job
        self.name = name  # whose it is, for the server
        self.leaf = 0  # index of the leaf that is being drawn
        self.row = -1  # in the batch; -1: it has none
        self.due = False  # there is something to send
        self.done = False  # nothing will come after what is due
        self.left = np.zeros((0, 4), np.int32)  # points that were not taken when it was done
        self._batch = batch

    @property
    def over(self) -> bool:
        """All of it was taken."""
        return self.done and not self.due

    def take(self) -> NDArray[np.int32]:
        """The points not taken, (N, 4): x and y on the grid, index of the stroke, node."""
        self.due = False
        if self.row >= 0:
            return self._batch.take(self.row)
        left, self.left = self.left, self.left[:0]
        return left

    def line(self) -> str:
        """What is due as a line of JSON: one flat list."""
        return json.dumps(self.take().ravel().tolist(), separators=(",", ":")) + "\n"


class Columns:
    """What is known of every row besides the graph's state; each array's first axis is the row.

    An axis of 2 is the leaf at hand and the one after it.
    """

    def __init__(self, rows: int) -> None:
        self.keys = np.zeros((rows, 2), np.uint64)  # of the noise
        self.steps = np.zeros((rows, 2), np.uint64)  # in the leaf
        self.nodes = np.zeros((rows, 2), np.int32)
        self.leaves_left = np.zeros(rows, np.int64)  # after the one at hand
        self.stroke = np.zeros(rows, np.int32)
        self.open = np.zeros(rows, np.bool_)  # the stroke has points
        self.points = np.zeros(rows, np.int64)
        self.points_leaf = np.zeros(rows, np.int64)
        self.max_points = np.zeros(rows, np.int64)
        self.max_points_leaf = np.zeros(rows, np.int64)
        self.held = np.zeros(rows, np.int64)  # points not taken
        self.since = np.zeros(rows, np.float64)  # when the oldest of them was made
        self.out = np.zeros((rows, MAX_POINTS + 1, 4), np.int32)
        self.all = tuple(vars(self).values())


class Batch:
    """Drawings that are made at the same time; live rows are contiguous from 0."""

    def __init__(self, graph: StepGraph, device: Device, rows: int) -> None:
        self.rows = rows
        self._graph, self._device = graph, device
        self._inputs = {t.name: np.zeros((rows, *t.shape), t.dtype) for t in graph.inputs}
        self._outputs = {t.name: np.zeros((rows, *t.shape), t.dtype) for t in graph.outputs}
        self._states = [{t.name: _initial(t, rows) for t in graph.state} for _ in "ab"]
        self._fresh = {t.name: _initial(t, 1)[0] for t in graph.state}
        self._calls: dict[tuple[int, int], Call] = {}
        self._side = 0  # the state that the next step reads
        self._seconds = 0.0  # that the last step took
        self._columns = Columns(rows)
        self._index = np.arange(rows)
        self._sketches: list[Sketch] = []  # by row
        self._waiting: deque[Sketch] = deque()

    @property
    def live(self) -> int:
        """Drawings that are being made or wait."""
        return len(self._sketches) + len(self._waiting)

    def join(self, job: Job, name: str = "") -> Sketch:
        """Have a drawing made; it joins at the next step that has a row for it."""
        sketch = Sketch(self, job, name)
        self._waiting.append(sketch)
        return sketch

    def step(self) -> list[Sketch]:
        """Make some points of every drawing; returns those that something is to be sent of."""
        while self._waiting and len(self._sketches) < self.rows:
            self._admit(self._waiting.popleft())
        n = len(self._sketches)
        if n == 0:
            return []
        self._compute(n)
        due, leaf_over, finished = self._advance(n, time.monotonic())
        for row in np.flatnonzero(leaf_over & ~finished).tolist():
            self._turn(row)
        sketches = [self._sketches[row] for row in np.flatnonzero(due).tolist()]
        for sketch in sketches:
            sketch.due = True
        for row in np.flatnonzero(finished)[::-1].tolist():  # the last first: rows move down
            self._leave(row)
        return sketches

    def bursts(self) -> Iterator[None]:
        """Draw to the end, for those that send all drawings at once; yields when it is time to."""
        self.step()  # first points go out as soon as they are there
        yield
        while self.live:
            until = time.monotonic() + FLUSH_SECONDS
            while self.live and time.monotonic() < until:
                self.step()
            yield

    def take(self, row: int) -> NDArray[np.int32]:
        """Hand out the points of a row that were not taken."""
        count = int(self._columns.held[row])
        self._columns.held[row] = 0
        return self._columns.out[row, :count].copy()

    def _compute(self, n: int) -> None:
        c, inputs, graph = self._columns, self._inputs, self._graph
        keys, steps = c.keys[:n].ravel(), c.steps[:n].ravel()
        uniforms = noise.draw(keys, steps, graph.noise, graph.stride)
        inputs["noise"][:n] = uniforms.reshape(n, 2, graph.stride, graph.noise)
        inputs["begun"][:n, 0] = c.points_leaf[:n] > 0
        left, most = c.max_points[:n] - c.points[:n], c.max_points_leaf[:n]
        inputs["limit"][:n, 0] = np.minimum(left, most - c.points_leaf[:n])
        inputs["limit"][:n, 1] = most * ((c.leaves_left[:n] > 0) & (left >= graph.stride))
        key = (n, self._side)
        if key not in self._calls:
            self._calls[key] = self._bind(n)
        began = time.monotonic()
        self._calls[key]()
        self._seconds = time.monotonic() - began
        self._side = 1 - self._side

    def _bind(self, n: int) -> Call:
        """A call that reads one state and writes the other: nothing is copied between steps."""
        before, after = self._states[self._side], self._states[1 - self._side]
        state = {t.output: after[t.name] for t in self._graph.state}
        feeds, results = self._inputs | before, self._outputs | state
        return self._device.bind(
            {name: array[:n] for name, array in feeds.items()},
            {name: array[:n] for name, array in results.items()},
        )

    def _advance(self, n: int, now: float) -> tuple[NDArray[np.bool_], ...]:
        """Take in a step; which rows are due, at the end of a leaf, and finished."""
        c, counts = self._columns, self._outputs["made"][:n].astype(np.int64)
        made, begun = counts.sum(axis=1), c.points[:n] > 0
        for index in range(self._graph.stride):
            for row in np.flatnonzero((counts[:, 0] == index) & (made > index)).tolist():
                self._turn(row)  # the graph went on to the next leaf
            self._take_in(index, made > index, now)
        ends = self._outputs["points"][self._index[:n], made - 1, 2]
        leaf_over = (ends >= SEGMENT) | (c.points_leaf[:n] >= c.max_points_leaf[:n])
        exhausted = c.points[:n] >= c.max_points[:n]
        finished = exhausted | (leaf_over & (c.leaves_left[:n] == 0))
        cut = leaf_over & c.open[:n]
        c.stroke[:n] += cut
        c.open[:n] &= ~cut
        # The next chance to send comes with the next step.
        late = (c.held[:n] > 0) & (c.since[:n] <= now + self._seconds - FLUSH_SECONDS)
        first = ~begun & (c.points[:n] > 0)
        full = c.held[:n] > FLUSH_POINTS - self._graph.stride
        return first | late | full | finished, leaf_over, finished

    def _take_in(self, index: int, made: NDArray[np.bool_], now: float) -> None:
        """Take in the row at ``index`` of those drawings that it was ``made`` of."""
        c, n = self._columns, len(made)
        x_y, ends = np.split(self._outputs["points"][:n, index], [2], axis=1)
        point = made & (ends[:, 0] < DRAWING)
        self._hold(x_y, point, now)
        c.steps[:n, 0] += made.astype(np.uint64)
        c.points[:n] += point
        c.points_leaf[:n] += point
        c.open[:n] = np.where(point, ends[:, 0] == NOTHING, c.open[:n])
        c.stroke[:n] += point & (ends[:, 0] >= STROKE)

    def _hold(self, x_y: NDArray[np.float32], point: NDArray[np.bool_], now: float) -> None:
        """Keep a point of every row that made one; the others write where nobody reads."""
        c, n = self._columns, len(point)
        rows, held = self._index[:n], c.held[:n]
        c.out[rows, held, :2] = x_y * GRID
        c.out[rows, held, 2], c.out[rows, held, 3] = c.stroke[:n], c.nodes[:n, 0]
        c.since[:n][point & (held == 0)] = now
        held += point

    def _admit(self, sketch: Sketch) -> None:
        row, c = len(self._sketches), self._columns
        sketch.row = row
        self._sketches.append(sketch)
        for column in c.all:
            column[row] = 0
        for name, array in self._states[self._side].items():
            array[row] = self._fresh[name]
        self._inputs["temperature"][row] = sketch.job.temperature
        c.max_points[row] = sketch.job.max_points
        c.max_points_leaf[row] = sketch.job.max_points_leaf
        self._begin(sketch)

    def _begin(self, sketch: Sketch) -> None:
        """Begin the leaf ``sketch.leaf``."""
        row, leaf, job, c = sketch.row, sketch.leaf, sketch.job, self._columns
        for place, node in enumerate(job.nodes[leaf : leaf + 2]):
            self._inputs["condition"][row, place] = job.conditions[leaf + place]
            c.keys[row, place], c.nodes[row, place] = noise.key(job.seed, 0, node), node
        left = c.leaves_left[row] = len(job.nodes) - 1 - leaf
        self._inputs["last"][row] = left == 0, left == 1
        c.steps[row] = c.points_leaf[row] = 0

    def _turn(self, row: int) -> None:
        """Go on to the next leaf."""
        self._sketches[row].leaf += 1
        self._begin(self._sketches[row])

    def _leave(self, row: int) -> None:
        """Free a row; the last one moves into the gap."""
        sketch, last = self._sketches[row], self._sketches.pop()
        sketch.left = self.take(row)
        sketch.done, sketch.row = True, -1
        if last is sketch:
            return
        kept = [self._inputs[name] for name in ("condition", "temperature", "last")]
        for array in (*self._columns.all, *self._states[self._side].values(), *kept):
            array[row] = array[last.row]
        self._sketches[row], last.row = last, row


def _initial(tensor: StateTensor, rows: int) -> NDArray[np.float32]:
    values = np.asarray(tensor.initial, tensor.dtype)
    one = values.reshape(tensor.shape) if values.size > 1 else values
    return np.tile(np.broadcast_to(one, tensor.shape), (rows, *[1] * len(tensor.shape)))
