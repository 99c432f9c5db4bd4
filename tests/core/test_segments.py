import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitree.drawing import Drawing
from hitree.segments import stroke_features
from strategies import drawings


def test_a_line_by_hand():
    found = stroke_features(Drawing.of([[[0, 128], [256, 128]]]))
    assert found.shape == (1, 32, 4)
    assert found.dtype == np.float32
    ramp = np.linspace(-1, 1, 32)
    assert found[0, :, 0] == pytest.approx(ramp)
    assert found[0, :, 1] == pytest.approx(np.zeros(32))
    assert found[0, :, 2] == pytest.approx(ramp)
    assert found[0, :, 3] == pytest.approx(np.zeros(32))


def test_a_dot_repeats_its_point_and_has_no_shape():
    found = stroke_features(Drawing.of([[[192, 64]]]))
    assert found.tolist() == [[[0.5, -0.5, 0, 0]] * 32]


def test_no_strokes_give_no_rows():
    assert stroke_features(Drawing(())).shape == (0, 32, 4)


@given(drawings)
def test_features_stay_in_range(drawing):
    found = stroke_features(drawing)
    assert found.shape == (len(drawing.strokes), 32, 4)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1 + 1e-6


@given(drawings, st.integers(-256, 256), st.integers(-256, 256), st.sampled_from([1, 2, 4]))
def test_shape_knows_neither_place_nor_size(drawing, dx, dy, scale):
    large = [
        stroke for stroke in drawing.strokes if (stroke.max(axis=0) - stroke.min(axis=0)).max() > 4
    ]
    moved = Drawing(tuple(stroke * scale + np.float32([dx, dy]) for stroke in large))
    before, after = stroke_features(Drawing(tuple(large))), stroke_features(moved)
    assert after[..., 2:] == pytest.approx(before[..., 2:], abs=1e-3)


@given(drawings)
def test_a_stroke_does_not_depend_on_its_neighbours(drawing):
    whole = stroke_features(drawing)
    for index in range(len(drawing.strokes)):
        alone = stroke_features(drawing.slice(index, index + 1))
        assert alone[0] == pytest.approx(whole[index], abs=1e-5)


@given(drawings)
def test_backwards_is_the_same_points_in_reverse(drawing):
    turned = Drawing(tuple(stroke[::-1] for stroke in drawing.strokes))
    assert stroke_features(turned)[:, ::-1] == pytest.approx(stroke_features(drawing), abs=1e-4)
