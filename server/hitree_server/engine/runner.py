"""Turns a step into one call of the device, and what came back into marks.

Padding, buckets and tensor names are known here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hitree.stroke5 import ROW
from hitree_server.engine import noise
from hitree_server.engine.pens import FLUSH_SECONDS, Boundaries, Moves
from hitree_server.engine.sequence import NO_END, SAMPLED
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
        """``aside`` is called right before the device computes a step."""
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
                slots.flip()

    def run(self, step: Step, slots: Slots) -> Result:
        """Apply who joins, turns and leaves, and compute one step of all live rows.

        Raises:
            StepError: the device could not; every live row holds what it held before.
        """
        slots.arrange(step)
        n = slots.rows
        assert n == len(step.running), "the slots hold what the scheduler thinks they hold"
        if n == 0:
            return Result((), (), 0, 0, 0, 0.0)
        bucket = min(1 << (n - 1).bit_length(), slots.max_rows)
        ends = self._fill(slots, n)
        self._aside()
        self._compute(slots, n, bucket)
        origin = slots.state["position"][:n]
        slots.flip()
        broken = _broken(slots, origin)
        made = slots.outputs["made"][:n, 0].astype(np.int64)
        over = _over(slots.outputs["segment_end"][:n], made, ends)
        moves = Moves(origin, slots.outputs["rows"][:n], made, over)
        now = self._clock()
        horizon = now + self._seconds - FLUSH_SECONDS  # the next chance is a step away
        bounds = slots.pens.advance(moves, now, horizon)
        marks = _marks(slots, bounds, broken)
        drawn = int(made.sum())
        return Result(marks, broken, bounds.points, drawn, bucket, self._seconds)

    def _fill(self, slots: Slots, n: int) -> Array | None:
        """Lay out what the step reads; returns how leaves end with forced rows, (n, S), if any."""
        pens, inputs, graph = slots.pens, slots.inputs, self._graph
        inputs["noise"][:n] = noise.draw(pens.key[:n], pens.step[:n], graph.noise, graph.stride)
        inputs["may_end"][:n] = pens.may_end(n)
        limits = pens.limits(n)
        forced = pens.forced(n)
        inputs["force"][:n] = forced[:, None]
        ends = self._force(slots, limits, np.flatnonzero(forced)) if forced.any() else None
        inputs["limit"][:n, 0] = limits
        return ends

    def _force(self, slots: Slots, limits: Array, rows: Array) -> Array:
        """Have ``rows`` draw what is known of them, up to where a stroke or a leaf may end."""
        pens, inputs = slots.pens, slots.inputs
        places, until = slots.prefixes.ahead(pens, rows, self._graph.stride)
        taken = slots.prefixes.rows[places]  # (k, S, COLUMNS)
        inputs["forced"][rows] = taken[:, :, :ROW]
        known = np.full((len(limits), self._graph.stride), SAMPLED, np.float32)
        known[rows] = taken[:, :, ROW]
        # A leaf that is known to go on must not be stopped by chance.
        inputs["noise"][rows, :, -1] = np.where(
            known[rows] == NO_END, NEVER, inputs["noise"][rows, :, -1]
        )
        limits[rows] = until
        return known

    def _compute(self, slots: Slots, n: int, bucket: int) -> None:
        slots.inputs["limit"][n:bucket] = 0  # padding stays what it is
        began = self._clock()
        try:
            slots.settle()
            key = (bucket, slots.side)
            if key not in self._calls:
                self._calls[key] = self._device.bind(slots.feeds(bucket), slots.results(bucket))
            self._calls[key]()
        except Exception as exc:  # whatever the runtime raises; it has no error tree of its own
            raise StepError(str(exc) or type(exc).__name__) from exc
        self._seconds = self._clock() - began


def _over(sampled: Array, made: Array, ends: Array | None) -> Array:
    """Where segments are over, (n,): as it was sampled, or as is known of forced rows."""
    if ends is not None:
        sampled = np.where(ends == SAMPLED, sampled, ends)
    over: Array = sampled[np.arange(len(made)), made - 1] > 0.5
    return over


def _broken(slots: Slots, origin: Array) -> tuple[Sequence, ...]:
    """The sequences whose positions are not finite; they are made finite, to count on."""
    position = slots.state["position"][: slots.rows]
    finite = np.isfinite(position)
    if finite.all():
        return ()
    rows = np.flatnonzero(~finite.all(axis=1))
    position[rows], slots.outputs["rows"][rows] = origin[rows], 0
    return tuple(dict.fromkeys(slots.owners[row] for row in rows.tolist()))


def _marks(slots: Slots, bounds: Boundaries, broken: tuple[Sequence, ...]) -> tuple[Mark, ...]:
    rows = np.flatnonzero(bounds.due)
    if not len(rows):
        return ()
    flags = (bounds.stroke_over, bounds.leaf_over, bounds.exhausted, bounds.quiet)
    columns = (flag[rows].tolist() for flag in flags)
    owners = [slots.owners[row] for row in rows.tolist()]
    marks = tuple(map(Mark._make, zip(owners, slots.pens.take(rows), *columns, strict=True)))
    slots.lift(mark.sequence for mark in marks if mark.leaf_over)
    return tuple(mark for mark in marks if mark.sequence not in broken) if broken else marks
