"""Turns a step into one call of the device, and what came back into marks.

Padding, buckets and tensor names are known here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from hitree.stroke5 import ROW, SEGMENT
from hitree_server.engine.pens import FLUSH_SECONDS, Boundaries, Moves
from hitree_server.engine.sequence import END, NO_END
from hitree_server.engine.step import Mark, Result

if TYPE_CHECKING:
    from hitree.bundle import StepGraph
    from hitree_server.engine.sequence import Sequence
    from hitree_server.engine.slots import Slots
    from hitree_server.engine.step import Step
    from hitree_server.engine.store import Array, Block, DeviceStore

Call = Callable[[], None]

NEVER = 1.0  # as a uniform: below no probability


class Device(Protocol):
    """Computes steps of the graph."""

    @property
    def provider(self) -> str:
        """Where it computes: "cpu", "cuda", …"""
        ...

    def store(self, graph: StepGraph, rows: int, /) -> DeviceStore | None:
        """Where the state that steps alone need is to lie; None: on the host, like the rest."""
        ...

    def bind(
        self, inputs: Mapping[str, Array | Block], outputs: Mapping[str, Array | Block]
    ) -> Call:
        """A call that reads ``inputs`` and writes ``outputs``, the arrays' current contents."""
        ...


class Forced(NamedTuple):
    """What is known of a step's rows where some are forced."""

    ends: Array  # indices of the rows whose leaf is over after this step
    drawn: Array  # (n,) which draw points of the drawing, not its canvas


class StepError(Exception):
    """The device could not compute a step."""


def buckets(max_rows: int) -> tuple[int, ...]:
    """The batch sizes that are computed: powers of two, and ``max_rows`` itself."""
    powers = (1 << power for power in range(max_rows.bit_length()))
    return tuple(sorted({*(p for p in powers if p < max_rows), max_rows}))


class Runner:
    """Runs steps; owned by the engine's thread."""

    def __init__(
        self,
        graph: StepGraph,
        device: Device,
        clock: Callable[[], float],
        aside: Callable[[], None] = lambda: None,
    ) -> None:
        """``aside`` is called right before the device computes a step of all."""
        self._device = device
        self._graph = graph
        self._clock = clock
        self._aside = aside
        self._calls: dict[tuple[int, int], Call] = {}  # by bucket and by the slots' side
        self._seconds = 0.0  # that the last step took

    def warm_up(self, slots: Slots) -> None:
        """Compute one step of padding in every bucket, from either side of the state.

        Raises:
            StepError: the device cannot.
        """
        assert slots.rows == 0, "warming up needs empty slots"
        for bucket in buckets(slots.max_rows):
            for _ in "ab":
                self._compute(slots, 0, bucket)

    def run(self, step: Step, slots: Slots) -> Result:
        """Apply who joins and leaves, compute one step of who runs, and turn to other leaves.

        Raises:
            StepError: the device could not; every live row holds what it held before, but maybe
                those that went ahead.
        """
        slots.arrange(step)
        n = len(step.running)
        assert step.ahead or n == slots.rows, "the slots hold what the scheduler thinks they hold"
        if n == 0:
            return Result((), (), 0, 0, 0, 0.0)
        bucket = min(1 << (n - 1).bit_length(), slots.max_rows)
        forced = self._fill(slots, n)
        if not step.ahead:
            self._aside()
        self._compute(slots, n, bucket)
        moves = _moves(slots.outputs["points"][:n], slots.outputs["made"][:n], forced)
        broken = _broken(slots, moves.points)
        now = self._clock()
        horizon = now + self._seconds - FLUSH_SECONDS  # the next chance is a step away
        bounds = slots.pens.advance(moves, now, horizon)
        marks = _marks(slots, bounds)
        slots.turn(bounds.turning)
        drawn = int(moves.made.sum())
        return Result(marks, broken, bounds.points, drawn, bucket, self._seconds)

    def _fill(self, slots: Slots, n: int) -> Forced | None:
        """Lay out what the step reads; returns what is known of it, where rows are forced."""
        pens, inputs = slots.pens, slots.inputs
        inputs["noise"][:n] = pens.noise(n, self._graph.noise)
        limits, forced = pens.limits(n), pens.forced(n)
        inputs["force"][:n] = forced[:, None]
        inputs["begun"][:n, 0] = pens.step[:n] > 0
        known = self._force(slots, limits, np.flatnonzero(forced)) if forced.any() else None
        inputs["limit"][:n] = limits
        return known

    def _force(self, slots: Slots, limits: Array, rows: Array) -> Forced:
        """Have ``rows`` draw what is known of them, up to where a leaf may end."""
        pens, inputs, n = slots.pens, slots.inputs, len(limits)
        taken, until = slots.prefixes.ahead(pens, rows, self._graph.stride)
        inputs["forced"][rows], ends = taken[:, :, :ROW], taken[:, :, ROW]
        canvas = pens.on_canvas(n)
        inputs["begun"][:n, 0] += canvas  # whose strokes are as they are
        # A leaf that is known to go on must not be stopped by chance.
        chances = inputs["noise"][rows, 0, :, -1]
        inputs["noise"][rows, 0, :, -1] = np.where(ends == NO_END, NEVER, chances)
        limits[rows, 0], limits[rows, 1] = until, 0
        return Forced(rows[ends[np.arange(len(rows)), until - 1] == END], ~canvas)

    def _compute(self, slots: Slots, n: int, bucket: int) -> None:
        slots.inputs["limit"][n:bucket] = 0  # padding stays what it is
        began = self._clock()
        try:
            slots.settle()
            key = (bucket, slots.side)
            if key not in self._calls:
                self._calls[key] = self._device.bind(slots.feeds(bucket), slots.results(bucket))
            self._calls[key]()
            slots.keep(n)
        except Exception as exc:  # whatever the runtime raises; it has no error tree of its own
            raise StepError(str(exc) or type(exc).__name__) from exc
        self._seconds = self._clock() - began


def _moves(points: Array, made: Array, forced: Forced | None) -> Moves:
    """What the device drew; leaves end with the forced rows that they are known to end with."""
    counts = made.astype(np.int64)
    if forced is None:
        return Moves(points, counts)
    points[forced.ends, counts[forced.ends, 0] - 1, 2] = SEGMENT
    return Moves(points, counts, forced.drawn)


def _broken(slots: Slots, points: Array) -> tuple[Sequence, ...]:
    """The sequences whose points are not finite; they are made so, to count on."""
    if np.isfinite(points.sum()):
        return ()
    rows = np.flatnonzero(~np.isfinite(points).all(axis=(1, 2)))
    points[rows] = 0
    return tuple(slots.owners[row] for row in rows.tolist())


def _marks(slots: Slots, bounds: Boundaries) -> tuple[Mark, ...]:
    if not len(bounds.due):
        return ()
    owners, pieces = slots.owners, slots.pens.take(bounds.due)
    return tuple(
        Mark(owners[row], made, bounds.finished.get(row))
        for row, made in zip(bounds.due.tolist(), pieces, strict=True)
    )
