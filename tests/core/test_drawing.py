import numpy as np
import pytest
from hypothesis import given

from hitree import errors
from hitree.drawing import Drawing, bounds
from hitree.limits import LIMITS
from strategies import drawings, same

LINE = [[0, 0], [10, 20]]


@pytest.mark.parametrize(
    ("strokes", "error"),
    [
        (["abc"], errors.InvalidDrawing),
        ([[["1", "2"], ["3", "4"]]], errors.InvalidDrawing),
        ([[[True, False]]], errors.InvalidDrawing),
        ([[None]], errors.InvalidDrawing),
        ([[[1, 2], [3]]], errors.InvalidDrawing),
        ([[[1, 2, 3]]], errors.InvalidDrawing),
        ([[1, 2]], errors.InvalidDrawing),
        ([[[1, 1j]]], errors.InvalidDrawing),
        ([[]], errors.EmptyDrawing),
    ],
)
def test_of_refuses_what_is_no_stroke(strokes, error):
    with pytest.raises(error, match=r"stroke 0") as caught:
        Drawing.of(strokes)
    assert type(caught.value) is error


def test_of_takes_lists_and_arrays():
    drawing = Drawing.of([LINE, np.array([[5.5, 6]])])
    assert [stroke.dtype for stroke in drawing.strokes] == [np.float32] * 2
    assert drawing.points == 3


@pytest.mark.parametrize(
    ("drawing", "error"),
    [
        (Drawing(()), errors.EmptyDrawing),
        (
            Drawing((np.zeros((0, 2), np.float32), np.zeros((2, 2), np.float32))),
            errors.EmptyDrawing,
        ),
        (Drawing.of([[[3, 4]]]), errors.SinglePoint),
        (Drawing.of([[[0, float("nan")], [1, 1]]]), errors.NotFinite),
        (Drawing.of([[[0, float("inf")], [1, 1]]]), errors.NotFinite),
        (Drawing.of([[[0, 1e300], [1, 1]]]), errors.NotFinite),
        (Drawing.of([[[0, 0], [1e6, 1]]]), errors.OutOfFrame),
        (Drawing.of([[[0, -2000], [1, 1]]]), errors.OutOfFrame),
        (Drawing.of([LINE] * (LIMITS.drawing_strokes + 1)), errors.TooManyStrokes),
        (Drawing.of([LINE] * 10_000), errors.TooManyStrokes),
        (Drawing.of([LINE * (LIMITS.drawing_points // 2 + 1)]), errors.TooManyPoints),
    ],
)
def test_check_has_an_error_of_its_own_for_each_fault(drawing, error):
    with pytest.raises(error) as caught:
        drawing.check(noun="canvas")
    assert type(caught.value) is error
    assert "canvas" in caught.value.message


def test_a_coordinate_just_outside_is_told_as_it_is():
    with pytest.raises(errors.OutOfFrame, match=r"from -1024\.25 to 12\.5;"):
        Drawing.of([[[-1024.25, 0], [1, 12.5]]]).check()


def test_check_returns_what_is_fine():
    drawing = Drawing.of([LINE, [[7, 7]]])  # a dot beside a line is legal
    assert drawing.check() is drawing
    two_dots = Drawing.of([[[1, 1]], [[2, 2]]])
    assert two_dots.check() is two_dots


def test_check_takes_the_limits_of_a_canvas():
    drawing = Drawing.of([LINE] * 129)
    with pytest.raises(errors.TooManyStrokes, match="128"):
        drawing.check(max_strokes=LIMITS.canvas_strokes, max_points=LIMITS.canvas_points)


@given(drawings)
def test_slices_put_together_are_the_drawing(drawing):
    for cut in range(len(drawing.strokes) + 1):
        halves = drawing.slice(0, cut).strokes + drawing.slice(cut, len(drawing.strokes)).strokes
        assert same(Drawing(halves), drawing)


@given(drawings)
def test_bounds_hold_every_point(drawing):
    left, top, right, bottom = bounds(drawing.strokes)
    for x, y in np.concatenate(drawing.strokes):
        assert left <= x <= right
        assert top <= y <= bottom
