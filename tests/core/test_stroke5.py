import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitree import errors
from hitree.drawing import Drawing
from hitree.stroke5 import DOWN, END, UP, from_grid, from_rows, snap, to_grid, to_rows
from strategies import drawings, same


def test_rows_of_a_line_and_a_dot_by_hand():
    rows = to_rows(Drawing.of([[[100, 120], [110, 125]], [[130, 130]]]))
    assert rows.tolist() == [
        [-28, -8, 1, 0, 0],  # the placement, from the frame's centre
        [10, 5, 0, 1, 0],
        [20, 5, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


@given(drawings)
def test_rows_round_trip_on_the_grid(drawing):
    assert same(from_rows(to_rows(drawing)), drawing)
    assert same(from_rows(to_rows(drawing, end=False)), drawing)


@given(drawings)
def test_every_row_has_one_pen_state_and_one_row_is_one_point(drawing):
    rows = to_rows(drawing)
    assert len(rows) == drawing.points + 1
    assert (rows[:, DOWN:].sum(axis=1) == 1).all()
    assert rows[:, UP].sum() == len(drawing.strokes)
    assert np.flatnonzero(rows[:, END]).tolist() == [len(rows) - 1]


@given(st.lists(st.tuples(st.floats(0, 256), st.floats(0, 256)), min_size=1, max_size=300))
def test_offsets_do_not_accumulate_rounding(points):
    stroke = np.array(points, np.float32)
    (found,) = from_rows(to_rows(Drawing((stroke,)))).strokes
    assert np.abs(found - stroke).max() <= 0.125


def test_rows_after_the_end_are_left_out():
    drawing = Drawing.of([[[1, 1], [2, 2]]])
    rows = np.concatenate([to_rows(drawing), to_rows(drawing)])
    assert same(from_rows(rows), drawing)


def test_an_unfinished_last_stroke_is_kept():
    rows = to_rows(Drawing.of([[[1, 1], [2, 2]], [[3, 3], [4, 4]]]), end=False)
    assert [len(stroke) for stroke in from_rows(rows[:3]).strokes] == [2, 1]


@given(st.lists(st.floats(-2000, 2000, width=32), max_size=20))
def test_grid_and_snap_agree(values):
    units = np.array(values, np.float32)
    assert np.array_equal(from_grid(to_grid(units)), snap(units))


@pytest.mark.parametrize(
    ("value", "error"),
    [(np.nan, errors.NotFinite), (-np.inf, errors.NotFinite), (1e12, errors.OutOfFrame)],
)
def test_grid_refuses_what_the_wire_cannot_hold(value, error):
    with pytest.raises(error, match="the canvas"):
        to_grid(np.array([[0, value]], np.float32), "the canvas")
