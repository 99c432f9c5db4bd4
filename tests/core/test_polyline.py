import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitree.polyline import divide, keep_shape, lengths, space
from strategies import drawings


def thin(points, epsilon=2.0):
    points = np.array(points, float)
    return points[keep_shape(points, np.array([0]), epsilon)].tolist()


def recursive(points: np.ndarray, epsilon: float) -> list[int]:
    """Ramer-Douglas-Peucker as the books have it: the indices it keeps."""

    def distance(point, start, end):
        along, away = end - start, point - start
        square = along @ along
        share = min(max((away @ along) / square, 0), 1) if square else 0
        return math.hypot(*(away - share * along))

    def walk(first, last):
        away = [distance(points[i], points[first], points[last]) for i in range(first + 1, last)]
        if not away or max(away) <= epsilon:
            return []
        middle = first + 1 + away.index(max(away))
        return [*walk(first, middle), middle, *walk(middle, last)]

    ends = [0] if len(points) == 1 else [0, len(points) - 1]
    return sorted({*ends, *walk(0, len(points) - 1)})


def test_thinning_by_hand():
    assert thin([[0, 0], [5, 2], [10, 0]]) == [[0, 0], [10, 0]]  # exactly epsilon away: dropped
    assert thin([[0, 0], [5, 2.01], [10, 0]]) == [[0, 0], [5, 2.01], [10, 0]]
    assert thin([[0, 0], [5, 1], [10, 10], [12.5, 5], [20, 0]]) == [
        [0, 0],
        [5, 1],
        [10, 10],
        [20, 0],
    ]
    assert thin([[3, 3]]) == [[3, 3]]
    assert thin([[3, 3], [3, 3]]) == [[3, 3], [3, 3]]


def test_a_closed_stroke_and_a_turn_are_kept():
    square = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
    assert thin(square) == square
    assert thin([[0, 0], [100, 0], [50, 0]]) == [[0, 0], [100, 0], [50, 0]]


@given(drawings, st.floats(0.1, 50))
def test_all_strokes_at_once_is_each_by_itself(drawing, epsilon):
    points = np.concatenate(drawing.strokes).astype(float)
    firsts = np.cumsum([0, *map(len, drawing.strokes)])
    kept = keep_shape(points, firsts[:-1], epsilon)
    for stroke, mask in zip(drawing.strokes, np.split(kept, firsts[1:-1]), strict=True):
        assert np.flatnonzero(mask).tolist() == recursive(stroke.astype(float), epsilon)


def test_a_long_stroke_of_noise_is_thinned_level_by_level():
    points = np.random.default_rng(0).normal(0, 30, (3000, 2)).cumsum(axis=0)
    assert np.flatnonzero(keep_shape(points, np.array([0]), 2.0)).tolist() == recursive(points, 2.0)


def test_spacing_by_hand():
    assert space(np.array([[0.0, 0], [2.5, 0]]), 1).tolist() == [[0, 0], [1, 0], [2, 0], [2.5, 0]]
    assert space(np.array([[0.0, 0], [2, 0], [2, 1]]), 1.5).tolist() == [[0, 0], [1.5, 0], [2, 1]]
    assert space(np.array([[4.0, 5]]), 1).tolist() == [[4, 5]]
    assert lengths(np.array([[0.0, 0], [3, 4], [3, 4]])).tolist() == [0, 5, 5]


def test_division_by_hand():
    found = divide([np.array([[0, 0], [3, 0], [3, 1]]), np.array([[7, 7]])], 5)
    assert found[0].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]]
    assert found[1].tolist() == [[7, 7]] * 5
    assert divide([], 5).shape == (0, 5, 2)


@given(drawings)
def test_division_keeps_ends_and_spacing(drawing):
    found = divide(drawing.strokes, 32)
    for stroke, points in zip(drawing.strokes, found, strict=True):
        assert points[0].tolist() == stroke[0].tolist()
        assert points[-1].tolist() == stroke[-1].tolist()
        total = lengths(stroke.astype(float))[-1]
        steps = np.hypot(*np.diff(points, axis=0).T)
        assert steps.max() <= total / 31 + 1e-6  # shortcuts at corners are shorter


@pytest.mark.parametrize("count", [2, 32])
def test_division_of_each_stroke_does_not_depend_on_the_others(count):
    strokes = [np.random.default_rng(seed).uniform(0, 256, (seed, 2)) for seed in range(1, 20)]
    together = divide(strokes, count)
    for index, stroke in enumerate(strokes):
        assert divide([stroke], count)[0] == pytest.approx(together[index], abs=1e-6)
