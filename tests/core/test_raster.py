import numpy as np
import pytest

from hitree.drawing import FRAME, bounds
from hitree.raster import MARGIN, fitted, render


def test_a_line_inks_the_cells_it_runs_through() -> None:
    image = render([np.array([[0.0, 132.0], [255.0, 132.0]])], 32)
    assert image.shape == (32, 32)
    assert image.dtype == np.float32
    assert image[16].min() > 0.5
    assert image[:15].max() == 0
    assert image[18:].max() == 0


def test_a_dot_is_seen() -> None:
    image = render([np.array([[132.0, 20.0]])], 32)
    assert image.sum() == 1
    assert image[2, 16] == 1


def test_crossing_lines_stay_within_one() -> None:
    line = np.array([[0.0, 128.0], [255.0, 128.0]])
    assert render([line, line, line[:, ::-1]], 16).max() == 1


def test_no_strokes_are_an_empty_image() -> None:
    assert not render([], 8).any()


def test_what_lies_outside_the_frame_is_left_out() -> None:
    far = FRAME * 3
    assert not render([np.array([[far, far]])], 8).any()


def test_how_finely_a_line_is_cut_makes_little_difference() -> None:
    coarse = np.array([[10.0, 10.0], [210.0, 110.0]])
    fine = np.linspace(coarse[0], coarse[1], 41)
    assert np.abs(render([coarse]) - render([fine])).max() < 1e-6


def test_a_drawing_is_fitted_to_the_frame_in_its_proportions() -> None:
    small = [np.array([[10.0, 30.0], [30.0, 40.0]], np.float32), np.array([[20.0, 35.0]])]
    found = fitted(small)
    assert bounds(found) == pytest.approx((MARGIN, 68.0, FRAME - MARGIN, 188.0))
    np.testing.assert_allclose(found[1], [[128.0, 128.0]])
    assert fitted([]) == []


def test_a_lone_dot_is_moved_to_the_centre() -> None:
    np.testing.assert_array_equal(fitted([np.array([[3.0, 9.0]])])[0], [[128.0, 128.0]])
