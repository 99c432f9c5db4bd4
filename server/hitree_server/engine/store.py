"""Where state lies between steps, in two buffers: a step reads one and writes the other.

On the host rows are changed at once. On a device that would be many small copies, so what is done
to rows is noted as an index into the rows that there are, followed by fresh ones, and is carried
out right before a step as one gather onto the other buffer (`DeviceStore.settle`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hitree.bundle import StateTensor, Tensor

Array = NDArray[Any]  # Any: the manifest names the type
Arrays = dict[str, Array]
Rows = NDArray[np.int64]  # indices of rows, each once


class Block(Protocol):
    """Rows in the memory of a device."""

    def __getitem__(self, first: slice, /) -> Block:
        """Rows up to ``first.stop``."""
        ...


class Memory(Protocol):
    """What a `DeviceStore` needs of its device."""

    def empty(self, tensor: Tensor, rows: int) -> Block:
        """Memory for rows of a tensor, which holds anything."""
        ...

    def gather(
        self, index: Array, state: Mapping[str, Block], fresh: Arrays, to: Mapping[str, Block]
    ) -> None:
        """Write rows ``index`` of ``state`` followed by ``fresh`` to ``to``, by output names."""
        ...

    def fetch(self, index: Array, state: Mapping[str, Block], fresh: Arrays) -> Arrays:
        """The same rows, copied to the host, by output names."""
        ...


class HostStore:
    """State in numpy's arrays."""

    def __init__(self, tensors: Sequence[StateTensor], rows: int) -> None:
        self.side = 0  # which of the buffers the next step reads
        self._initial = {t.name: initial(t) for t in tensors}
        self._names = {t.name: t.output for t in tensors}
        self._buffers = tuple({t.name: array(t, rows) for t in tensors} for _ in "ab")

    @property
    def state(self) -> Arrays:
        """What the next step reads; each (max_rows, …)."""
        return self._buffers[self.side]

    @property
    def results(self) -> Arrays:
        """What the next step writes, by the graph's output names."""
        other = self._buffers[1 - self.side]
        return {output: other[name] for name, output in self._names.items()}

    def blank(self, rows: Rows) -> None:
        """Make rows as they are before their first step."""
        for name, column in self.state.items():
            column[rows] = self._initial[name]

    def move(self, source: Rows, to: Rows) -> None:
        """Copy rows to others."""
        for column in self.state.values():
            column[to] = column[source]

    def take(self, rows: Rows) -> Arrays:
        """A copy of rows, for `put`."""
        return {name: column[rows] for name, column in self.state.items()}

    def put(self, rows: Rows, kept: Arrays) -> None:
        """Have rows hold what `take` gave."""
        for name, column in self.state.items():
            column[rows] = kept[name]

    def flip(self) -> None:
        """Make what the last step wrote current."""
        self.side = 1 - self.side

    def keep(self, rows: int) -> None:
        """Take of what the last step wrote the first ``rows``; the others are as they were."""
        other = self._buffers[1 - self.side]
        for name, column in self.state.items():
            column[:rows] = other[name][:rows]

    def settle(self) -> None:
        """Nothing: what is done to rows is done at once."""


@dataclass(eq=False)
class Kept:
    """Rows that were taken from a device: still there, or fetched."""

    index: Array  # where they lie until the store settles
    arrays: tuple[Array, ...] | None = None  # of every tensor, from then on


class DeviceStore:
    """State that stays on a device."""

    def __init__(self, tensors: Sequence[StateTensor], rows: int, memory: Memory) -> None:
        self.side = 0
        self._tensors = tuple(tensors)
        self._memory = memory
        self._buffers = tuple({t.name: memory.empty(t, rows) for t in tensors} for _ in "ab")
        self._still = np.arange(rows)
        self._index = np.full(rows, rows)  # all rows begin as the first fresh one
        self._first = tuple(initial(t)[None] for t in tensors)
        self._fresh = [self._first]  # of every tensor; numbered on from the last row
        self._count = 1  # of fresh rows
        self._taken: list[Kept] = []  # to be fetched

    @property
    def state(self) -> dict[str, Block]:
        """What the next step reads, once the store has settled."""
        return self._buffers[self.side]

    @property
    def results(self) -> dict[str, Block]:
        """What the next step writes, by the graph's output names."""
        other = self._buffers[1 - self.side]
        return {t.output: other[t.name] for t in self._tensors}

    def blank(self, rows: Rows) -> None:
        """Make rows as they are before their first step."""
        self._index[rows] = len(self._still)

    def move(self, source: Rows, to: Rows) -> None:
        """Copy rows to others."""
        self._index[to] = self._index[source]

    def take(self, rows: Rows) -> Kept:
        """A copy of rows, for `put`; it is made as the store settles."""
        kept = Kept(self._index[rows])
        self._taken.append(kept)
        return kept

    def put(self, rows: Rows, kept: Kept) -> None:
        """Have rows hold what `take` gave."""
        if kept.arrays is None:
            self._index[rows] = kept.index
            return
        start = len(self._still) + self._count
        self._index[rows] = np.arange(start, start + len(kept.index))
        self._fresh.append(kept.arrays)
        self._count += len(kept.index)

    def flip(self) -> None:
        """Make what the last step wrote current."""
        self.side = 1 - self.side

    def keep(self, rows: int) -> None:
        """Take of what the last step wrote the first ``rows``; the others are as they were."""
        wrote, state = self._buffers[1 - self.side], self.state
        to = {t.output: state[t.name][:rows] for t in self._tensors}
        self._memory.gather(self._still[:rows], wrote, self._columns(), to)

    def settle(self) -> None:
        """Carry out what was done to rows.

        Where the device fails, everything is as before, and is carried out the next time.
        """
        if self._taken:
            self._fetch()
        if np.array_equal(self._index, self._still):
            return
        self._memory.gather(self._index, self.state, self._columns(), self.results)
        self.flip()
        self._index[:] = self._still
        self._fresh, self._count = [self._first], 1

    def _fetch(self) -> None:
        index = np.concatenate([kept.index for kept in self._taken])
        found = self._memory.fetch(index, self.state, self._columns())
        start = 0
        for kept in self._taken:
            rows = slice(start, start + len(kept.index))
            kept.arrays = tuple(found[t.output][rows] for t in self._tensors)
            start = rows.stop
        self._taken.clear()

    def _columns(self) -> Arrays:
        """The fresh rows of every tensor."""
        columns = zip(*self._fresh, strict=True)
        return {
            t.name: np.concatenate(column) for t, column in zip(self._tensors, columns, strict=True)
        }


def array(tensor: Tensor, rows: int) -> Array:
    """Zeros for rows of a tensor."""
    return np.zeros((rows, *tensor.shape), tensor.dtype)


def initial(tensor: StateTensor) -> Array:
    """One row of a tensor as it is before a first step."""
    values = np.asarray(tensor.initial, tensor.dtype)
    return np.broadcast_to(
        values.reshape(tensor.shape) if values.size > 1 else values, tensor.shape
    )
