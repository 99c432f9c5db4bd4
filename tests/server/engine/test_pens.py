from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fakes
from hitree.drawing import CENTRE
from hitree.stroke5 import DRAWING, NOTHING, SEGMENT, STROKE
from hitree_server.engine import noise
from hitree_server.engine.pens import FLUSH_POINTS, Boundaries, Moves, Pens, Prefixes
from hitree_server.engine.sequence import END, NO_END, SAMPLED, SequenceSpec
from hitree_server.engine.step import End

JUNK = (999, 999, DRAWING)  # what lies beyond the rows that were made


def spec(*, recalled: Any = (), **given: Any) -> SequenceSpec:
    """A drawing with ample budgets; of recalled rows it is not known how leaves end."""
    rows = np.reshape(recalled, (-1, 5)).astype(np.float32)
    ends = np.full(len(rows), SAMPLED)
    wanted = {"max_points": 1000, "max_points_leaf": 1000, "known": len(rows), **given}
    return fakes.spec(recalled=rows, recalled_ends=ends, **wanted)


class Hand:
    """Pens, and what a graph draws with them."""

    def __init__(self, *specs: SequenceSpec, stride: int = 1) -> None:
        self.specs, self.stride = specs or (spec(),), stride
        n = len(self.specs)
        self.pens, self.xy = Pens(n, stride), np.full((n, 2), CENTRE, np.float32)
        for column in self.pens.columns:
            column[:] = 77  # of who was here before
        self.pens.begin(np.arange(n), self.specs)

    def draw(
        self,
        *rows: list[tuple[float, int]],
        now: float = 0.0,
        horizon: float = -1.0,
        drawn: list[bool] | None = None,
    ) -> Boundaries:
        """A step that draws of every row (dx, what ends with it); after a segment it turns."""
        made = np.zeros((len(rows), 2), np.int64)
        points = np.full((len(rows), self.stride, 3), JUNK, np.float32)
        for row, steps in enumerate(rows):
            leaf = 0
            for place, (dx, ends) in enumerate(steps):
                self.xy[row, 0] += dx * (ends != DRAWING)
                points[row, place] = *self.xy[row], ends
                made[row, leaf] += 1
                leaf += ends == SEGMENT
        flags = None if drawn is None else np.array(drawn)
        return self.pens.advance(Moves(points, made, flags), now, horizon)

    def dots(self, *ends: int, **given: Any) -> Boundaries:
        """A step that draws one point of every row."""
        return self.draw(*([(1, end)] for end in ends), **given)

    def take(self, row: int = 0) -> list[tuple[int, int]]:
        """What is handed out of a row: points of each piece, and what ends with them."""
        return [(len(p.positions), p.ends) for p in self.pens.take(np.array([row]))[0]]

    def times(self, row: int = 0) -> list[int]:
        return [t for p in self.pens.take(np.array([row]))[0] for t in p.t_ms.tolist()]


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("between", [False, True])
def test_pen_time_goes_by_in_ticks_of_8_units(stride, between):
    hand, offsets, times = Hand(stride=stride), [0, 8, -8.25, 100, 3, 8, 8.25], []
    for start in range(0, len(offsets), stride):
        hand.draw([(dx, NOTHING) for dx in offsets[start : start + stride]])
        times += hand.times() if between else []
    ticks = np.cumsum([1, 1, 2, 13, 1, 1, 2])
    assert times + ([] if between else hand.times()) == [int(t) * 1000 // 60 for t in ticks]


def test_a_way_is_measured_aslant():
    hand = Hand()
    point = np.array([[[CENTRE + 6, CENTRE - 6, NOTHING]]], np.float32)  # 8.49 units away
    hand.pens.advance(Moves(point, np.array([[1, 0]])), 0.0, -1.0)
    assert hand.times() == [2000 // 60]


def test_a_tick_is_at_least_16_ms():
    hand = Hand()
    for _ in range(50):
        hand.draw([(0, NOTHING)])
    assert np.diff(hand.times(), prepend=0).min() == 16


def test_the_first_point_is_due_at_once_and_the_next_ones_wait():
    hand = Hand()
    assert hand.dots(NOTHING).due.tolist() == [0]
    hand.take()
    assert hand.dots(NOTHING).due.tolist() == []


def test_points_are_due_when_the_oldest_has_waited_too_long():
    hand = Hand()
    hand.dots(NOTHING)
    hand.take()
    assert not len(hand.dots(NOTHING, now=1.0, horizon=0.9).due)
    assert not len(hand.dots(NOTHING, now=1.1, horizon=0.99).due)
    assert len(hand.dots(NOTHING, now=1.2, horizon=1.0).due)
    hand.take()
    assert not len(hand.dots(NOTHING, now=1.3, horizon=1.2).due)


@pytest.mark.parametrize(("stride", "most"), [(1, 64), (4, 64), (7, 63), (64, 64)])
def test_a_buffer_is_due_before_the_next_step_could_make_more_than_it_holds(stride, most):
    hand = Hand(stride=stride)
    hand.dots(NOTHING)
    hand.take()
    due = [len(hand.draw([(1, NOTHING)] * stride).due) for _ in range(most // stride)]
    full = FLUSH_POINTS - stride
    assert due == [held > full for held in range(stride, most + 1, stride)]
    assert hand.take() == [(most, NOTHING)]


def test_strokes_and_leaves_are_told_with_their_points():
    hand = Hand(spec(), spec(), stride=2)
    hand.draw([(1, NOTHING), (1, STROKE)], [(1, STROKE), (1, NOTHING)])
    hand.draw([(1, SEGMENT)], [(1, NOTHING), (1, NOTHING)])
    hand.draw([(1, NOTHING)], [(1, STROKE), (1, STROKE)])
    assert hand.take(0) == [(2, STROKE), (1, SEGMENT), (1, NOTHING)]
    assert hand.take(1) == [(1, STROKE), (4, STROKE), (1, STROKE)]


def test_points_that_are_handed_out_say_nothing_of_later_ones():
    hand = Hand()
    hand.dots(NOTHING)
    hand.dots(STROKE)
    assert hand.take() == [(2, STROKE)]
    hand.dots(NOTHING)
    assert hand.take() == [(1, NOTHING)]


def test_the_end_of_a_leaf_waits_for_its_points():
    hand = Hand()
    hand.dots(NOTHING)
    hand.take()
    bounds = hand.dots(SEGMENT, now=1.0)
    assert (bounds.due.tolist(), bounds.turning.tolist(), bounds.finished) == ([], [0], {})
    assert not len(hand.dots(NOTHING, now=1.01, horizon=0.9).due)
    assert hand.dots(NOTHING, now=1.02, horizon=1.0).due.tolist() == [0]
    assert hand.take() == [(1, SEGMENT), (2, NOTHING)]


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize("before", [NOTHING, STROKE])
@pytest.mark.parametrize("within", [False, True])
def test_an_end_row_is_no_point_and_tells_whether_a_stroke_is_open(delivered, before, within):
    hand = Hand(spec(leaves=spec().leaves[:1]), stride=3)
    if within:
        bounds = hand.draw([(1, NOTHING), (1, before), (5, DRAWING)])
        assert bounds.points == 2
    else:
        hand.draw([(1, NOTHING), (1, before)])
        held = hand.take() if delivered else None
        bounds = hand.draw([(5, DRAWING)])
        assert bounds.points == 0
        assert held in (None, [(2, before)])
    assert bounds.finished == {0: End("complete", stroke_open=before == NOTHING)}
    assert (bounds.due.tolist(), bounds.turning.tolist()) == ([0], [])
    assert hand.pens.left[0] == 998
    assert hand.take() == ([] if delivered and not within else [(2, before)])


def test_an_end_row_after_a_turn_is_of_the_leaf_that_it_ends():
    hand = Hand(spec(leaves=spec().leaves[:2]), stride=4)
    bounds = hand.draw([(1, NOTHING), (1, SEGMENT), (1, NOTHING), (9, DRAWING)])
    assert bounds.finished == {0: End("complete", stroke_open=True)}
    assert (bounds.points, bounds.turning.tolist()) == (3, [])
    assert hand.take() == [(2, SEGMENT), (1, NOTHING)]


@pytest.mark.parametrize("ends", [NOTHING, STROKE, SEGMENT])
def test_budgets_end_the_leaf_or_the_drawing(ends):
    hand = Hand(spec(max_points=2), spec(max_points_leaf=2), spec())
    hand.dots(NOTHING, NOTHING, NOTHING)
    bounds = hand.dots(ends, ends, NOTHING)
    assert bounds.finished == {0: End("max_points", stroke_open=False)}
    assert bounds.turning.tolist() == [1]
    assert hand.pens.leaves_left.tolist()[1:] == [1, 2]
    assert hand.pens.step.tolist()[1:] == [0, 2]
    assert hand.take(0) == hand.take(1) == [(2, SEGMENT)]
    assert hand.take(2) == [(2, NOTHING)]


def test_the_last_leaf_completes_a_drawing_even_with_its_last_point():
    one = spec().leaves[:1]
    hand = Hand(spec(leaves=one, max_points=1), spec(leaves=one, max_points_leaf=1))
    bounds = hand.dots(SEGMENT, NOTHING)
    assert bounds.finished == dict.fromkeys((0, 1), End("complete", stroke_open=False))
    assert bounds.turning.tolist() == []


def test_a_step_goes_on_to_the_next_leaf():
    hand = Hand(spec(), stride=4)
    hand.draw([(1, NOTHING)] * 4)
    bounds = hand.draw([(1, NOTHING), (1, SEGMENT), (1, NOTHING), (1, STROKE)])
    assert (bounds.points, bounds.turning.tolist(), bounds.finished) == (4, [0], {})
    pens = hand.pens
    assert (pens.leaves_left[0], pens.step[0], pens.left[0]) == (1, 2, 992)
    hand.draw([(1, NOTHING)])
    assert pens.step[0] == 3
    assert hand.take() == [(6, SEGMENT), (2, STROKE), (1, NOTHING)]


def test_a_step_in_which_the_next_leaf_ends_too_turns_twice():
    hand = Hand(spec(), spec(leaves=spec().leaves[:2]), stride=4)
    both = [(1, NOTHING), (1, SEGMENT), (1, SEGMENT)]
    bounds = hand.draw(both, both)
    assert bounds.turning.tolist() == [0]
    assert bounds.finished == {1: End("complete", stroke_open=False)}
    assert (hand.pens.leaves_left[0], hand.pens.step[0]) == (0, 0)
    assert hand.take(0) == hand.take(1) == [(2, SEGMENT), (1, SEGMENT)]


def test_budgets_end_the_leaf_that_a_step_went_on_to():
    hand = Hand(spec(max_points_leaf=2), spec(max_points=3), stride=3)
    rows = [(1, SEGMENT), (1, NOTHING), (1, NOTHING)]
    bounds = hand.draw(rows, rows)
    assert bounds.turning.tolist() == [0]
    assert bounds.finished == {1: End("max_points", stroke_open=False)}
    assert (hand.pens.leaves_left[0], hand.pens.step[0]) == (0, 0)
    assert hand.take(0) == hand.take(1) == [(1, SEGMENT), (2, SEGMENT)]


def test_no_step_may_overdraw_a_budget():
    one = spec().leaves[:1]
    hand = Hand(
        spec(max_points=9, max_points_leaf=6),
        spec(max_points=4, max_points_leaf=6),
        spec(max_points=3, max_points_leaf=6),
        spec(leaves=one, max_points_leaf=2),
        stride=4,
    )
    assert hand.pens.limits(4).tolist() == [[6, 6], [4, 6], [3, 0], [2, 0]]
    assert hand.pens.limits(2).tolist() == [[6, 6], [4, 6]]
    hand.draw(*[[(1, NOTHING), (1, STROKE)]] * 3, [(1, NOTHING)])
    assert hand.pens.limits(4).tolist() == [[4, 6], [2, 0], [1, 0], [1, 0]]


def test_noise_is_of_the_next_rows_of_the_leaf_and_of_the_first_ones_of_the_next():
    hand = Hand(spec(), spec(), stride=3)
    for row, seed in enumerate((5, 6)):
        hand.pens.keys[row] = noise.key(seed, 0, 8), noise.key(seed, 0, 9)
    hand.draw([(1, NOTHING)] * 2, [(1, NOTHING)] * 3)
    drawn = hand.pens.noise(2, 5)
    assert drawn.shape == (2, 2, 3, 5)
    for row, (seed, step) in enumerate(((5, 2), (6, 3))):
        ahead = np.arange(3)
        assert np.array_equal(drawn[row, 0], noise.uniforms(seed, 0, 8, step + ahead, 5))
        assert np.array_equal(drawn[row, 1], noise.uniforms(seed, 0, 9, ahead, 5))


def test_known_points_are_due_at_once_and_so_is_the_first_new_one():
    hand = Hand(spec(known=3))
    for _ in range(4):
        assert hand.dots(STROKE).due.tolist() == [0]
        assert hand.take() == [(1, STROKE)]
    assert hand.dots(STROKE).due.tolist() == []
    assert (hand.pens.left[0], hand.pens.step[0]) == (995, 5)
    assert hand.times() == [5000 // 60]


@pytest.mark.parametrize(("known", "dues"), [(3, 1), (4, 2), (6, 2), (8, 3)])
def test_all_is_due_until_there_is_a_point_that_the_reader_has_not(known, dues):
    hand = Hand(spec(known=known), stride=4)
    due = []
    for _ in range(4):
        due.append(len(hand.draw([(1, NOTHING)] * 4).due))
        if due[-1]:
            hand.take()
    assert due == [1] * dues + [0] * (4 - dues)


def test_recalled_rows_are_forced_and_count_as_drawn():
    hand, pool = Hand(spec(prefix=np.zeros((1, 5)), recalled=np.zeros((2, 5)))), Prefixes()
    pens = hand.pens
    pool.add(hand.specs[0], pens, 0, 1)
    assert pens.on_canvas(1).all()
    assert not len(hand.dots(SEGMENT, drawn=[False]).due)
    for left in (1, 0):
        assert pens.forced(1).all()
        assert not pens.on_canvas(1).any()
        bounds = hand.dots(SEGMENT, drawn=[True])
        assert (bounds.due.tolist(), bounds.turning.tolist()) == ([0], [0])
        assert pens.leaves_left[0] == left
    assert not pens.forced(1).any()
    assert (pens.step[0], pens.left[0]) == (0, 998)


def test_the_canvas_makes_no_points_ends_nothing_and_takes_no_noise():
    hand, pool = Hand(spec(prefix=np.zeros((4, 5))), spec(), stride=2), Prefixes()
    pens = hand.pens
    pool.add(hand.specs[0], pens, 0, 2)
    for _ in range(2):
        assert pens.forced(2).tolist() == [True, False]
        bounds = hand.draw([(50, STROKE), (50, SEGMENT)], [(1, NOTHING)], drawn=[False, True])
        assert (bounds.points, bounds.due.tolist(), bounds.finished) == (1, [1], {})
        assert bounds.turning.tolist() == []
    assert not pens.forced(2).any()
    assert (pens.step[0], pens.left[0], pens.leaves_left[0]) == (0, 1000, 2)
    assert hand.draw([(9, NOTHING)], [(1, NOTHING)]).due.tolist() == [0, 1]
    assert hand.times() == [2000 // 60]  # from where the canvas ends


def test_prefixes_are_kept_apart_while_others_come_and_go():
    p, pool = Pens(2), Prefixes()
    long = np.arange(1000, dtype=np.float32).reshape(200, 5)
    pool.add(spec(prefix=long[:120], recalled=long[120:]), p, 0, 1)
    p.cursor[0] += 50
    for number in range(40):
        short = np.full((30, 5), number, np.float32)
        pool.add(spec(prefix=short), p, 1, 2)
        assert np.array_equal(pool.rows[p.cursor[0] : p.prefix_end[0], :5], long[50:])
        assert np.array_equal(pool.rows[p.cursor[1] : p.prefix_end[1], :5], short)
        kept = pool.rows[p.cursor[0] : p.prefix_end[0], 5]
        assert kept.tolist() == [NO_END] * 70 + [SAMPLED] * 80
        assert p.canvas_end[0] == p.cursor[0] + 70
    assert len(pool.rows) <= 1024


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 20])
def test_forced_rows_are_drawn_up_to_the_end_of_the_canvas_and_to_where_leaves_may_end(stride):
    canvas, recalled = np.full((5, 5), 1, np.float32), np.full((9, 5), 2, np.float32)
    canvas[:, 0], recalled[:, 0] = range(5), range(5, 14)
    ends = np.array([NO_END, NO_END, END, NO_END, SAMPLED, NO_END, NO_END, NO_END, NO_END])
    one = fakes.spec(prefix=canvas, recalled=recalled, recalled_ends=ends, known=9)
    p, pool, row = Pens(2), Prefixes(), np.array([1])
    pool.add(one, p, 1, 2)
    seen, stops = [], [0]
    while p.forced(2)[1]:
        taken, (until,) = pool.ahead(p, row, stride)
        assert taken.shape == (1, stride, 6)
        seen += taken[0, :until, 0].tolist()
        p.cursor[1] += until
        stops.append(stops[-1] + int(until))
    assert seen == list(range(14))
    assert {5, 8, 10, 14} <= {*stops}
    assert max(np.diff(stops)) == min(stride, 5)
    assert len(stops) - 1 == sum(-(-part // stride) for part in (5, 3, 2, 4))


def test_several_rows_are_handed_out_at_once_and_none_where_there_is_nothing():
    hand = Hand(spec(), spec(), spec(leaves=spec().leaves[:1]))
    hand.draw([(2, NOTHING)], [(3, STROKE)], [(0, STROKE)])
    hand.take(2)
    hand.draw([(2, NOTHING)], [(4, NOTHING)], [(0, DRAWING)])
    (first,), none, two = hand.pens.take(np.array([0, 2, 1]))
    assert none == []
    assert first.positions.tolist() == [[130.0, 128.0], [132.0, 128.0]]
    assert [piece.positions.tolist() for piece in two] == [[[131.0, 128.0]], [[135.0, 128.0]]]


def test_what_is_handed_out_is_not_overwritten_by_what_follows():
    hand = Hand()
    hand.dots(NOTHING)
    (piece,) = hand.pens.take(np.array([0]))[0]
    kept = piece.positions.copy(), piece.t_ms.copy()
    for _ in range(5):
        hand.draw([(30, STROKE)])
    assert np.array_equal(piece.positions, kept[0])
    assert np.array_equal(piece.t_ms, kept[1])
