"""Training batches for generator and scorer: the strokes of several drawings, end to end.

Drawings are turned into `hitree.segments.stroke_features` once. Augmentation then works on those
features, for all strokes of a batch at once, and the columns that describe a stroke's own shape
are made anew from the changed points.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from hitree.drawing import CENTRE
from hitree.segments import SMALLEST, stroke_features
from hitree_training import data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from hitree_training.data import Example

SCALE = 0.15  # up to this share smaller or larger, each way
ROTATE = 0.08  # radians, standard deviation
SHIFT = 0.06  # of half a frame, standard deviation
JITTER = 0.006  # of half a frame, standard deviation of every point


@dataclass(frozen=True)
class StrokeBatch:
    """B drawings end to end."""

    strokes: Tensor  # (n, 32, 4) stroke features
    first: Tensor  # (B,) int64, index of each drawing's first stroke
    size: Tensor  # (B,) int64, its number of strokes
    mirrored: Tensor  # (B,) bool


class Strokes:
    """The stroke features of a set of drawings."""

    def __init__(self, examples: Sequence[Example], label: str) -> None:
        shown = track(examples, label, console=Console(stderr=True), transient=True)
        features = [stroke_features(example.drawing) for example in shown]
        self.sizes = torch.tensor([len(f) for f in features])
        self.offsets = self.sizes.cumsum(0) - self.sizes
        self.features = torch.from_numpy(np.concatenate(features))  # (n, 32, 4)

    def batch(self, index: Tensor, generator: torch.Generator | None) -> StrokeBatch:
        """The drawings at ``index`` (B,), augmented by ``generator`` if there is one."""
        size = self.sizes[index]
        first = size.cumsum(0) - size
        drawing = torch.arange(len(index)).repeat_interleave(size)  # (n,) which of the B
        flat = self.offsets[index][drawing] + torch.arange(len(drawing)) - first[drawing]
        strokes = self.features[flat]
        mirrored = torch.zeros(len(index), dtype=torch.bool)
        if generator is not None:
            mirrored = torch.rand(len(index), generator=generator) < 0.5
            strokes = _augment(strokes, drawing, mirrored, generator)
        return StrokeBatch(strokes, first, size, mirrored)


def _augment(
    strokes: Tensor, drawing: Tensor, mirrored: Tensor, generator: torch.Generator
) -> Tensor:
    """Mirror, scale, rotate, shift and jitter, drawing by drawing."""
    drawings = len(mirrored)
    factor = 1 + SCALE * (2 * torch.rand(drawings, 2, generator=generator) - 1)
    factor[:, 0] *= 1 - 2 * mirrored.float()
    angle = ROTATE * torch.randn(drawings, generator=generator)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
    shift = SHIFT * torch.randn(drawings, 1, 2, generator=generator)
    points = strokes[..., :2] * factor[drawing, None]  # (n, 32, 2)
    points = points @ turn.reshape(drawings, 2, 2)[drawing].transpose(1, 2) + shift[drawing]
    points = points + JITTER * torch.randn(points.shape, generator=generator)
    return torch.cat([points, own_shape(points)], dim=-1)


def own_shape(points: Tensor) -> Tensor:
    """The last two columns of `stroke_features` from the first two, (n, 32, 2)."""
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    half = (high - low).amax(dim=-1, keepdim=True) / 2  # (n, 1, 1) one size, aspect is kept
    return (points - (low + high) / 2) / half.clamp(min=SMALLEST / CENTRE)


def weights(examples: Sequence[Example], mix: Mapping[str, float]) -> Tensor:
    """Sampling weights: kinds by ``mix``, subjects alike within a kind. (len(examples),)"""
    groups = [(e.kind, e.subject) for e in examples]
    counts = Counter(groups)
    return torch.tensor([mix[kind] / counts[kind, subject] for kind, subject in groups])


def subject_vectors(examples: Sequence[Example]) -> Tensor:
    """The sentence vector of each example's subject. (len(examples), E)"""
    vectors = data.token_vectors()
    known = {name: vectors.sentence(name) for name in {e.subject for e in examples}}
    return torch.from_numpy(np.stack([known[e.subject] for e in examples]))
