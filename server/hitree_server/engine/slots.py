"""What every row of the batch holds, in arrays made once.

Live rows are contiguous from 0, and those of one sequence lie side by side in order. When a
sequence leaves, the last one of its width moves into the gap. Where the graph's state lies is the
business of `hitree_server.engine.store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hitree.bundle import READ
from hitree.errors import BundleCorrupt
from hitree_server.engine import noise
from hitree_server.engine.pens import Pens, Prefixes
from hitree_server.engine.store import Array, Arrays, HostStore, array

if TYPE_CHECKING:
    from hitree.bundle import StepGraph
    from hitree_server.engine.sequence import Sequence
    from hitree_server.engine.store import Block, DeviceStore, Kept

INPUTS = frozenset({"noise", "temperature", "condition", "forced", "force", "may_end", "limit"})
OUTPUTS = frozenset({"rows", "segment_end", "made"})


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The rows of a sequence, copied out of the batch."""

    columns: tuple[Array, ...]
    state: Arrays
    away: Kept | None  # the state on a device


class Slots:
    """The rows of the batch; owned by the engine's thread."""

    def __init__(self, graph: StepGraph, max_rows: int, away: DeviceStore | None = None) -> None:
        """``away`` holds the state on a device but for what the engine itself reads."""
        _check_roles(graph)
        self.max_rows = max_rows
        self.inputs: Arrays = {t.name: array(t, max_rows) for t in graph.inputs}
        # Rows that were never used are computed as padding, and must not divide by zero.
        self.inputs["temperature"][:], self.inputs["noise"][:] = 1, 0.5
        self.outputs: Arrays = {t.name: array(t, max_rows) for t in graph.outputs}
        here = graph.state if away is None else [t for t in graph.state if t.name in READ]
        self._here, self._away = HostStore(here, max_rows), away
        self.pens = Pens(max_rows, graph.stride)
        kept = (self.inputs["condition"], self.inputs["temperature"])
        self._columns: tuple[Array, ...] = (*kept, *self.pens.columns)
        self.prefixes = Prefixes()
        self.owners: list[Sequence] = []  # of every live row
        self._start: dict[Sequence, int] = {}  # first row of every sequence

    @property
    def rows(self) -> int:
        """How many rows are live."""
        return len(self.owners)

    @property
    def side(self) -> int:
        """Which of the state's buffers the next step reads."""
        return self._here.side

    @property
    def state(self) -> Arrays:
        """The state on the host that the next step reads; each (max_rows, …)."""
        return self._here.state

    def feeds(self, bucket: int) -> dict[str, Array | Block]:
        """What a step of ``bucket`` rows reads, by the graph's input names."""
        away = self._away.state if self._away else {}
        return {name: a[:bucket] for name, a in (self.inputs | self.state | away).items()}

    def results(self, bucket: int) -> dict[str, Array | Block]:
        """What a step of ``bucket`` rows writes, by the graph's output names."""
        away = self._away.results if self._away else {}
        return {name: a[:bucket] for name, a in (self.outputs | self._here.results | away).items()}

    def settle(self) -> None:
        """Have the device hold what was done to rows; due before every step."""
        if self._away and self._away.settle():
            self._here.cross()

    def flip(self) -> None:
        """Make the state that the last step wrote the current one."""
        self._here.flip()
        if self._away:
            self._away.flip()

    def span(self, sequence: Sequence) -> slice:
        """The rows of a live sequence."""
        start = self._start[sequence]
        return slice(start, start + sequence.spec.rows)

    def join(self, sequence: Sequence) -> None:
        """Give a sequence rows: fresh ones, or what it was parked with."""
        assert sequence not in self._start, "a sequence owns its rows once"
        assert self.rows + sequence.spec.rows <= self.max_rows, "more rows than there are"
        self._start[sequence] = self.rows
        self.owners.extend([sequence] * sequence.spec.rows)
        rows = self.span(sequence)
        if isinstance(sequence.snapshot, Snapshot):
            self._restore(rows, sequence.snapshot)
            sequence.snapshot = None
        else:
            self._begin(sequence, rows)

    def turn(self, sequence: Sequence) -> None:
        """Begin the leaf ``sequence.leaf``."""
        rows, spec = self.span(sequence), sequence.spec
        leaf = spec.leaves[sequence.leaf]
        self.inputs["condition"][rows] = leaf.condition
        key = noise.key(spec.seed, spec.candidate, leaf.node)
        self.pens.turn(rows, key, sequence.leaf == len(spec.leaves) - 1)

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence's rows back and close the gap."""
        gap, width = self.span(sequence), sequence.spec.rows
        last = self.owners[-1]
        del self._start[sequence]
        if last is not sequence:
            movers = [last] if last.spec.rows == width else self._behind(gap.stop)
            self._move(movers, gap.start)
        del self.owners[-width:]

    def park(self, sequence: Sequence) -> None:
        """Take a sequence's rows back and keep what they hold for its next `join`."""
        rows = self.span(sequence)
        assert not self.pens.forced(self.rows)[rows].any(), "a prefix is never parked"
        columns = tuple(column[rows].copy() for column in self._columns)
        away = self._away.take(rows) if self._away else None
        sequence.snapshot = Snapshot(columns, self._here.take(rows), away)
        self.leave(sequence)

    def lift(self, rows: slice) -> None:
        """Have the pen lifted in the row that the next step reads: no stroke crosses leaves."""
        self.state["row"][rows, 2:] = (0, 1, 0)

    def _begin(self, sequence: Sequence, rows: slice) -> None:
        self._here.blank(rows)
        if self._away:
            self._away.blank(rows)
        self.pens.clear(rows)
        spec = sequence.spec
        self.inputs["temperature"][rows] = spec.temperature
        self.pens.max_points[rows] = spec.max_points
        self.pens.max_points_leaf[rows] = spec.max_points_leaf
        self.pens.known[rows] = spec.known
        self.prefixes.add(spec, self.pens, rows, rows.start)
        self.turn(sequence)

    def _restore(self, rows: slice, snapshot: Snapshot) -> None:
        for column, kept in zip(self._columns, snapshot.columns, strict=True):
            column[rows] = kept
        self._here.put(rows, snapshot.state)
        if self._away and snapshot.away:
            self._away.put(rows, snapshot.away)

    def _behind(self, row: int) -> list[Sequence]:
        """The sequences from ``row`` on, in order."""
        return list(dict.fromkeys(self.owners[row:]))

    def _move(self, movers: list[Sequence], to: int) -> None:
        """Copy the rows of neighbours down to row ``to``."""
        source = slice(self._start[movers[0]], self.span(movers[-1]).stop)
        length, shift = source.stop - source.start, source.start - to
        for column in self._columns:
            # numpy copies overlapping slices as if through a buffer
            column[to : to + length] = column[source]
        self._here.move(source, to)
        if self._away:
            self._away.move(source, to)
        self.owners[to : to + length] = self.owners[source]
        for mover in movers:
            self._start[mover] -= shift


def _check_roles(graph: StepGraph) -> None:
    """Refuse a graph whose tensors the engine has no roles for.

    Raises:
        BundleCorrupt: an input is missing or unknown, or an output or state tensor is missing.
    """
    inputs, outputs = {t.name for t in graph.inputs}, {t.name for t in graph.outputs}
    wrong = (inputs ^ INPUTS) | (READ - {t.name for t in graph.state}) | (OUTPUTS - outputs)
    if wrong:
        raise BundleCorrupt(
            f"the step graph {graph.file} lacks, or has beyond what the engine knows: "
            f"{', '.join(sorted(wrong))}; export the bundle again with this version"
        )
