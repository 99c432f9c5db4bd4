"""What every row of the batch holds, in arrays made once.

Live rows are contiguous from 0. Who joins gets the row of somebody who leaves; where more leave
than join, the last ones move into the gaps. What is done to several rows is done to all at once.
Where the graph's state lies is the business of `hitree_server.engine.store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: what a store keeps is its own business

import numpy as np

from hitree.errors import BundleCorrupt
from hitree_server.engine.pens import Pens, Prefixes
from hitree_server.engine.store import HostStore, array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hitree.bundle import StepGraph
    from hitree_server.engine.sequence import Sequence
    from hitree_server.engine.step import Step
    from hitree_server.engine.store import Array, Arrays, Block, DeviceStore, Rows

KEPT = ("condition", "temperature", "last")  # inputs that stay what they are from step to step
INPUTS = frozenset({*KEPT, "noise", "forced", "force", "begun", "limit"})
OUTPUTS = frozenset({"points", "made"})


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The row of a sequence, copied out of the batch."""

    columns: tuple[Array, ...]
    state: Any


class Slots:
    """The rows of the batch; owned by the engine's thread."""

    def __init__(self, graph: StepGraph, max_rows: int, away: DeviceStore | None = None) -> None:
        """``away`` holds the graph's state on a device."""
        _check_roles(graph)
        self.max_rows = max_rows
        self.inputs: Arrays = {t.name: array(t, max_rows) for t in graph.inputs}
        # Rows that were never used are computed as padding, and must not divide by zero.
        self.inputs["temperature"][:], self.inputs["noise"][:] = 1, 0.5
        self.outputs: Arrays = {t.name: array(t, max_rows) for t in graph.outputs}
        self._store = away or HostStore(graph.state, max_rows)
        self.pens = Pens(max_rows, graph.stride)
        kept = (self.inputs[name] for name in KEPT)
        self._columns: tuple[Array, ...] = (*kept, *self.pens.columns)
        self.prefixes = Prefixes()
        self.owners: list[Sequence] = []  # of every live row
        self._row: dict[Sequence, int] = {}

    @property
    def rows(self) -> int:
        """How many rows are live."""
        return len(self.owners)

    @property
    def side(self) -> int:
        """Which of the state's buffers the next step reads."""
        return self._store.side

    def feeds(self, bucket: int) -> dict[str, Array | Block]:
        """What a step of ``bucket`` rows reads, by the graph's input names."""
        return {name: a[:bucket] for name, a in (self.inputs | self._store.state).items()}

    def results(self, bucket: int) -> dict[str, Array | Block]:
        """What a step of ``bucket`` rows writes, by the graph's output names."""
        return {name: a[:bucket] for name, a in (self.outputs | self._store.results).items()}

    def settle(self) -> None:
        """Have the device hold what was done to rows; due before every step."""
        self._store.settle()

    def flip(self) -> None:
        """Make the state that the last step wrote the current one."""
        self._store.flip()

    def keep(self, rows: int) -> None:
        """Take of the state that the last step wrote the first ``rows``."""
        if rows == self.rows:
            self.flip()
        else:
            self._store.keep(rows)

    def arrange(self, step: Step) -> None:
        """Apply who leaves and who joins; those who go ahead get the first rows."""
        for sequence in step.parks:
            self._park(sequence)
        gaps = sorted(self._row.pop(s) for s in (*step.parks, *step.departures))
        self._place(step.joins, gaps[: len(step.joins)], first=step.ahead)
        if len(gaps) > len(step.joins):
            self._close(gaps[len(step.joins) :])
        again = [s for s in step.joins if isinstance(s.snapshot, Snapshot)]
        for sequence in again:
            self._restore(sequence)
        if len(step.joins) > len(again):
            self._begin([s for s in step.joins if s not in again])

    def turn(self, rows: Rows) -> None:
        """Lay out the leaf that each of ``rows`` is at, and the one after it."""
        left, conditions = self.pens.leaves_left[rows], self.inputs["condition"]
        self.inputs["last"][rows] = left[:, None] == (0, 1)
        keys = list[tuple[int, ...]]()
        for row, after in zip(rows.tolist(), left.tolist(), strict=True):
            sequence = self.owners[row]
            at = len(sequence.spec.leaves) - 1 - after
            keys.append(sequence.keys[at : at + 2])
            for place, leaf in enumerate(sequence.spec.leaves[at : at + 2]):
                conditions[row, place] = leaf.condition
        self.pens.keys[rows] = np.array(keys, np.uint64).reshape(-1, 2)

    def _rows(self, sequences: Iterable[Sequence]) -> Rows:
        return np.array([self._row[sequence] for sequence in sequences], np.int64)

    def _place(self, joins: Collection[Sequence], gaps: list[int], *, first: bool) -> None:
        """Make sequences owners of rows: of the gaps, as far as they go, or of the ``first``."""
        assert not self._row.keys() & set(joins), "a sequence owns its row once"
        assert self.rows + len(joins) - len(gaps) <= self.max_rows, "more rows than there are"
        places = [*gaps, *range(self.rows, self.rows + len(joins) - len(gaps))]
        self.owners += list(joins)[len(gaps) :]
        if first:
            wanted = range(len(places))
            self._move(sorted({*wanted} - {*places}), sorted({*places} - {*wanted}))
            places = list(wanted)
        for sequence, row in zip(joins, places, strict=True):
            self.owners[row], self._row[sequence] = sequence, row

    def _close(self, gaps: list[int]) -> None:
        """Move the last rows into gaps."""
        rows = self.rows - len(gaps)
        source = sorted({*range(rows, self.rows)} - {*gaps})
        self._move(source, [gap for gap in gaps if gap < rows])
        del self.owners[rows:]

    def _move(self, source: list[int], to: list[int]) -> None:
        """Move rows to where nobody's are."""
        if not source:
            return
        rows, places = np.array(source), np.array(to)
        for column in self._columns:
            column[places] = column[rows]
        self._store.move(rows, places)
        for old, new in zip(source, to, strict=True):
            self.owners[new] = self.owners[old]
            self._row[self.owners[new]] = new

    def _begin(self, fresh: list[Sequence]) -> None:
        rows = self._rows(fresh)
        self._store.blank(rows)
        specs = [sequence.spec for sequence in fresh]
        self.inputs["temperature"][rows, 0] = [spec.temperature for spec in specs]
        self.pens.begin(rows, specs)
        for row, spec in zip(rows.tolist(), specs, strict=True):
            self.prefixes.add(spec, self.pens, row, self.rows)
        self.turn(rows)

    def _park(self, sequence: Sequence) -> None:
        """Keep what a sequence's row holds for when it joins again."""
        rows = self._rows([sequence])
        assert not self.pens.forced(self.rows)[rows].any(), "a prefix is never parked"
        columns = tuple(column[rows] for column in self._columns)
        sequence.snapshot = Snapshot(columns, self._store.take(rows))

    def _restore(self, sequence: Sequence) -> None:
        rows, snapshot = self._rows([sequence]), sequence.snapshot
        assert isinstance(snapshot, Snapshot)
        for column, kept in zip(self._columns, snapshot.columns, strict=True):
            column[rows] = kept
        self._store.put(rows, snapshot.state)
        sequence.snapshot = None


def _check_roles(graph: StepGraph) -> None:
    """Refuse a graph whose tensors the engine has no roles for.

    Raises:
        BundleCorrupt: an input is missing or unknown, or an output is missing.
    """
    inputs, outputs = {t.name for t in graph.inputs}, {t.name for t in graph.outputs}
    wrong = (inputs ^ INPUTS) | (OUTPUTS - outputs)
    if wrong:
        raise BundleCorrupt(
            f"the step graph {graph.file} lacks, or has beyond what the engine knows: "
            f"{', '.join(sorted(wrong))}; export the bundle again with this version"
        )
