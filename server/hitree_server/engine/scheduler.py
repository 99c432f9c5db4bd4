"""Who is in the batch: pure policy, without arrays, threads or a clock of its own.

Waiting sequences are ordered by ``arrived - priority * ageing``: first come first served within a
priority, and a sequence of a lower one overtakes once it has waited ``ageing`` seconds longer, so
none starves.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hitree.errors import DeadlineExceeded, HiTreeError, InternalError, Overloaded, Unavailable
from hitree.events import FinishReason, Timings
from hitree.stroke5 import NOTHING, SEGMENT
from hitree_server.engine.sequence import (
    Broken,
    Ended,
    EngineEvent,
    LeafEnded,
    LeafStarted,
    Phase,
    PointsMade,
    Sequence,
    StrokeEnded,
)
from hitree_server.engine.step import Emission, Mark, Piece, Result, Step

if TYPE_CHECKING:
    from hitree_server.engine.stats import Stats


LONGEST_HINT = 30.0  # seconds that a refusal asks to wait
LONG_STEP = 1 / 60  # seconds; newcomers do not wait for steps that take longer
AHEAD = 4  # rows to one of theirs, for newcomers to go ahead


@dataclass(frozen=True)
class EngineSettings:
    """How much the engine takes on."""

    max_rows: int = 64  # rows of the largest batch
    queue_limit: int = 256  # rows that may wait beyond those that are free
    longest_wait: float = math.inf  # seconds that a sequence may be expected to wait for its rows
    sequence_limit: int = 4096  # sequences in all: running, waiting or with a slow reader
    ageing: float = 10.0  # seconds of waiting that weigh as much as one level of priority
    buffer_events: int = 64  # that a reader may be behind before its sequence is paused; 2 or more

    @property
    def most_rows(self) -> int:
        """Rows that may run and wait at a time."""
        return self.max_rows + self.queue_limit


class Mean:
    """A running mean of values above 0, in which the last one weighs ``weight``."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self.value = 0.0  # 0 without any

    def observe(self, value: float) -> None:
        """Take a value in."""
        weight = self._weight if self.value else 1.0
        self.value += weight * (value - self.value)


