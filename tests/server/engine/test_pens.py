from __future__ import annotations

from typing import Any

import numpy as np

import fakes
from hitree_server.engine.pens import FLUSH_POINTS, Boundaries, Moves, Pens, Prefixes
from hitree_server.engine.sequence import NO_END, SAMPLED, SequenceSpec

DOWN, UP, END = 2, 3, 4


def take(pens):
    """What is handed out of row 0, of one stroke at most."""
    (piece,) = pens.take(np.array([0]))[0]
    return piece


def moves(*rows: tuple[float, float, int], segment_end: tuple[float, ...] | None = None) -> Moves:
    """Moves from the centre: (dx, dy, pen column) of every row."""
    previous = np.full((len(rows), 2), 128, np.float32)
    made = np.zeros((len(rows), 5), np.float32)
    for index, (dx, dy, pen) in enumerate(rows):
        made[index, :2], made[index, pen] = (dx, dy), 1
    over = np.array(segment_end or [0] * len(rows)) > 0
    return Moves(previous, made[:, None], np.ones(len(rows), np.int64), over)


def pens(rows: int = 1) -> Pens:
    fresh = Pens(rows)
    fresh.max_points[:], fresh.max_points_leaf[:] = 1000, 1000
    return fresh


def spec(*, recalled: Any = (), **given: Any) -> SequenceSpec:
    """A drawing with forced rows; of the recalled ones it is not known how leaves end."""
    rows = np.reshape(recalled, (-1, 5)).astype(np.float32)
    ends = np.full(len(rows), SAMPLED)
    return fakes.spec(recalled=rows, recalled_ends=ends, known=len(rows), **given)


def advance(p: Pens, m: Moves, now: float = 0.0, horizon: float = -1.0) -> Boundaries:
    return p.advance(m, now, horizon)


