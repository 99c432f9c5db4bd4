"""Where every row's pen is: counts, budgets and points not yet delivered, all rows at once.

Everything here is an array over rows, so that a step costs a fixed number of numpy calls whatever
the batch; only rows that something is delivered of are looked at one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple  # Any: columns are of several types

import numpy as np
from numpy.typing import NDArray

from hitree.drawing import CENTRE
from hitree.stroke5 import DRAWING, NOTHING, ROW, SEGMENT
from hitree_server.engine import noise
from hitree_server.engine.sequence import NO_END
from hitree_server.engine.step import End, Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hitree_server.engine.sequence import Floats, Integers, SequenceSpec

FLUSH_POINTS = 64  # most points in one delivery
FLUSH_SECONDS = 0.033  # longest time that a point waits for company
TICKS_PER_SECOND = 60  # of pen time
UNITS_PER_TICK = 8  # how far the pen travels in a tick, down or up
COLUMNS = ROW + 1  # of a forced row

Flags = NDArray[np.bool_]


class Moves(NamedTuple):
    """What the graph drew in one step: of each of n rows of the batch, up to S stroke-5 rows."""

    points: Floats  # (n, S, 3) positions, and what ends there
    made: Integers  # (n, 2) how many of them under the leaf at hand and the next; 1 at least
    drawn: Flags | None = None  # (n,) these are points of the drawing; None: all are


class Boundaries(NamedTuple):
    """Which rows something has to be done for after a step, by their indices."""

    points: int  # made in it
    due: Integers  # there is something to tell
    turning: Integers  # go on to another leaf, or are there already
    finished: dict[int, End]


class Pens:
    """Arrays over rows, made of few larger ones, which are cheaper to move."""

    def __init__(self, rows: int, stride: int = 1) -> None:
        """``stride``: stroke-5 rows that a step draws of each at most, no more than a delivery."""
        keys, counts = np.zeros((rows, 2), np.uint64), np.zeros((rows, 10), np.int64)
        times = np.zeros((rows, 2), np.float64)
        # Of the leaf at hand and the next one: the noise's key, and the stroke-5 rows drawn before.
        self.keys, self.steps = keys, counts[:, :2]
        self.step = counts[:, 0]
        # In the pool of forced rows: the next one, the end of the canvas, the end of all.
        self.cursor, self.canvas_end, self.prefix_end = counts.T[2:5]
        # Points that the drawing may still get, a leaf's most, those that are not delivered, and
        # those to be delivered that the reader has; leaves after the one at hand.
        self.left, self.leaf_points, self.pending, self.known, self.leaves_left = counts.T[5:]
        # Pen time in whole ticks, and when the oldest point that is not delivered was made.
        self.ticks, self.since = times.T
        # Points that are not delivered, as in `Moves`, after the last one that was.
        self.held = np.zeros((rows, 1 + FLUSH_POINTS, 3), np.float32)
        self.columns: tuple[NDArray[Any], ...] = (keys, counts, times, self.held)
        self._index, self._count = np.arange(rows), np.arange(FLUSH_POINTS)
        self._places = 1 + np.arange(stride)
        self._stride = stride

    def begin(self, rows: Integers, specs: Sequence[SequenceSpec]) -> None:
        """Make rows as they are before the first steps of new sequences."""
        for column in self.columns[:-1]:
            column[rows] = 0
        self.held[rows, 0] = CENTRE, CENTRE, NOTHING
        self.since[rows] = -np.inf  # the first point is due at once
        self.known[rows] = [spec.known for spec in specs]
        self.left[rows] = [spec.max_points for spec in specs]
        self.leaf_points[rows] = [spec.max_points_leaf for spec in specs]
        self.leaves_left[rows] = [len(spec.leaves) - 1 for spec in specs]

    def forced(self, n: int) -> Flags:
        """Which rows take their next row from the pool."""
        return np.asarray(self.cursor[:n] < self.prefix_end[:n])

    def on_canvas(self, n: int) -> Flags:
        """Which rows take their next row from a canvas: it is none of the drawing's points."""
        return np.asarray(self.cursor[:n] < self.canvas_end[:n])

    def noise(self, n: int, width: int) -> Floats:
        """The uniforms of the next rows under the leaf at hand, and of the first ones under the
        next: (n, 2, S, width)."""
        keys, steps = self.keys[:n].ravel(), self.steps[:n].astype(np.uint64).ravel()
        return noise.draw(keys, steps, width, self._stride).reshape(n, 2, self._stride, width)

    def limits(self, n: int) -> Integers:
        """How many stroke-5 rows each may draw next under its leaf and the next one: (n, 2).

        Forced rows are not considered. A step may go on to the next leaf where that overdraws no
        budget.
        """
        limits = np.empty((n, 2), np.int64)
        left, most = self.left[:n], self.leaf_points[:n]
        np.minimum(left, most - self.step[:n], out=limits[:, 0])
        goes_on = (self.leaves_left[:n] > 0) & (left >= self._stride)
        np.multiply(most, goes_on, out=limits[:, 1])
        return limits

    def advance(self, moves: Moves, now: float, horizon: float) -> Boundaries:
        """Take in a step; points that were made before ``horizon`` are due."""
        points, n = moves.points, len(moves.made)
        under, after = moves.made.T
        made, turned, index = under + after, after > 0, self._index[:n]
        ends = points[index, made - 1, 2]
        fresh, under = made - (ends == DRAWING), np.where(turned, after, under)
        pending, step = self.pending[:n], self.step[:n]
        drawn = moves.drawn
        if drawn is not None:
            self.cursor[:n] += made * self.forced(n)
            fresh, under, ends = fresh * drawn, under * drawn, ends * drawn
            self.held[:n][~drawn, 0] = points[~drawn, made[~drawn] - 1]
        self.held[index[:, None], pending[:, None] + self._places] = points
        np.minimum(self.since[:n], now, out=self.since[:n])
        pending += fresh
        self.left[:n] -= fresh
        self.leaves_left[:n] -= turned
        step *= ~turned
        step += under
        spent, exhausted = step >= self.leaf_points[:n], self.left[:n] <= 0
        over = spent | (ends >= SEGMENT)
        cut = (over | exhausted) & (ends < SEGMENT)
        if np.count_nonzero(cut):
            rows = np.flatnonzero(cut)
            self.held[rows, pending[rows], 2] = SEGMENT
        complete = over & (self.leaves_left[:n] == 0)
        finished = complete | exhausted
        over &= ~finished
        self.leaves_left[:n] -= over
        step *= ~over
        due = (self.since[:n] <= horizon) | (pending > FLUSH_POINTS - self._stride)
        if drawn is not None:
            due &= drawn
        return Boundaries(
            points=int(fresh.sum()),
            due=(due | finished).nonzero()[0],
            turning=((turned & ~finished) | over).nonzero()[0],
            finished=self._ends(finished.nonzero()[0], complete),
        )

    def take(self, rows: Integers) -> list[list[Piece]]:
        """Hand out the points of ``rows`` (k,) that were not delivered, stroke by stroke."""
        counts = self.pending[rows]
        pending = counts.tolist()
        most = max(*pending, 1)
        held, index = self.held[rows, : most + 1], self._index[: len(rows)]
        way = np.subtract(held[:, 1:, :2], held[:, :-1, :2], dtype=np.float64)
        np.square(way, out=way)  # exact: the grid is 1/4 unit
        cost = np.ceil(np.sqrt(way[:, :, 0] + way[:, :, 1]) / UNITS_PER_TICK)
        ticks = np.maximum(cost, 1).cumsum(axis=1) + self.ticks[rows, None]
        t_ms = (ticks * 1000 // TICKS_PER_SECOND).astype(np.int64)
        self.ticks[rows], self.held[rows, 0] = ticks[index, counts - 1], held[index, counts]
        self.pending[rows], self.since[rows] = 0, np.inf
        behind = self.known[rows]
        if np.count_nonzero(
            behind
        ):  # until there is a point that the reader has not, all is due at once
            behind -= counts
            self.known[rows] = np.maximum(behind, 0)
            self.since[rows[behind >= 0]] = -np.inf
        ends = held[:, 1:, 2] * (self._count[:most] < counts[:, None])
        where = ends.nonzero()
        cuts: list[list[tuple[int, int]]] = [[] for _ in pending]
        for row, point, end in zip(*map(np.ndarray.tolist, (*where, ends[where])), strict=True):
            cuts[row].append((point + 1, int(end)))
        return [
            _pieces(*columns) for columns in zip(held[:, 1:, :2], t_ms, pending, cuts, strict=True)
        ]

    def _ends(self, rows: Integers, complete: Flags) -> dict[int, End]:
        """How the drawings in ``rows`` end; their points are still held."""
        is_open = self.held[rows, self.pending[rows], 2] == NOTHING
        columns = rows.tolist(), complete[rows].tolist(), is_open.tolist()
        return {
            row: End("complete" if whole else "max_points", stroke_open)
            for row, whole, stroke_open in zip(*columns, strict=True)
        }


def _pieces(
    positions: Floats, t_ms: Integers, count: int, cuts: list[tuple[int, int]]
) -> list[Piece]:
    """``count`` points, cut where strokes end."""
    pieces, start = [], 0
    for end, ends in cuts:
        pieces.append(Piece(positions[start:end], t_ms[start:end], ends))
        start = end
    if start < count:
        pieces.append(Piece(positions[start:count], t_ms[start:count], NOTHING))
    return pieces


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

    def ahead(self, pens: Pens, rows: Integers, stride: int) -> tuple[Floats, Integers]:
        """The next forced rows of ``rows``, (k, stride, COLUMNS), and how many to draw, (k,).

        They may be drawn at once up to the end of the canvas, and after it up to where a leaf may
        end.
        """
        cursor, end = pens.cursor[rows], pens.prefix_end[rows]
        canvas = cursor < pens.canvas_end[rows]
        taken = self.rows[np.minimum(cursor[:, None] + np.arange(stride), end[:, None] - 1)]
        stops = taken[:, :, ROW] != NO_END
        stops[:, -1] = True
        until = np.where(canvas, pens.canvas_end[rows], cursor + stops.argmax(axis=1) + 1)
        return taken, np.minimum(np.minimum(until, end) - cursor, stride)

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
