"""Where every row's pen is: counts, budgets and points not yet delivered, all rows at once.

Everything here is an array over rows, so that a step costs a fixed number of numpy calls whatever
the batch; only rows that reach a boundary are looked at one by one, by the runner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hitree.stroke5 import END, UP
from hitree_server.engine.sequence import NO_END

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hitree_server.engine.sequence import Floats, Integers, SequenceSpec

FLUSH_POINTS = 64  # most points in one delivery
FLUSH_SECONDS = 0.033  # longest time that a point waits for company
TICKS_PER_SECOND = 60  # of pen time
UNITS_PER_TICK = 8  # how far the pen travels in a tick, down or up
ROW = 5  # numbers of a stroke-5 row
COLUMNS = ROW + 1  # of a forced row

Flags = NDArray[np.bool_]


class Moves(NamedTuple):
    """What the graph made of n rows in one step."""

    previous: Floats  # (n, 2) positions before
    position: Floats  # (n, 2) positions after
    row: Floats  # (n, 5) stroke-5 rows
    segment_end: Floats  # (n,) 1 where the segment is over


class Piece(NamedTuple):
    """Points of one stroke, to be delivered."""

    positions: Floats  # (N, 2) units
    t_ms: Integers  # (N,) of pen time
    ends: bool  # the stroke ends with the last of them


class Boundaries(NamedTuple):
    """Which of n rows something has to be done for, each (n,) and false for all but leads."""

    due: Flags  # any of the next three, or points to deliver
    stroke_over: Flags  # and no point in the buffer says so
    leaf_over: Flags
    exhausted: Flags
    quiet: Flags  # the reader knows of it
    points: int  # made in this step


class Pens:
    """Arrays over rows; ``rank`` counts a sequence's rows from its lead, whose points are sent."""

    def __init__(self, rows: int) -> None:
        self.rank = np.zeros(rows, np.int64)
        self.key = np.zeros(rows, np.uint64)  # of the noise
        self.step = np.zeros(rows, np.uint64)  # in the node, the canvas not counted
        self.cursor = np.zeros(rows, np.int64)  # next forced row, in the pool: first the canvas,
        self.canvas_end = np.zeros(rows, np.int64)  # from here on what was drawn before
        self.prefix_end = np.zeros(rows, np.int64)
        self.known = np.zeros(rows, np.int64)  # points that the reader has
        self.last_leaf = np.zeros(rows, np.bool_)
        self.points = np.zeros(rows, np.int64)
        self.points_leaf = np.zeros(rows, np.int64)
        self.max_points = np.zeros(rows, np.int64)
        self.max_points_leaf = np.zeros(rows, np.int64)
        self.ticks = np.zeros(rows, np.float64)  # of pen time, whole numbers
        self.open = np.zeros(rows, np.bool_)  # the stroke has points and the pen is down
        self.pending = np.zeros(rows, np.int64)  # points not delivered
        self.since = np.zeros(rows, np.float64)  # when the oldest of them was made
        self.xy = np.zeros((rows, FLUSH_POINTS, 2), np.float32)
        self.at = np.zeros((rows, FLUSH_POINTS), np.float64)  # ticks at the points of ``xy``
        self.lifts = np.zeros((rows, FLUSH_POINTS), np.bool_)  # the stroke ends with the point
        self.columns: tuple[NDArray[np.generic], ...] = tuple(vars(self).values())
        self._index = np.arange(rows)

    def clear(self, rows: slice) -> None:
        """Make rows as they are before their first step."""
        for column in self.columns:
            column[rows] = 0
        self.rank[rows] = self._index[: rows.stop - rows.start]

    def turn(self, rows: slice, key: int, last: bool) -> None:
        """Begin a leaf."""
        self.key[rows], self.last_leaf[rows] = key, last
        self.step[rows] = self.points_leaf[rows] = 0

    def forced(self, n: int) -> Flags:
        """Which rows take their next row from the pool."""
        return self.cursor[:n] < self.prefix_end[:n]

    def may_end(self, n: int) -> Flags:
        """Which rows may end the drawing: in the last leaf, once that has a point."""
        return np.asarray(self.last_leaf[:n] & (self.points_leaf[:n] > 0))

    def advance(self, moves: Moves, now: float, horizon: float) -> Boundaries:
        """Take in a step; points that were made before ``horizon`` are due."""
        n = len(moves.row)
        drawn = self.cursor[:n] >= self.canvas_end[:n]
        self.cursor[:n] += self.forced(n)
        self.step[:n] += drawn
        ended = moves.row[:, END] > 0.5
        point = drawn & ~ended
        lead = self.rank[:n] == 0
        self.points[:n] += point
        self.points_leaf[:n] += point
        news = self.points[:n] > self.known[:n]
        held = point & lead & news
        self._hold(point & lead, held, moves, now)
        spent = self.points_leaf[:n] >= self.max_points_leaf[:n]
        drawn &= lead
        leaf_over = drawn & (ended | spent | (moves.segment_end > 0.5))
        exhausted = drawn & (self.points[:n] >= self.max_points[:n])
        over = leaf_over | exhausted
        opened = self.open[:n] | point
        stroke_over = opened & (over | (drawn & (moves.row[:, UP] > 0.5)))
        np.greater(opened, stroke_over, out=self.open[:n])  # opened and not over
        pending = self.pending[:n]
        late = (pending > 0) & (self.since[:n] <= horizon)
        first = drawn & point & (self.points[:n] == self.known[:n] + 1)
        # A stroke that ends inside its leaf is told with its points, when they are due.
        waits = stroke_over & held & ~over
        self.lifts[self._index[:n], pending - held] = waits  # at the point just held, if any
        stroke_over &= ~waits
        due = stroke_over | over | first | late | (pending == FLUSH_POINTS)
        quiet = self.points[:n] < self.known[:n]
        return Boundaries(due, stroke_over, leaf_over, exhausted, quiet, int((point & lead).sum()))

    def take(self, rows: Integers) -> list[tuple[Piece, ...]]:
        """Hand out the points of ``rows`` (k,) that were not delivered, stroke by stroke."""
        counts = self.pending[rows]
        self.pending[rows] = 0
        most = counts.max(initial=0)
        xy = self.xy[rows, :most]
        lifts = self.lifts[rows, :most] & (np.arange(most) < counts[:, None])
        t_ms = (self.at[rows, :most] * 1000 // TICKS_PER_SECOND).astype(np.int64)
        cuts: list[list[int]] = [[] for _ in counts]
        for row, point in zip(*map(np.ndarray.tolist, np.nonzero(lifts)), strict=True):
            cuts[row].append(point + 1)
        return [
            tuple(_pieces(xy[row], t_ms[row], count, cuts[row]))
            for row, count in enumerate(counts.tolist())
        ]

    def _hold(self, point: Flags, held: Flags, moves: Moves, now: float) -> None:
        """Count pen time, and buffer the points to be ``held``; others land where nobody reads."""
        n = len(point)
        way = np.subtract(moves.position, moves.previous, dtype=np.float64)
        way *= way  # exact: the grid is 1/4 unit
        cost = np.ceil(np.sqrt(way[:, 0] + way[:, 1]) / UNITS_PER_TICK)
        self.ticks[:n] += np.maximum(cost, 1) * point
        rows, pending = self._index[:n], self.pending[:n]
        self.xy[rows, pending] = moves.position
        self.at[rows, pending] = self.ticks[:n]
        self.since[:n][held & (pending == 0)] = now
        pending += held


def _pieces(xy: Floats, t_ms: Integers, count: int, cuts: list[int]) -> Iterator[Piece]:
    """``count`` points, cut where strokes end."""
    start = 0
    for end in cuts:
        yield Piece(xy[start:end], t_ms[start:end], ends=True)
        start = end
    if start < count:
        yield Piece(xy[start:count], t_ms[start:count], ends=False)


class Prefixes:
    """The forced rows of all sequences in one array, so that a step gathers them in one call.

    A row is stroke-5, and in its last column whether a leaf ends with it, see `sequence.SAMPLED`.
    """

    def __init__(self) -> None:
        self.rows: Floats = np.zeros((256, COLUMNS), np.float32)
        self._used = 0

    def add(self, spec: SequenceSpec, pens: Pens, rows: slice, live: int) -> None:
        """Store what is forced of ``spec`` for ``rows``; ``live`` rows of ``pens`` own others."""
        canvas, wanted = len(spec.prefix), len(spec.prefix) + len(spec.recalled)
        if self._used + wanted > len(self.rows):
            self._compact(pens, live, wanted)
        start, end = self._used, self._used + wanted
        self.rows[start : start + canvas, :ROW] = spec.prefix
        self.rows[start + canvas : end, :ROW] = spec.recalled
        self.rows[start : start + canvas, ROW] = NO_END
        self.rows[start + canvas : end, ROW] = spec.recalled_ends
        pens.cursor[rows], pens.canvas_end[rows], pens.prefix_end[rows] = start, start + canvas, end
        self._used = end

    def _compact(self, pens: Pens, live: int, wanted: int) -> None:
        """Keep what is still to come; make room for ``wanted`` rows more."""
        kept: list[Floats] = []
        used = 0
        for row in np.flatnonzero(pens.forced(live)):
            part = self.rows[pens.cursor[row] : pens.prefix_end[row]]
            kept.append(part)
            shift = used - pens.cursor[row]
            for place in (pens.cursor, pens.canvas_end, pens.prefix_end):
                place[row] += shift
            used += len(part)
        fresh = np.zeros((max(len(self.rows), 2 * (used + wanted)), COLUMNS), np.float32)
        if kept:
            fresh[:used] = np.concatenate(kept)
        self.rows, self._used = fresh, used