class Scheduler:
    """Decides steps and says what readers are told; owned by the engine's thread."""

    def __init__(self, settings: EngineSettings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        self._waiting: list[tuple[float, int, Sequence]] = []  # heap; stale ones are skipped
        self._deadlines: list[tuple[float, int, Sequence]] = []  # heap; stale ones are skipped
        self._owners: dict[Sequence, None] = {}  # of rows
        self._leaving: list[Sequence] = []  # of them, who no longer run
        self._accepted: dict[Sequence, None] = {}  # not over, in order of acceptance
        self._emissions: list[Emission] = []
        self._steps = 0
        self._stepped: float | None = None  # when the last step of all was committed
        self._committed = 0.0  # when the last step was
        self._promised = -math.inf  # when the last one that was refused was told to come again
        self._length = Mean(0.1)  # points of a sequence
        self._pace = Mean(0.05)  # seconds from one point of a sequence to the next
        self._turn = Mean(0.05)  # seconds that a step of all takes
        self._went_ahead = False  # in the last step
        self.demand = 0  # rows of all that run or wait

    # What the engine is told

    def refusal(
        self, rows: int, coming: int, now: float, *, begun: bool = False
    ) -> Overloaded | None:
        """Why a sequence of ``rows`` cannot be accepted, with ``coming`` rows just accepted.

        Those that are refused are told to come again one after the other, at the pace at which
        rows are given back: told the same, all would come back together. One that was ``begun``
        elsewhere may wait for longer than others: its reader has a part.
        """
        limits = self._settings
        ahead = self.demand + coming
        beyond = max(0, ahead + rows - limits.max_rows)  # rows that must be given back before
        run = self._length.value * self._pace.value  # seconds that a sequence takes, as steps go
        in_time = beyond * run / limits.max_rows <= limits.longest_wait
        few = len(self._accepted) + coming < limits.sequence_limit
        if few and beyond <= limits.queue_limit and (in_time or begun):
            return None
        in_line = self._promised + run * rows / limits.max_rows
        soonest = now + run * ahead / limits.max_rows
        self._promised = min(max(in_line, soonest), now + LONGEST_HINT)
        wait = max(0.1, self._promised - now)
        return Overloaded(
            f"{len(self._accepted)} drawings are being made or wait, more cannot be taken on; "
            f"try again in {wait:.1f} s",
            retry_after=round(wait, 3),
        )

    def accept(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self._accepted[sequence] = None
        for heap in (self._waiting, self._deadlines):
            self._prune(heap)
        self._stats.waiting += 1
        self._line_up(sequence)
        if sequence.spec.deadline is not None:
            heapq.heappush(self._deadlines, (sequence.spec.deadline, sequence.number, sequence))

    def end(self, sequence: Sequence, error: HiTreeError) -> None:
        """Break a sequence off, unless it is over; its rows are free at the next step."""
        if sequence.phase is Phase.OVER:
            return
        self._close(sequence, error.reason.lower(), (Broken(error),))

    def end_all(self, error: HiTreeError) -> None:
        """Break off everything that is not over."""
        for sequence in tuple(self._accepted):
            self.end(sequence, error)

    def pause(self, sequence: Sequence) -> None:
        """Take a sequence out of the batch, since its reader is slow."""
        if sequence.phase is Phase.RUNNING:
            self.demand -= 1
            self._enter(sequence, Phase.PAUSED)

    def resume(self, sequence: Sequence) -> None:
        """Queue a paused sequence again, in its old place."""
        if sequence.phase is Phase.PAUSED:
            self._enter(sequence, Phase.WAITING)
            self._line_up(sequence)

    # What the engine asks

    @property
    def active(self) -> int:
        """How many sequences are not over."""
        return len(self._accepted)

    def next_step(self, now: float) -> Step:
        """Who leaves, stays and joins. A step without ``running`` need not be computed."""
        self._expire(now)
        parks, departures = self._leave() if self._leaving else ((), ())
        joins = self._join(now) if self._waiting else ()
        self._owners.update(dict.fromkeys(joins))
        assert len(self._owners) <= self._settings.max_rows, "joins and stays fit the batch"
        self._steps += 1
        self._went_ahead = ahead = not self._went_ahead and self._may_go_ahead(joins)
        running = joins if ahead else tuple(self._owners)
        return Step(self._steps - 1, parks, departures, joins, running, ahead)

    def commit(self, step: Step, result: Result, now: float) -> tuple[Emission, ...]:
        """Take in what a step made; returns everything to be published."""
        for sequence in result.broken:
            self.end(sequence, InternalError("the decoder made a point that is not finite"))
        for mark in result.marks:
            if mark.sequence.phase is not Phase.OVER:  # it may have been cancelled meanwhile
                self._apply(mark, now)
        if step.running:
            self._count(step, result, now)
        return self.collect()

    def fail(self, step: Step, cause: str) -> tuple[Emission, ...]:
        """Break off all that were in a step that could not be computed: it may pass."""
        self._stats.steps_failed += 1
        for sequence in step.running:
            self.end(sequence, Unavailable(f"the decoder failed ({cause}); try again"))
        return self.collect()

    def collect(self) -> tuple[Emission, ...]:
        """What is to be published since the last time."""
        emissions = tuple(self._emissions)
        self._emissions.clear()
        return emissions

    def next_deadline(self) -> float | None:
        """When the next deadline passes of a sequence that is not over."""
        while self._deadlines and self._deadlines[0][2].phase is Phase.OVER:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    # Moving sequences from phase to phase

    def _enter(self, sequence: Sequence, phase: Phase) -> None:
        stats, running = self._stats, Phase.RUNNING
        if sequence.phase is running:
            self._leaving.append(sequence)
        for gauged, change in ((sequence.phase, -1), (phase, 1)):
            stats.running += change * (gauged is running)
            stats.waiting += change * (gauged is Phase.WAITING)
            stats.paused += change * (gauged is Phase.PAUSED)
        sequence.phase = phase

    def _line_up(self, sequence: Sequence) -> None:
        self.demand += 1
        key = sequence.arrived - sequence.spec.priority * self._settings.ageing
        heapq.heappush(self._waiting, (key, sequence.number, sequence))

    def _prune(self, heap: list[tuple[float, int, Sequence]]) -> None:
        """Drop entries of what is over, lest cancelled requests with late deadlines pile up."""
        if len(heap) > 2 * len(self._accepted) + 64:
            heap[:] = [entry for entry in heap if entry[2].phase is not Phase.OVER]
            heapq.heapify(heap)

    def _leave(self) -> tuple[tuple[Sequence, ...], tuple[Sequence, ...]]:
        """Those whose rows are parked, and those whose rows are given back for good."""
        parks, departures = list[Sequence](), list[Sequence]()
        for sequence in self._leaving:
            del self._owners[sequence]
            (departures if sequence.phase is Phase.OVER else parks).append(sequence)
        self._leaving.clear()
        return tuple(parks), tuple(departures)

    def _join(self, now: float) -> tuple[Sequence, ...]:
        joins: list[Sequence] = []
        while self._waiting:
            sequence = self._waiting[0][2]
            if sequence.phase is Phase.WAITING:
                if len(self._owners) + len(joins) == self._settings.max_rows:
                    break
                joins.append(sequence)
                self._start(sequence, now)
            heapq.heappop(self._waiting)
        return tuple(joins)

    def _may_go_ahead(self, joins: tuple[Sequence, ...]) -> bool:
        """Whether the first points of those who join shall not wait for a step of all.

        A step of few rows costs more for each of them, so it must be worth it: steps of all take
        long, the newcomers are few, and nobody waits for rows, who would wait much longer still.
        """
        long = self._turn.value > LONG_STEP
        few = 0 < AHEAD * len(joins) <= len(self._owners)
        return long and few and not self._waiting and all(map(_about_to_begin, joins))

    def _start(self, sequence: Sequence, now: float) -> None:
        self._enter(sequence, Phase.RUNNING)
        if sequence.joined is None:
            sequence.joined = now
            self._stats.queue_seconds.observe(now - sequence.arrived)
            if not sequence.spec.known:
                begun = list[EngineEvent]()
                _go_on(sequence, begun)
                self._emit(sequence, tuple(begun))

    def _expire(self, now: float) -> None:
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            sequence = heapq.heappop(self._deadlines)[2]
            where = "waited" if sequence.joined is None else "was drawn"
            self.end(
                sequence,
                DeadlineExceeded(
                    f"the deadline passed while the drawing {where}, after {sequence.known} "
                    "points; allow more time or ask for fewer points"
                ),
            )

    def _close(self, sequence: Sequence, reason: str, events: tuple[EngineEvent, ...]) -> None:
        assert sequence.phase is not Phase.OVER, "one terminal event, and nothing after it"
        if sequence.phase is not Phase.PAUSED:
            self.demand -= 1
        del self._accepted[sequence]
        self._enter(sequence, Phase.OVER)
        sequence.snapshot = None
        self._stats.finished[reason] += 1
        self._emit(sequence, events)

    # Saying what happened

    def _emit(self, sequence: Sequence, events: tuple[EngineEvent, ...]) -> None:
        self._emissions.append(Emission(sequence, events))

    def _apply(self, mark: Mark, now: float) -> None:
        sequence, end, events = mark.sequence, mark.end, list[EngineEvent]()
        for piece in mark.pieces:
            self._deliver(sequence, piece, events, now)
        if end is None:
            _go_on(sequence, events)
            if events:
                self._emit(sequence, tuple(events))
            return
        if not sequence.leaf_over:
            _go_on(sequence, events)
            if end.stroke_open:
                _end_stroke(sequence, events)
            _end_leaf(sequence, events)
        self._finish(sequence, end.reason, events, now)

    def _deliver(
        self, sequence: Sequence, piece: Piece, events: list[EngineEvent], now: float
    ) -> None:
        """Take in a piece; tell of it, but for the points that the reader has."""
        positions, t_ms, ends = piece
        had = max(0, sequence.spec.known - sequence.points)
        sequence.points += len(positions)
        _go_on(sequence, events)
        if had < len(positions):
            if sequence.first_point is None:
                sequence.first_point = now
                self._stats.first_point_seconds.observe(now - sequence.arrived)
            if had:
                positions, t_ms = positions[had:], t_ms[had:]
            events.append(PointsMade(positions, t_ms, sequence.stroke, sequence.leaf))
        if ends != NOTHING:
            _end_stroke(sequence, events)
        if ends == SEGMENT:
            _end_leaf(sequence, events)

    def _finish(
        self, sequence: Sequence, reason: FinishReason, events: list[EngineEvent], now: float
    ) -> None:
        assert sequence.joined is not None, "what finishes has been in the batch"
        first = now if sequence.first_point is None else sequence.first_point
        timings = Timings(
            queued_ms=(sequence.joined - sequence.arrived) * 1000,
            first_point_ms=(first - sequence.arrived) * 1000,
            total_ms=(now - sequence.arrived) * 1000,
        )
        self._length.observe(sequence.known - sequence.spec.known)
        strokes = sequence.stroke - sequence.spec.first_stroke
        events.append(Ended(reason, strokes, sequence.known, timings))
        self._close(sequence, reason, tuple(events))

    def _count(self, step: Step, result: Result, now: float) -> None:
        stats = self._stats
        stats.steps += 1
        stats.points += result.points
        rows = len(step.running)
        stats.step_rows.observe(rows)
        stats.step_padding += result.bucket - rows
        stats.step_seconds.observe(result.seconds)
        began, self._committed = self._committed, now
        if step.ahead:
            return
        if self._stepped is not None and len(step.joins) < rows:
            gap = (now - self._stepped) * rows / result.drawn  # from one to the next of a row
            stats.gap_seconds.observe(gap, result.points)
            self._turn.observe(now - began)
            self._pace.observe(gap)
        self._stepped = now


def _about_to_begin(sequence: Sequence) -> bool:
    """Whether a next step makes its first point."""
    spec = sequence.spec
    return sequence.first_point is None and not spec.known and len(spec.prefix) == 0


# Readers that have some of the drawing are not told again what lies before what they have not.


def _go_on(sequence: Sequence, events: list[EngineEvent]) -> None:
    """Turn to the next leaf if one is over, and tell of the leaf at hand if nobody did."""
    if sequence.leaf_over:
        sequence.leaf += 1
        sequence.leaf_start = sequence.stroke
        sequence.leaf_over = sequence.leaf_told = False
    if not sequence.leaf_told and sequence.points >= sequence.spec.known:
        sequence.leaf_told = True
        events.append(LeafStarted(sequence.leaf))


def _end_stroke(sequence: Sequence, events: list[EngineEvent]) -> None:
    if sequence.points >= sequence.spec.known:
        events.append(StrokeEnded(sequence.stroke, sequence.leaf))
    sequence.stroke += 1


def _end_leaf(sequence: Sequence, events: list[EngineEvent]) -> None:
    if sequence.points >= sequence.spec.known:
        events.append(LeafEnded(sequence.leaf, sequence.leaf_start, sequence.stroke))
    sequence.leaf_over = True
