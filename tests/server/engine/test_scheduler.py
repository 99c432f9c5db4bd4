"""The policy alone: no device, no arrays, no threads."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import flat, spec
from hitree.errors import Cancelled, DeadlineExceeded, Unavailable
from hitree.stroke5 import NOTHING, SEGMENT, STROKE
from hitree_server.engine import (
    Broken,
    Ended,
    EngineSettings,
    LeafEnded,
    LeafStarted,
    PointsMade,
    Stats,
    StrokeEnded,
)
from hitree_server.engine.scheduler import Scheduler
from hitree_server.engine.sequence import Phase, Sequence
from hitree_server.engine.step import End, Mark, Piece, Result


class Desk:
    """A scheduler with what surrounds it."""

    def __init__(self, **limits: float) -> None:
        self.stats = Stats()
        self.scheduler = Scheduler(EngineSettings(**limits), self.stats)
        self.numbers = count()
        self.now = 0.0
        self.emissions = []

    def accept(self, **changes: object) -> Sequence:
        sequence = Sequence(spec(**changes), next(self.numbers), self.now)
        self.scheduler.accept(sequence)
        return sequence

    def step(self, *over: Sequence) -> tuple[Sequence, ...]:
        """One step in which ``over`` finish; returns who was in the batch."""
        step = self.scheduler.next_step(self.now)
        marks = [self.mark(s) for s in step.running if s in over]
        result = Result(tuple(marks), (), *[len(step.running)] * 3, 0.001)
        self.emissions += self.scheduler.commit(step, result, self.now)
        return step.running

    @staticmethod
    def mark(sequence: Sequence) -> Mark:
        return Mark(sequence, [], End("complete", stroke_open=False))

    def tell(self, sequence: Sequence, *pieces: Piece, end: End | None = None) -> list[object]:
        """One step in which a sequence comes so far; returns what is told of it in this step."""
        step, told = self.scheduler.next_step(self.now), len(self.events(sequence))
        result = Result((Mark(sequence, list(pieces), end),), (), 1, 1, 1, 0.001)
        self.emissions += self.scheduler.commit(step, result, self.now)
        return self.events(sequence)[told:]

    def events(self, sequence: Sequence) -> list[object]:
        return [e for x in self.emissions if x.sequence is sequence for e in x.events]


def piece(count: int, ends: int, first: int = 0) -> Piece:
    """Points that lie and follow each other by their numbers, from ``first`` on."""
    numbers = np.arange(first, first + count)
    return Piece(np.repeat(numbers[:, None], 2, axis=1).astype(np.float32), numbers * 20, ends)


def test_sequences_of_one_priority_join_in_order_of_arrival():
    desk = Desk(max_rows=2)
    a, b, c, d = (desk.accept() for _ in range(4))
    assert desk.step(a) == (a, b)
    assert desk.step(b) == (b, c)
    assert desk.step() == (c, d)


def test_a_higher_priority_goes_first():
    desk = Desk(max_rows=1)
    low, high = desk.accept(priority=0), desk.accept(priority=1)
    assert desk.step(high) == (high,)
    assert desk.step() == (low,)


def test_a_low_priority_is_served_once_it_has_waited_long_enough():
    desk = Desk(max_rows=1, ageing=10.0)
    low = desk.accept(priority=-1)
    served = None
    for second in range(40):
        desk.now = float(second)
        newcomer = desk.accept(priority=1)
        (served,) = desk.step(newcomer, *desk.scheduler._accepted)
        if served is low:
            break
    assert served is low
    assert desk.now <= 21


def test_a_full_queue_refuses_with_a_hint():
    desk = Desk(max_rows=2, queue_limit=3)
    for _ in range(5):
        assert desk.scheduler.refusal(1, 0, 0.0) is None
        desk.accept()
    refusal = desk.scheduler.refusal(1, 0, 0.0)
    assert refusal is not None
    assert refusal.retry_after is not None
    assert 0.1 <= refusal.retry_after <= 30
    assert "try again" in refusal.message


def test_submissions_on_their_way_count_as_waiting():
    desk = Desk(max_rows=2, queue_limit=3)
    assert desk.scheduler.refusal(1, 4, 0.0) is None
    assert desk.scheduler.refusal(1, 5, 0.0) is not None


def busy(desk: Desk, *, points: int, apart: float, known: int = 0) -> None:
    """Fill the batch after a drawing of ``points``, with steps that are so many seconds apart."""
    drawings = [desk.accept(known=known) for _ in range(desk.scheduler._settings.max_rows)]
    drawings[0].points = points
    for over in ([], drawings[:1], []):
        desk.step(*over)
        desk.now += apart
    desk.accept()
    desk.step()


def test_who_would_wait_for_too_long_is_refused():
    desk = Desk(max_rows=4, queue_limit=99, longest_wait=1.0)
    assert desk.scheduler.refusal(99, 0, 0.0) is None  # nobody knows yet how long drawings take
    busy(desk, points=100, apart=0.02)  # 2 s each, so that every half a second a row is free
    assert desk.scheduler.refusal(2, 0, 0.0) is None
    assert desk.scheduler.refusal(1, 1, 0.0) is None
    assert desk.scheduler.refusal(2, 1, 0.0) is not None
    assert desk.scheduler.refusal(3, 0, 0.0) is not None
    assert desk.scheduler.refusal(3, 0, 0.0, begun=True) is None
    assert desk.scheduler.refusal(99, 0, 0.0, begun=True) is None
    assert desk.scheduler.refusal(99, 1, 0.0, begun=True) is not None


def test_a_refusal_tells_when_the_drawings_ahead_are_done():
    desk = Desk(max_rows=4, longest_wait=0.0)
    busy(desk, points=150, known=50, apart=0.02)
    refusal = desk.scheduler.refusal(1, 0, 0.0)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(2.0)


def test_those_that_are_refused_are_told_to_come_one_after_the_other():
    desk = Desk(max_rows=4, longest_wait=0.0)
    busy(desk, points=150, known=50, apart=0.02)  # a row is given back every half second

    def hint(rows: int, now: float) -> float | None:
        refusal = desk.scheduler.refusal(rows, 0, now)
        assert refusal is not None
        return refusal.retry_after

    assert [hint(1, 0.0), hint(1, 0.0), hint(2, 1.0)] == pytest.approx([2.0, 2.5, 2.5])
    assert hint(1, 60.0) == pytest.approx(2.0)  # the line is long over
    assert hint(4, 60.0) == pytest.approx(4.0)
    assert hint(99, 60.0) == pytest.approx(30.0)  # not longer, however long the line


def test_nobody_is_refused_for_waiting_where_rows_are_free():
    desk = Desk(max_rows=2, longest_wait=0.0)
    busy(desk, points=100, apart=60.0)
    desk.scheduler.end_all(Cancelled("enough"))
    assert desk.scheduler.refusal(2, 0, 0.0) is None
    assert desk.scheduler.refusal(2, 1, 0.0) is not None


def test_paused_sequences_are_bounded_too():
    desk = Desk(max_rows=2, queue_limit=0, sequence_limit=4)
    for _ in range(4):
        assert desk.scheduler.refusal(1, 0, 0.0) is None
        sequence = desk.accept()
        desk.step()
        desk.scheduler.pause(sequence)
    assert desk.scheduler.refusal(1, 0, 0.0) is not None


def test_deadlines_end_waiting_and_running_sequences():
    desk = Desk(max_rows=1)
    running, waiting = desk.accept(deadline=5.0), desk.accept(deadline=4.0)
    desk.step()
    desk.now = 4.0
    assert desk.step() == (running,)
    desk.now = 5.0
    assert desk.step() == ()
    for sequence in (running, waiting):
        last = desk.events(sequence)[-1]
        assert isinstance(last, Broken)
        assert isinstance(last.error, DeadlineExceeded)
    assert desk.stats.finished == {"deadline_exceeded": 2}


def test_a_cancelled_sequence_gives_its_row_to_the_next_at_once():
    desk = Desk(max_rows=1)
    first, second = desk.accept(), desk.accept()
    desk.step()
    for _ in range(3):
        desk.scheduler.end(first, Cancelled("enough"))
    step = desk.scheduler.next_step(0)
    assert (step.departures, step.joins, step.running) == ((first,), (second,), (second,))
    desk.emissions += desk.scheduler.collect()
    assert sum(isinstance(e, Broken) for e in desk.events(first)) == 1


def test_what_a_step_made_of_a_cancelled_sequence_is_dropped():
    desk = Desk()
    sequence = desk.accept()
    step = desk.scheduler.next_step(0)
    desk.scheduler.end(sequence, Cancelled("enough"))
    result = Result((desk.mark(sequence),), (sequence,), 1, 1, 1, 0.001)
    desk.emissions += desk.scheduler.commit(step, result, 0)
    kinds = [type(e) for e in desk.events(sequence)]
    assert kinds == [LeafStarted, Broken]


def test_leaves_follow_each_other_and_the_last_one_completes():
    desk = Desk()
    sequence = desk.accept(first_stroke=4)
    first = desk.tell(sequence, piece(1, STROKE), piece(2, SEGMENT))
    assert [e for e in first if not isinstance(e, PointsMade)] == [
        LeafStarted(0), StrokeEnded(4, 0), StrokeEnded(5, 0), LeafEnded(0, 4, 6), LeafStarted(1),
    ]  # fmt: skip
    both = desk.tell(sequence, piece(1, SEGMENT), piece(1, NOTHING))
    assert [e for e in both if not isinstance(e, PointsMade)] == [
        StrokeEnded(6, 1), LeafEnded(1, 6, 7), LeafStarted(2),
    ]  # fmt: skip
    *rest, last = desk.tell(sequence, piece(2, SEGMENT), end=End("complete", stroke_open=False))
    assert rest[1:] == [StrokeEnded(7, 2), LeafEnded(2, 7, 8)]
    assert isinstance(last, Ended)
    assert (last.reason, last.strokes, last.points) == ("complete", 4, 7)
    made = [e for e in desk.events(sequence) if isinstance(e, PointsMade)]
    assert [(e.stroke, e.leaf, len(e.positions)) for e in made] == [
        (4, 0, 1), (5, 0, 2), (6, 1, 1), (7, 2, 1), (7, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize("stroke_open", [False, True])
def test_a_drawing_that_ends_with_no_point_closes_its_stroke_and_its_leaf(delivered, stroke_open):
    desk = Desk()
    sequence = desk.accept(leaves=spec().leaves[:1])
    pieces = [piece(2, NOTHING if stroke_open else STROKE)]
    if delivered:
        desk.tell(sequence, *pieces)
    desk.tell(sequence, *([] if delivered else pieces), end=End("complete", stroke_open))
    started, points, *rest, ended = desk.events(sequence)
    assert (started, len(points.positions)) == (LeafStarted(0), 2)
    assert rest == [StrokeEnded(0, 0), LeafEnded(0, 0, 1)]
    assert (ended.strokes, ended.points) == (1, 2)


def test_a_drawing_that_runs_out_in_the_next_leaf_closes_that_one():
    desk = Desk()
    sequence = desk.accept()
    desk.tell(sequence, piece(1, SEGMENT))
    events = desk.tell(sequence, piece(1, SEGMENT), end=End("max_points", stroke_open=False))
    assert events[1:3] == [StrokeEnded(1, 1), LeafEnded(1, 1, 2)]
    assert events[3][:3] == ("max_points", 2, 2)


WHOLE = ((2, STROKE), (3, SEGMENT), (1, SEGMENT), (4, STROKE), (2, NOTHING))


def pieces(bundled: int) -> list[Piece]:
    """The points of `WHOLE`, at most so many in a piece."""
    made, first = [], 0
    for length, ends in WHOLE:
        for start in range(0, length, bundled):
            size = min(bundled, length - start)
            made.append(piece(size, ends if start + size == length else NOTHING, first))
            first += size
    return made


@pytest.mark.parametrize("bundled", [1, 2, 9])
@pytest.mark.parametrize("known", range(13))
def test_what_a_reader_has_is_not_told_again(known, bundled):
    end = End("complete", stroke_open=True)
    whole, rest = Desk(), Desk()
    first = whole.accept(first_stroke=3)
    for each in pieces(9):
        whole.tell(first, each)
    whole.tell(first, end=end)
    again = rest.accept(first_stroke=3, known=known)
    for each in pieces(bundled):
        rest.tell(again, each)
    rest.tell(again, end=end)
    expected, told = flat(whole.events(first)), flat(rest.events(again))
    if known:
        last = [index for index, event in enumerate(expected) if event[0] == "point"][known - 1]
        expected = [("LeafStarted", expected[last][-1]), *expected[last + 1 :]]
    assert told == expected
    assert again.points == 12


def test_the_first_point_is_that_which_the_reader_has_not():
    desk = Desk()
    sequence = desk.accept(known=3)
    for now, length in ((1.0, 2), (2.0, 1), (3.0, 1), (4.0, 1)):
        desk.now = now
        desk.tell(sequence, piece(length, NOTHING))
    assert sequence.first_point == 3.0
    assert desk.stats.first_point_seconds.count == 1


def test_a_deadline_tells_the_points_that_the_reader_has():
    desk = Desk()
    sequence = desk.accept(known=7, deadline=1.0)
    assert sequence.known == 7
    desk.tell(sequence, piece(2, NOTHING))
    assert sequence.known == 7
    desk.now = 1.0
    desk.step()
    desk.emissions += desk.scheduler.collect()
    assert "after 7 points" in desk.events(sequence)[-1].error.message


def test_a_failed_step_breaks_only_who_was_in_it():
    desk = Desk(max_rows=1)
    first, second = desk.accept(), desk.accept()
    step = desk.scheduler.next_step(0)
    desk.emissions += desk.scheduler.fail(step, "no memory")
    last = desk.events(first)[-1]
    assert isinstance(last, Broken)
    assert isinstance(last.error, Unavailable)  # which clients try again
    assert "no memory" in last.error.message
    assert desk.step() == (second,)
    assert desk.stats.steps_failed == 1


def test_a_paused_sequence_leaves_and_comes_back_in_its_old_place():
    desk = Desk(max_rows=1)
    first = desk.accept()
    desk.step()
    others = [desk.accept() for _ in range(2)]
    desk.scheduler.pause(first)
    assert desk.step() == (others[0],)
    desk.scheduler.resume(first)
    assert desk.step(others[0]) == (others[0],)
    assert desk.step() == (first,)
    assert sum(isinstance(e, LeafStarted) for e in desk.events(first)) == 1


def crowded(rows: int, seconds: float) -> Desk:
    """A desk with twelve sequences whose steps take so long."""
    desk = Desk(max_rows=rows)
    for _ in range(12):
        desk.accept()
    for _ in range(3):
        desk.step()
        desk.now += seconds
    return desk


def test_newcomers_go_ahead_of_a_long_step_once_and_all_follow():
    desk = crowded(16, 0.02)
    a, b = desk.accept(), desk.accept()
    assert desk.step() == (a, b)
    late = desk.accept()
    everybody = desk.step()
    assert len(everybody) == 15
    assert everybody[-3:] == (a, b, late)
    assert desk.step() == everybody
    last = desk.accept()
    assert desk.step() == (last,)


@pytest.mark.parametrize(
    ("rows", "seconds", "newcomers"),
    [
        (16, 0.01, [{}]),  # steps are short
        (99, 0.02, [{}] * 5),  # they are not few
        (15, 0.02, [{}] * 4),  # somebody waits
        (16, 0.02, [{"prefix": np.zeros((3, 5), np.float32)}]),  # their first points take long
        (16, 0.02, [{}, {"known": 7}]),
    ],
)
def test_newcomers_join_the_others_where_going_ahead_is_not_worth_it(rows, seconds, newcomers):
    desk = crowded(rows, seconds)
    for changes in newcomers:
        desk.accept(**changes)
    assert len(desk.step()) == min(rows, 12 + len(newcomers))


def test_the_others_wait_for_who_goes_ahead():
    desk = crowded(99, 0.02)
    late = desk.accept()
    before = desk.scheduler._pace.value
    assert desk.step() == (late,)
    desk.now += 0.02
    desk.step()
    assert before == pytest.approx(0.02)
    assert desk.scheduler._pace.value == pytest.approx(0.95 * 0.02 + 0.05 * 0.04)


def test_steps_are_no_longer_for_those_who_went_ahead_of_them():
    desk = crowded(99, 0.02)
    for turn in range(40):
        late = desk.accept()
        desk.now += 0.006
        went_ahead = desk.step() == (late,)
        assert went_ahead or turn
        desk.now += 0.012
        desk.step(late)
    assert not went_ahead


def test_who_was_paused_does_not_go_ahead():
    desk = crowded(16, 0.02)
    late = desk.accept()
    assert desk.step() == (late,)
    desk.tell(late, piece(1, NOTHING))
    desk.scheduler.pause(late)
    assert len(desk.step()) == 12
    desk.scheduler.resume(late)
    assert len(desk.step()) == 13


def test_entries_of_cancelled_sequences_do_not_pile_up():
    desk = Desk(max_rows=1)
    for _ in range(1000):
        desk.scheduler.end(desk.accept(deadline=1e9), Cancelled("enough"))
    assert len(desk.scheduler._deadlines) < 200
    assert len(desk.scheduler._waiting) < 200


COMMANDS = st.one_of(
    st.tuples(st.just("accept"), st.integers(-1, 1), st.integers(0, 30)),
    st.tuples(st.sampled_from(["cancel", "pause", "resume"]), st.integers(0, 40)),
    st.tuples(st.just("step"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(1, 5)),
    st.just(("fail",)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMANDS, max_size=60))
def test_random_scripts_keep_the_invariants(script):
    desk = Desk(max_rows=4, queue_limit=6, sequence_limit=12)
    everyone: list[Sequence] = []
    for command, *arguments in script:
        _play(desk, everyone, command, arguments)
        live = [s for s in everyone if s.phase in (Phase.RUNNING, Phase.WAITING)]
        assert desk.scheduler.demand == len(live)
    for _ in range(200):
        for sequence in everyone:
            desk.scheduler.resume(sequence)
        desk.step(*everyone)
    for sequence in everyone:
        events = desk.events(sequence)
        assert [isinstance(e, Ended | Broken) for e in events].count(True) == 1
        assert isinstance(events[-1], Ended | Broken)
    assert desk.scheduler.active == desk.scheduler.demand == 0
    assert sum(desk.stats.finished.values()) == len(everyone)


def _play(desk: Desk, everyone: list[Sequence], command: str, arguments: list[int]) -> None:
    scheduler = desk.scheduler
    if command == "accept":
        priority, wait = arguments
        if scheduler.refusal(1, 0, 0.0) is None:
            deadline = desk.now + wait if wait else None
            everyone.append(desk.accept(priority=priority, deadline=deadline))
    elif command == "step":
        _check_joins(desk, everyone, everyone[:: arguments[0] + 1])
    elif command == "wait":
        desk.now += arguments[0]
    elif command == "fail":
        desk.emissions += scheduler.fail(scheduler.next_step(desk.now), "it broke")
    elif everyone:
        chosen = everyone[arguments[0] % len(everyone)]
        {
            "cancel": lambda: scheduler.end(chosen, Cancelled("enough")),
            "pause": lambda: scheduler.pause(chosen),
            "resume": lambda: scheduler.resume(chosen),
        }[command]()


def _check_joins(desk: Desk, everyone: list[Sequence], over: list[Sequence]) -> None:
    """Nobody who still waits arrived before somebody of the same priority who joined."""
    before = {s for s in everyone if s.phase is Phase.WAITING}
    running = desk.step(*over)
    assert len(running) <= 4
    joined = [s for s in running if s in before]
    waiting = [s for s in everyone if s.phase is Phase.WAITING]
    for late in joined:
        for early in waiting:
            assert early.spec.priority != late.spec.priority or early.number > late.number


@pytest.mark.parametrize("module", ["numpy", "asyncio", "threading", "time"])
def test_the_policy_imports_nothing_impure(module):
    import hitree_server.engine.scheduler as policy

    assert not hasattr(policy, module)
