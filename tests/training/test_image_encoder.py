"""The image encoder sees what `hitree.raster` renders, segment by segment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hitree.drawing import Drawing
from hitree.raster import SIZE, render
from hitree.segments import stroke_features
from hitree_training import data
from hitree_training.models.image_encoder import ImageEncoder, images, rasters

LINE = ((40.0, 60.0), (200.0, 60.0), (200.0, 180.0))
DOT = ((128.0, 30.0),)


def features(*strokes: tuple[tuple[float, float], ...]) -> torch.Tensor:
    return torch.from_numpy(stroke_features(Drawing.of(strokes)))


@pytest.mark.parametrize("stroke", [LINE, DOT], ids=["line", "dot"])
def test_a_stroke_is_drawn_as_by_render(stroke: tuple[tuple[float, float], ...]) -> None:
    drawn = rasters(features(stroke))[0].numpy()
    wanted = render([np.array(stroke)])
    assert np.abs(drawn - wanted).mean() < 0.01
    assert drawn.sum() == pytest.approx(wanted.sum(), rel=0.1)


def test_whole_drawings_look_alike_too() -> None:
    for example in data.load(kinds=("drawn",), splits=("valid",))[:20]:
        strokes = torch.from_numpy(stroke_features(example.drawing))
        whole = images(strokes, torch.tensor([[0, len(strokes)]]))[0, 1].numpy()
        wanted = render(example.drawing.strokes)
        assert np.abs(whole - wanted).mean() < 0.15 * wanted.mean()


def test_the_three_channels_are_before_with_and_whole() -> None:
    strokes = features(LINE, DOT, LINE)
    seen = images(strokes, torch.tensor([[1, 2], [0, 3]]))
    line, dot = rasters(strokes)[:2]
    assert seen.shape == (2, 3, SIZE, SIZE)
    torch.testing.assert_close(seen[0, 0], line)
    torch.testing.assert_close(seen[0, 1], (line + dot).clamp(max=1))
    torch.testing.assert_close(seen[0, 2], seen[1, 1])  # whole: ink does not grow twice
    assert seen[1, 0].max() == 0


def test_drawings_in_one_batch_do_not_see_each_other() -> None:
    encoder = ImageEncoder(16)
    one, other = features(LINE, DOT), features(DOT, LINE, DOT)
    spans = torch.tensor([[0, 1], [0, 2]])
    bounds = torch.tensor([[3, 5]] * 2)
    together = encoder(torch.cat([other, one]), spans + 3, bounds)
    torch.testing.assert_close(together, encoder(one, spans))