def test_pen_time_goes_by_in_ticks_of_8_units():
    p = pens()
    for offset in (0, 8, 8.25, 100, 3):
        advance(p, moves((offset, 0, DOWN)))
    ticks = np.cumsum([1, 1, 2, 13, 1])
    assert take(p)[1].tolist() == [int(t) * 1000 // 60 for t in ticks]


def test_a_tick_is_at_least_16_ms():
    p = pens()
    for _ in range(50):
        advance(p, moves((0, 0, DOWN)))
    assert np.diff(take(p)[1], prepend=0).min() == 16


def test_the_first_point_is_due_at_once_and_the_next_ones_wait():
    p = pens()
    assert advance(p, moves((1, 1, DOWN))).due.tolist() == [True]
    take(p)
    assert advance(p, moves((1, 1, DOWN))).due.tolist() == [False]


def test_points_are_due_when_the_oldest_has_waited_too_long():
    p = pens()
    advance(p, moves((1, 1, DOWN)))
    take(p)
    assert not advance(p, moves((1, 1, DOWN)), now=1.0, horizon=0.9).due[0]
    assert not advance(p, moves((1, 1, DOWN)), now=1.1, horizon=0.99).due[0]
    assert advance(p, moves((1, 1, DOWN)), now=1.2, horizon=1.0).due[0]


def test_a_full_buffer_is_due():
    p = pens()
    advance(p, moves((1, 1, DOWN)))
    take(p)
    due = [bool(advance(p, moves((1, 1, DOWN))).due[0]) for _ in range(FLUSH_POINTS)]
    assert due == [False] * (FLUSH_POINTS - 1) + [True]
    assert len(take(p)[0]) == FLUSH_POINTS


def test_a_lifted_pen_ends_the_stroke():
    p = pens(2)
    for pen in (DOWN, UP, DOWN):
        bounds = advance(p, moves((1, 1, pen), (1, 1, DOWN)))
        assert not bounds.stroke_over.any()  # its points will say so
    ended, going, whole = *p.take(np.array([0, 1]))[0], p.take(np.array([1]))
    assert (len(ended.positions), ended.ends) == (2, True)
    assert (len(going.positions), going.ends) == (1, False)
    assert whole == [()]


def test_points_that_are_handed_out_say_nothing_of_later_ones():
    p = pens()
    advance(p, moves((1, 1, DOWN)))
    advance(p, moves((1, 1, UP)))
    assert [piece.ends for piece in p.take(np.array([0]))[0]] == [True]
    advance(p, moves((1, 1, DOWN)))
    assert [piece.ends for piece in p.take(np.array([0]))[0]] == [False]


def test_a_stroke_ends_at_once_where_no_point_says_so():
    p = pens()
    p.known[:] = 2  # the reader has the stroke, but not that it is over
    advance(p, moves((1, 1, DOWN)))
    bounds = advance(p, moves((1, 1, UP)))
    assert bounds.stroke_over.all()
    assert bounds.due.all()
    assert p.take(np.array([0])) == [()]


def test_an_end_row_is_no_point_and_closes_an_open_stroke_only():
    p = pens(2)
    advance(p, moves((1, 1, UP), (1, 1, DOWN)))
    bounds = advance(p, moves((5, 5, END), (5, 5, END)))
    assert bounds.points == 0
    assert bounds.stroke_over.tolist() == [False, True]
    assert bounds.leaf_over.all()
    assert p.points.tolist() == [1, 1]


def test_budgets_end_the_leaf_or_the_drawing():
    p = pens(2)
    p.max_points[0], p.max_points_leaf[1] = 2, 2
    for _ in range(2):
        bounds = advance(p, moves((1, 1, DOWN), (1, 1, DOWN)))
    assert bounds.exhausted.tolist() == [True, False]
    assert bounds.leaf_over.tolist() == [False, True]
    assert bounds.stroke_over.all()


def test_only_the_last_leaf_may_end_the_drawing_and_not_before_its_first_point():
    p = pens(2)
    p.turn(np.array([0]), [1], [True])
    assert p.may_end(2)[:, 0].tolist() == [False, False]
    advance(p, moves((1, 1, DOWN), (1, 1, DOWN)))
    assert p.may_end(2)[:, 0].tolist() == [True, False]


def test_known_points_count_and_are_not_delivered():
    p = pens()
    p.known[0] = 3
    for number in (1, 2, 3):
        bounds = advance(p, moves((1, 1, UP)))
        assert bounds.stroke_over[0]
        assert bounds.quiet[0] == (number < 3)  # what ends with the last one may be news
        assert p.pending[0] == 0
    assert p.points[0] == p.points_leaf[0] == p.step[0] == 3
    assert p.ticks[0] == 3
    bounds = advance(p, moves((1, 1, DOWN)))
    assert bounds.due[0]  # the first new point goes at once
    assert take(p)[1].tolist() == [4000 // 60]


def test_recalled_rows_are_forced_and_count_as_drawn():
    p, pool = pens(), Prefixes()
    rows = np.zeros((3, 5), np.float32)
    pool.add(spec(prefix=rows[:1], recalled=rows[1:]), p, 0, 1)
    p.known[0] = 2
    assert not advance(p, moves((1, 1, UP), segment_end=(1,))).due.any()
    for _ in range(2):
        assert p.forced(1).all()
        assert advance(p, moves((1, 1, UP), segment_end=(1,))).leaf_over.all()
    assert not p.forced(1).any()
    assert p.step[0] == p.points[0] == 2


def test_forced_rows_make_no_points_end_nothing_and_take_no_noise():
    p = pens()
    pool = Prefixes()
    pool.add(spec(prefix=np.zeros((2, 5), np.float32)), p, 0, 1)
    for _ in range(2):
        assert p.forced(1).all()
        bounds = advance(p, moves((1, 1, UP), segment_end=(1,)))
        assert not bounds.due.any()
    assert not p.forced(1).any()
    assert p.step.tolist() == p.points.tolist() == [0]


def test_prefixes_are_kept_apart_while_others_come_and_go():
    p, pool = pens(2), Prefixes()
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


def test_several_rows_are_handed_out_at_once_and_none_where_there_is_nothing():
    p = pens(rows=3)
    advance(p, moves((2, 0, DOWN), (0, 3, DOWN), (0, 0, DOWN)))
    p.pending[2] = 0
    (first,), none, (second,) = p.take(np.array([0, 2, 1]))
    assert none == ()
    assert first.positions.tolist() == [[130.0, 128.0]]
    assert second.positions.tolist() == [[128.0, 131.0]]
    assert p.take(np.array([0, 1, 2])) == [(), (), ()]
