"""State on a device against state on the host: the same rows, whatever is done to them."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hitree.bundle import StateTensor, Tensor
from hitree_server.engine.store import Array, Arrays, Block, DeviceStore, HostStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROWS = 9
TENSORS = (
    StateTensor("h", (3,), output="h_out", initial=(7,)),
    StateTensor("memory", (2, 2), output="memory_out", initial=(1, 2, 3, 4)),
)
OUTPUTS = {t.name: t.output for t in TENSORS}


class NumpyMemory:
    """A device made of numpy, some of whose calls fail."""

    def __init__(self, seed: int = 0, failing: float = 0.0) -> None:
        self.dice, self.failing = random.Random(seed), failing
        self.calls: list[str] = []

    def empty(self, tensor: Tensor, rows: int) -> Array:
        return np.full((rows, *tensor.shape), np.nan, tensor.dtype)

    def gather(
        self, index: Array, state: Mapping[str, Block], fresh: Arrays, to: Mapping[str, Block]
    ) -> None:
        self._called("gather")
        for name, column in state.items():
            np.copyto(to[OUTPUTS[name]], np.concatenate([column, fresh[name]])[index])

    def fetch(self, index: Array, state: Mapping[str, Block], fresh: Arrays) -> Arrays:
        self._called("fetch")
        return {
            OUTPUTS[n]: np.concatenate([column, fresh[n]])[index] for n, column in state.items()
        }

    def _called(self, name: str) -> None:
        if self.dice.random() < self.failing:
            raise RuntimeError("out of memory")
        self.calls.append(name)


def able(done: Callable[[], None]) -> None:
    """Have something done, once the device is able to."""
    while True:
        try:
            return done()
        except RuntimeError:
            continue


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_what_they_are_on_the_host_whatever_is_done_to_them(seed):
    dice = random.Random(seed)
    host = HostStore(TENSORS, ROWS)
    host.blank(np.arange(ROWS))
    device = DeviceStore(TENSORS, ROWS, NumpyMemory(seed, failing=0.3))
    kept = []
    for _ in range(120):
        rows = np.array(dice.sample(range(ROWS), dice.randrange(1, ROWS)))
        match dice.choice(["blank", "move", "take", "put", "step", "step", "ahead"]):
            case "blank":
                host.blank(rows)
                device.blank(rows)
            case "move":
                to = np.array(dice.sample(range(ROWS), len(rows)))
                host.move(rows, to)
                device.move(rows, to)
            case "take":
                kept.append((len(rows), host.take(rows), device.take(rows)))
            case "put" if kept:
                width, ours, theirs = kept.pop(dice.randrange(len(kept)))
                rows = np.array(dice.sample(range(ROWS), width))
                host.put(rows, ours)
                device.put(rows, theirs)
            case "step":
                compute(host, device)
                host.flip()
                device.flip()
            case "ahead":
                compute(host, device)
                host.keep(len(rows))
                able(partial(device.keep, len(rows)))


def compute(host: HostStore, device: DeviceStore) -> None:
    """Compare what a step reads, and write something else."""
    able(device.settle)
    for name, column in host.state.items():
        assert np.array_equal(column, device.state[name]), name
        host.results[OUTPUTS[name]][:] = column * 2 + 1
        device.results[OUTPUTS[name]][:] = device.state[name] * 2 + 1


def test_a_step_after_which_nobody_came_or_went_asks_nothing_of_the_device():
    memory = NumpyMemory()
    store = DeviceStore(TENSORS, ROWS, memory)
    store.settle()  # all rows begin as fresh ones
    store.flip()
    store.settle()
    assert (memory.calls, store.side) == (["gather"], 0)
    store.blank(np.array([2, 3]))
    store.move(np.array([4, 5]), np.array([2, 3]))
    store.settle()
    assert (memory.calls, store.side) == (["gather"] * 2, 1)
    store.take(np.array([1]))
    store.settle()
    assert (memory.calls, store.side) == (["gather", "gather", "fetch"], 1)


def test_on_the_host_there_is_nothing_to_settle():
    store = HostStore(TENSORS, ROWS)
    store.state["h"][:] = 5
    store.blank(np.array([2]))
    for _ in "ab":
        store.settle()
        assert store.side == 0
        assert store.state["h"][:, 0].tolist() == [5, 5, 7, 5, 5, 5, 5, 5, 5]
