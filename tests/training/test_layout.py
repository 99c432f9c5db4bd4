"""The layout: what a stroke finds among those before it."""

import torch

from hitree_training.models.layout import STROKES, Layout, strokes_of

CONDITION, WIDTH = 6, 8


def layout() -> Layout:
    torch.manual_seed(0)
    return Layout(CONDITION, WIDTH).eval()


def rows(strokes: int, points: int = 2) -> torch.Tensor:
    """One sequence (1, T, 5) of strokes to the right, and its end row."""
    made = torch.zeros(1, strokes * points + 1, 5)
    made[..., 0] = 2.0
    made[:, points - 1 : -1 : points, 3] = 1
    made[..., 2] = 1 - made[..., 3]
    made[:, -1] = torch.tensor([0.0, 0, 0, 0, 1])
    return made


def before(found: torch.Tensor) -> torch.Tensor:
    """Where the pen is before every row."""
    return torch.cat([torch.zeros(1, 1, 2), found[:, :-1, :2]], dim=1).cumsum(dim=1)


@torch.inference_mode()
def test_before_the_first_stroke_nothing_is_found() -> None:
    made = rows(3)
    held = layout()(made, before(made), torch.rand(1, 7, CONDITION))
    assert not held[0, :2].any()
    assert held[0, 2:].all()


@torch.inference_mode()
def test_what_was_found_is_held_through_the_stroke() -> None:
    made = rows(4, points=3)
    held = layout()(made, before(made), torch.rand(1, 13, CONDITION))
    number = strokes_of(made)[0]
    assert number.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    for n in range(5):
        assert (held[0, number == n] == held[0, number == n][0]).all()


@torch.inference_mode()
def test_a_stroke_and_what_it_was_told_change_what_later_ones_find() -> None:
    net, made = layout(), rows(4)
    condition = torch.rand(1, 9, CONDITION)
    plain = net(made, before(made), condition)
    told = condition.clone()
    told[:, 2:4] = -1.0  # of the second stroke
    moved = made.clone()
    moved[:, 3, 0] = 9.0  # its last point
    for other in (net(made, before(made), told), net(moved, before(moved), condition)):
        assert torch.equal(other[:, :2], plain[:, :2])
        assert (other[:, 4:] != plain[:, 4:]).any(dim=-1).all()


@torch.inference_mode()
def test_the_oldest_strokes_are_forgotten() -> None:
    net, made = layout(), rows(STROKES + 2)
    condition = torch.rand(1, made.shape[1], CONDITION)
    plain = net(made, before(made), condition)
    condition[:, :2] = -1.0  # of the first stroke
    other = net(made, before(made), condition)
    assert torch.equal(other[:, -3:], plain[:, -3:])  # after STROKES more
    assert (other[:, -5:-3] != plain[:, -5:-3]).any()


@torch.inference_mode()
def test_strokes_that_are_not_there_weigh_nothing() -> None:
    net = layout()
    kept = torch.rand(1, STROKES, 2 * WIDTH + 1)
    kept[..., -1] = 0
    asked = torch.rand(1, CONDITION), torch.rand(1, 2)
    assert not net.look(*asked, kept).any()
    kept[:, 0, -1] = 1
    assert net.look(*asked, kept).any()
