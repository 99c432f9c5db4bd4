"""Tree scorer: two towers, segments and instructions, in one space of unit vectors.

The fit of an instruction to a segment is the dot product of the two.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hitree_training.models.segment_encoder import SegmentEncoder
from hitree_training.models.text_encoder import TextEncoder
from hitree_training.presets import Preset


class ScorerPreset(Preset):
    """What a scorer is made of."""

    width: int  # W, of the encoders
    space: int  # D, of the common space
    dropout: float  # in both towers, in training


class Scorer(nn.Module):
    """Segments and instructions as unit vectors."""

    def __init__(self, preset: ScorerPreset, *, token_width: int) -> None:
        """``token_width`` E, of token vectors."""
        super().__init__()
        self.preset = preset
        self.segment_encoder = SegmentEncoder(preset.width, preset.dropout)
        self.segment_tower = _tower(preset)
        self.text_encoder = TextEncoder(token_width, preset.width)
        self.text_tower = _tower(preset)

    def segments(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Embed ``spans`` (S, 2) of ``strokes`` (n, 32, 4); return (S, D), unit norm."""
        encoded = self.segment_encoder(strokes, spans, bounds)
        return functional.normalize(self.segment_tower(encoded), dim=-1, eps=1e-6)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed texts given as token vectors (B, T, E) and mask (B, T); return (B, D), unit."""
        encoded = self.text_encoder(tokens, mask)
        return functional.normalize(self.text_tower(encoded), dim=-1, eps=1e-6)


def _tower(preset: ScorerPreset) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Dropout(preset.dropout), nn.Linear(preset.width, preset.space)
    )
