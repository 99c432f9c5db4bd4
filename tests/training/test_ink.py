"""Training pictures are what the core's raster draws, changed no further than asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from hitree_training import data
from hitree_training.ink import NO_AUGMENTATION, Augmentation, Ink
from hitree_training.models.classifier import pictures

if TYPE_CHECKING:
    from hitree_training.data import Example

SIZE = 32


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return data.load(None, kinds=("drawn",), splits=("valid",))[:12]


@pytest.fixture(scope="module")
def ink(examples: list[Example]) -> Ink:
    return Ink(examples, SIZE, "reading")


def images(ink: Ink, index: list[int], by: Augmentation, seed: int = 0) -> torch.Tensor:
    return ink.images(torch.tensor(index), torch.Generator().manual_seed(seed), by)


def test_unchanged_pictures_are_those_that_are_served(ink: Ink, examples: list[Example]) -> None:
    found = images(ink, [5, 0, 5], NO_AUGMENTATION)
    expected = pictures([examples[i].drawing for i in (5, 0, 5)], SIZE)
    assert found.shape == expected.shape == (3, 1, SIZE, SIZE)
    # Corners lie between samples, so that refitting moves lines by a fraction of a cell.
    assert float((found - expected).abs().mean()) < 0.01
    torch.testing.assert_close(found[0], found[2])


def test_mirroring_mirrors(ink: Ink) -> None:
    always = images(ink, [3], replace(NO_AUGMENTATION, mirror=1.0))
    torch.testing.assert_close(
        always, images(ink, [3], NO_AUGMENTATION).flip(-1), atol=1e-3, rtol=0
    )


def test_a_drawing_does_not_depend_on_its_batch(ink: Ink) -> None:
    together = images(ink, [1, 2, 3], NO_AUGMENTATION)
    torch.testing.assert_close(together[1:2], images(ink, [2], NO_AUGMENTATION))


@pytest.mark.parametrize("name", ["stretch", "turn", "shear", "bend", "shift", "leave_out"])
def test_every_change_is_seen_and_the_drawing_fills_the_frame(ink: Ink, name: str) -> None:
    plain = images(ink, [0, 1, 2, 3], NO_AUGMENTATION)
    by = replace(NO_AUGMENTATION, **{name: 0.3})
    found = images(ink, [0, 1, 2, 3], by)
    assert float((found - plain).abs().mean()) > 0.01
    for image in found[:, 0]:  # the longer side spans the frame
        assert all(part.any() for part in (image[:2], image[-2:])) or all(
            part.any() for part in (image[:, :2], image[:, -2:])
        )
    assert not torch.equal(found, images(ink, [0, 1, 2, 3], by, seed=1))


def test_a_drawing_keeps_a_stroke_whatever_is_left_out(ink: Ink) -> None:
    assert (
        images(ink, [0, 1], replace(NO_AUGMENTATION, leave_out=1.0)).sum(dim=(1, 2, 3)) > 5
    ).all()
