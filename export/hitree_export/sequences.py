"""Whole sequences, drawn step by step and side by side, as whoever serves the decoder draws them.

Each goes on from leaf to leaf until it has `LENGTH` points, under two conditions in turn. Its noise
depends on the leaf and the row within, so that it does not matter how many rows a step draws, or
whether it is the step that goes on to the next leaf or its caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from hitree.drawing import CENTRE
from hitree.stroke5 import DRAWING, SEGMENT, STROKE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hitree.bundle import StepGraph

    Array = NDArray[np.float32] | NDArray[np.int64]
    Feed = dict[str, Array]
    Run = Callable[[Feed], Feed]

SEQUENCES, LENGTH = 32, 60  # at most, and their points


@dataclass(frozen=True)
class Drawn:
    """Sequences that were drawn side by side."""

    points: NDArray[np.float32]  # (length, sequences, 3), as the graph gives them
    state: Feed  # after the last one


@dataclass(frozen=True)
class _Place:
    """Where sequences are, (sequences,) each."""

    leaf: NDArray[np.int64]  # leaves that are over
    row: NDArray[np.int64]  # rows of the leaf at hand
    drawn: NDArray[np.int64]  # rows in all

    def after(self, made: NDArray[np.int64], ends: NDArray[np.float32]) -> _Place:
        """The place when ``made`` (sequences, 2) more rows are; ``ends`` are of (length, …)."""
        crossed, drawn = made[:, 1] > 0, self.drawn + made.sum(axis=1)
        over = ends[drawn - 1, np.arange(len(drawn))] >= SEGMENT
        row = np.where(crossed, made[:, 1], self.row + made[:, 0])
        return _Place(self.leaf + crossed + over, np.where(over, 0, row), drawn)


def draw(
    run: Run,
    graph: StepGraph,
    inputs: Feed,
    *,
    first: int = 0,
    sent: NDArray[np.float32] | None = None,
) -> Drawn:
    """Draw from the initial state; sequence s has the noise of sequence ``first + s``.

    ``inputs`` are two leaves of each sequence. Points that were ``sent`` (length, sequences, 3) are
    made again, and no step goes on to the next leaf then.
    """
    count = len(inputs["noise"])
    feed = inputs | _initial(graph, count)
    feed["force"] = np.full_like(inputs["force"], sent is not None)
    points = np.zeros((LENGTH, count, 3), np.float32)
    ends = (points if sent is None else sent)[..., 2]
    at = _Place(*np.zeros((3, count), np.int64))
    while (at.drawn < LENGTH).any():
        feed |= _leaves(graph, inputs, at, first)
        feed |= _free(at, graph.stride) if sent is None else _again(at, graph.stride, sent)
        out = run(feed)
        feed |= {tensor.name: out[tensor.output] for tensor in graph.state}
        made = out["made"].astype(np.int64)
        there = np.arange(graph.stride) < made.sum(axis=1, keepdims=True)  # (sequences, S)
        rows, which = _ahead(at, graph.stride)
        points[rows[there], np.broadcast_to(which, there.shape)[there]] = out["points"][there]
        at = at.after(made, ends)
    return Drawn(points, {tensor.name: feed[tensor.name] for tensor in graph.state})


def _initial(graph: StepGraph, count: int) -> Feed:
    feed: Feed = {}
    for tensor in graph.state:
        one = np.zeros(tensor.shape, np.float32)
        one.reshape(-1)[:] = tensor.initial  # a single value fills all
        feed[tensor.name] = np.repeat(one[None], count, axis=0)
    return feed


def _leaves(graph: StepGraph, inputs: Feed, at: _Place, first: int) -> Feed:
    """What steps take of the leaves at hand and the next ones."""
    each = np.arange(len(at.leaf))[:, None]
    leaves = at.leaf[:, None] + np.arange(2)  # (sequences, 2)
    rows = np.stack([at.row, 0 * at.row], axis=1)[..., None] + np.arange(graph.stride)
    noise = _noise(graph.noise)[leaves[..., None] % LENGTH, rows % LENGTH, first + each[..., None]]
    two = {name: inputs[name][each, leaves % 2] for name in ("condition", "last")}
    return two | {"noise": noise, "begun": (at.row > 0)[:, None].astype(np.float32)}


@cache
def _noise(width: int) -> NDArray[np.float32]:
    """Uniforms by leaf, row within and sequence."""
    rng = np.random.default_rng(6)
    noise = rng.random((LENGTH, LENGTH, SEQUENCES, width), dtype=np.float32)
    return np.clip(noise, 1e-6, 1 - 1e-6)


def _free(at: _Place, stride: int) -> Feed:
    left = LENGTH - at.drawn
    return _limits(np.minimum(left, stride), np.where(left < stride, 0, stride))


def _again(at: _Place, stride: int, sent: NDArray[np.float32]) -> Feed:
    """The next rows of the leaves at hand as they were ``sent``."""
    ahead = _ahead(at, stride)
    over = sent[ahead][..., 2] >= SEGMENT  # (sequences, S)
    until = np.where(over.any(axis=1), over.argmax(axis=1) + 1, stride)
    limits = _limits(np.minimum(LENGTH - at.drawn, until), 0 * until)
    return limits | {"forced": _rows(sent)[ahead]}


def _limits(first: NDArray[np.int64], second: NDArray[np.int64]) -> Feed:
    return {"limit": np.stack([first, second], axis=1).astype(np.float32)}


def _ahead(at: _Place, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the next rows are among (length, sequences): (sequences, S) and (sequences, 1)."""
    rows = at.drawn[:, None] + np.arange(stride)
    return np.minimum(rows, LENGTH - 1), np.arange(len(rows))[:, None]


def _rows(sent: NDArray[np.float32]) -> NDArray[np.float32]:
    """The stroke-5 rows of points: a replica takes the differences of their positions."""
    offsets = np.diff(sent[..., :2], axis=0, prepend=np.float32(CENTRE))
    ends = sent[..., 2:]
    flags = [ends < STROKE, (ends >= STROKE) & (ends < DRAWING), ends >= DRAWING]
    return np.concatenate([offsets, *flags], axis=-1, dtype=np.float32)
