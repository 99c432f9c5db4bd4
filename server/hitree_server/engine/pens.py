"""Where every row's pen is: counts, budgets and points not yet delivered, all rows at once.

Everything here is an array over rows, so that a step costs a fixed number of numpy calls whatever
the batch; only rows that reach a boundary are looked at one by one, by the runner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple  # Any: columns are of several types

import numpy as np
from numpy.typing import NDArray

from hitree.stroke5 import END, ROW, UP
from hitree_server.engine.sequence import NO_END

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hitree_server.engine.sequence import Floats, Integers, SequenceSpec

FLUSH_POINTS = 64  # most points in one delivery
FLUSH_SECONDS = 0.033  # longest time that a point waits for company
TICKS_PER_SECOND = 60  # of pen time
UNITS_PER_TICK = 8  # how far the pen travels in a tick, down or up
COLUMNS = ROW + 1  # of a forced row

Flags = NDArray[np.bool_]


class Moves(NamedTuple):
    """What the graph drew in one step: of each of n rows of the batch, up to S stroke-5 rows."""

    origin: Floats  # (n, 2) positions before
    rows: Floats  # (n, S, 5)
    made: Integers  # (n,) how many of them were drawn, at least 1
    over: Flags  # (n,) the segment is over with the last of these


class Piece(NamedTuple):
    """Points of one stroke, to be delivered."""

    positions: Floats  # (N, 2) units
    t_ms: Integers  # (N,) of pen time
    ends: bool  # the stroke ends with the last of them


class Boundaries(NamedTuple):
    """Which of n rows something has to be done for, each (n,)."""

    due: Flags  # any of the next three, or points to deliver
    stroke_over: Flags  # and no point in the buffer says so
    leaf_over: Flags
    exhausted: Flags
    quiet: Flags  # the reader knows of it
    points: int  # made in this step


class Pens:
    """Arrays over rows, made of few larger ones, which are cheaper to move."""

    def __init__(self, rows: int, stride: int = 1) -> None:
        """``stride``: stroke-5 rows that a step draws of each at most, no more than a delivery."""
        keys, counts = np.zeros((rows, 2), np.uint64), np.zeros((rows, 9), np.int64)
        times, flags = np.zeros((rows, 2), np.float64), np.zeros((rows, 2), np.bool_)
        self._small = keys, counts, times, flags
        # Of the noise: the leaf's key, and how many of its stroke-5 rows were drawn.
        self.key, self.step = keys.T
        # In the pool of forced rows: the next one, the end of the canvas, the end of all.
        self.cursor, self.canvas_end, self.prefix_end = counts.T[:3]
        # Points: those that the reader has, all that were drawn, in the leaf, and not delivered.
        self.known, self.points, self.points_leaf, self.pending = counts.T[3:7]
        self.max_points, self.max_points_leaf = counts.T[7:]
        # Pen time in whole ticks, and when the oldest point that is not delivered was made.
        self.ticks, self.since = times.T
        # Whether the leaf is the last one, and whether the stroke has points and the pen is down.
        self.last_leaf, self.open = flags.T
        self.xy = np.zeros((rows, FLUSH_POINTS, 2), np.float32)
        self.at = np.zeros((rows, FLUSH_POINTS), np.float64)  # ticks at the points of ``xy``
        self.lifts = np.zeros((rows, FLUSH_POINTS), np.bool_)  # the stroke ends with the point
        self.columns: tuple[NDArray[Any], ...] = (*self._small, self.xy, self.at, self.lifts)
        self._index = np.arange(rows)
        self._ahead = np.arange(stride)

    def begin(self, rows: Integers, specs: Sequence[SequenceSpec]) -> None:
        """Make rows as they are before the first steps of new sequences."""
        for column in self._small:
            column[rows] = 0
        self.max_points[rows] = [spec.max_points for spec in specs]
        self.max_points_leaf[rows] = [spec.max_points_leaf for spec in specs]
        self.known[rows] = [spec.known for spec in specs]

    def turn(self, rows: Integers, keys: Sequence[int], last: Sequence[bool]) -> None:
        """Begin leaves."""
        self.key[rows], self.last_leaf[rows] = np.array(keys, np.uint64), last
        self.step[rows] = self.points_leaf[rows] = 0

    def forced(self, n: int) -> Flags:
        """Which rows take their next row from the pool."""
        return np.asarray(self.cursor[:n] < self.prefix_end[:n])

    def may_end(self, n: int) -> Flags:
        """Which may end the drawing, (n, S): in the last leaf, once that has a point."""
        ends = np.repeat(self.last_leaf[:n, None], len(self._ahead), axis=1)
        ends[:, 0] &= self.points_leaf[:n] > 0
        return ends

    def limits(self, n: int) -> Integers:
        """How many stroke-5 rows each may draw in the next step, forced ones not considered, (n,).

        No budget is overdrawn; points that the reader knows already come one by one, for strokes
        that end among them are told one by one.
        """
        points = self.points[:n]
        left: Integers = np.minimum(self.max_points[:n] - points, len(self._ahead))
        np.minimum(left, self.max_points_leaf[:n] - self.points_leaf[:n], out=left)
        left[points < self.known[:n]] = 1
        return left

    def advance(self, moves: Moves, now: float, horizon: float) -> Boundaries:
        """Take in a step; points that were made before ``horizon`` are due."""
        n, made = len(moves.made), moves.made
        index, before = self._index[:n], self.points[:n].copy()
        last = moves.rows[index, made - 1]
        drawn = self.cursor[:n] >= self.canvas_end[:n]
        self.cursor[:n] += made * self.forced(n)
        self.step[:n] += (made * drawn).astype(np.uint64)
        ended = last[:, END] > 0.5
        fresh = (made - ended) * drawn  # points
        self.points[:n] += fresh
        self.points_leaf[:n] += fresh
        spent = self.points_leaf[:n] >= self.max_points_leaf[:n]
        leaf_over = drawn & (ended | spent | moves.over)
        exhausted = drawn & (self.points[:n] >= self.max_points[:n])
        over = leaf_over | exhausted
        held = fresh * (before >= self.known[:n])
        self._hold(moves, fresh, held, over, now)
        # Where the last row is no point, the stroke is open if it was before that one.
        lifted = moves.rows[index, made - 2, UP] > 0.5
        opened = drawn & (~ended | np.where(made > 1, ~lifted, self.open[:n]))
        stroke_over = opened & (over | (last[:, UP] > 0.5))
        np.greater(opened, stroke_over, out=self.open[:n])  # opened and not over
        # A stroke that ends inside its leaf is told with its points, when they are due.
        stroke_over &= over | (held == 0)
        pending, known = self.pending[:n], self.known[:n]
        late = (pending > 0) & (self.since[:n] <= horizon)
        first = drawn & (before <= known) & (self.points[:n] > known)
        full = pending > FLUSH_POINTS - len(self._ahead)  # the next step may make more than fit
        due = stroke_over | over | first | late | full
        quiet = self.points[:n] < known
        return Boundaries(due, stroke_over, leaf_over, exhausted, quiet, int(fresh.sum()))

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

    def _hold(self, moves: Moves, timed: Integers, held: Integers, over: Flags, now: float) -> None:
        """Count the pen time of the first ``timed`` points, and buffer the first ``held``.

        Others land where nobody reads.
        """
        n, ahead = len(held), self._ahead
        offsets = moves.rows[:, :, :2]
        way = np.square(offsets, dtype=np.float64)  # exact: the grid is 1/4 unit
        cost = np.ceil(np.sqrt(way[:, :, 0] + way[:, :, 1]) / UNITS_PER_TICK)
        cost = np.maximum(cost, 1) * (ahead < timed[:, None])
        at = self.ticks[:n, None] + cost.cumsum(axis=1)
        self.ticks[:n] = at[:, -1]
        ends = moves.rows[:, :, UP] > 0.5
        ends &= ahead < (moves.made - over)[:, None]  # what is over is told by itself
        pending = self.pending[:n]
        rows, places = self._index[:n, None], pending[:, None] + ahead
        self.xy[rows, places] = moves.origin[:, None] + offsets.cumsum(axis=1)
        self.at[rows, places] = at
        self.lifts[rows, places] = ends
        self.since[:n][(held > 0) & (pending == 0)] = now
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

    def add(self, spec: SequenceSpec, pens: Pens, row: int, live: int) -> None:
        """Store what is forced of ``spec`` for ``row``, one of ``live`` rows."""
        canvas, wanted = len(spec.prefix), len(spec.prefix) + len(spec.recalled)
        if not wanted:
            return
        if self._used + wanted > len(self.rows):
            self._compact(pens, live, wanted)
        start, end = self._used, self._used + wanted
        self.rows[start : start + canvas, :ROW] = spec.prefix
        self.rows[start + canvas : end, :ROW] = spec.recalled
        self.rows[start : start + canvas, ROW] = NO_END
        self.rows[start + canvas : end, ROW] = spec.recalled_ends
        pens.cursor[row], pens.canvas_end[row], pens.prefix_end[row] = start, start + canvas, end
        self._used = end

    def ahead(self, pens: Pens, rows: Integers, stride: int) -> tuple[Integers, Integers]:
        """Where the next forced rows of ``rows`` lie, (k, stride), and how many may be drawn, (k,).

        They may be drawn at once up to the end of the canvas, and after it up to where a stroke or
        a leaf ends.
        """
        cursor, end = pens.cursor[rows], pens.prefix_end[rows]
        canvas = cursor < pens.canvas_end[rows]
        places = np.minimum(cursor[:, None] + np.arange(stride), end[:, None] - 1)
        taken = self.rows[places]
        stops = (taken[:, :, UP] > 0.5) | (taken[:, :, ROW] != NO_END)
        stops[:, -1] = True
        until = np.where(canvas, pens.canvas_end[rows] - cursor, stops.argmax(axis=1) + 1)
        return places, np.minimum(until, end - cursor)

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
