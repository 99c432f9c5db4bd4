"""Classifier: which subject a drawing shows, from its picture.

A small convolutional network on rasters (`hitree.raster`) of drawings that are fitted to the
frame. Convolutions are separable (Chollet, Xception, 2017), so that one drawing takes a
millisecond on a CPU. The logits come out calibrated: they are divided by a temperature that is
fitted to held-out drawings (Guo et al., On Calibration of Modern Neural Networks, 2017), so that
their softmax is as sure as it is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hitree import raster
from hitree_training.presets import Preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hitree.drawing import Drawing


class ClassifierPreset(Preset):
    """What a classifier is made of."""

    size: int  # G, cells a side of the picture
    width: int  # W, channels at half the picture's size; twice and four times as many below
    blocks: int  # at a quarter and at an eighth of the size, each
    dropout: float  # of what the subjects are told from, in training


class Classifier(nn.Module):
    """Pictures to logits of subjects."""

    def __init__(self, preset: ClassifierPreset, *, subjects: int) -> None:
        super().__init__()
        self.preset = preset
        W = preset.width
        self.features = nn.Sequential(
            _convolution(1, W, size=5, stride=2),
            *_stage(W, 2 * W, preset.blocks),
            *_stage(2 * W, 4 * W, preset.blocks),
        )
        self.dropout = nn.Dropout(preset.dropout)
        self.head = nn.Linear(8 * W, subjects)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))  # 1 until it is fitted

    @property
    def size(self) -> int:
        """G, cells a side of the pictures that it takes."""
        return self.preset.size

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, subjects) of ``images`` (B, 1, G, G), ink 0 to 1."""
        maps = self.features(images)  # (B, 4W, G / 8, G / 8)
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)  # (B, 8W)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits / self.temperature

    def narrow(self, rows: Sequence[int]) -> None:
        """Keep the logits of some subjects only, in the order of ``rows``."""
        kept = nn.Linear(self.head.in_features, len(rows))
        state = self.head.state_dict()
        kept.load_state_dict({name: value[list(rows)] for name, value in state.items()})
        self.head = kept


class _Block(nn.Module):
    """A separable convolution that is added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Nothing between the two halves: better (Xception, section 4.7), and quicker to train.
        apart = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.inner = nn.Sequential(apart, _convolution(width, width, size=1))

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.inner(maps)
        return maps + changed


def _stage(before: int, width: int, blocks: int) -> list[nn.Module]:
    """Half the size, ``width`` channels, then blocks."""
    down = _convolution(before, width, size=3, stride=2)
    return [down, *(_Block(width) for _ in range(blocks))]


def _convolution(before: int, width: int, *, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def pictures(drawings: Sequence[Drawing], size: int) -> Tensor:
    """What a classifier sees of drawings: (B, 1, size, size)."""
    images = [raster.render(raster.fitted(drawing.strokes), size) for drawing in drawings]
    return torch.from_numpy(np.stack(images))[:, None]


@torch.inference_mode()
def classify(model: Callable[[Tensor], Tensor], images: Tensor, size: int = 256) -> Tensor:
    """Logits (N, subjects) of any number of ``images`` (N, 1, G, G), ``size`` at a time."""
    return torch.cat([model(some) for some in torch.split(images, size)])
