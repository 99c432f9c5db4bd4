"""Tree scorer: two towers, segments and instructions, in one space of unit vectors; and unity.

The fit of an instruction to a segment is the dot product of the two. Unity is how likely a segment
is one step of its drawing, whatever is said about it: a network of its own, so that neither costs
the other anything.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hitree_training.models.segment_encoder import SegmentEncoder
from hitree_training.models.stroke_context import Unity
from hitree_training.models.text_encoder import TextEncoder
from hitree_training.presets import Preset


class ScorerPreset(Preset):
    """What a scorer is made of."""

    width: int  # W, of the encoders
    space: int  # D, of the common space
    dropout: float  # everywhere, in training
    unity: int  # width of the network that scores segments as steps
    layers: int  # of it, over neighbouring strokes


class Scorer(nn.Module):
    """Segments and instructions as unit vectors, and segments as steps."""

    def __init__(self, preset: ScorerPreset, *, token_width: int) -> None:
        """``token_width`` E, of token vectors."""
        super().__init__()
        self.preset = preset
        self.segment_encoder = SegmentEncoder(preset.width, preset.dropout)
        self.segment_tower = _tower(preset)
        self.text_encoder = TextEncoder(token_width, preset.width)
        self.text_tower = _tower(preset)
        self.steps = Unity(preset.unity, preset.layers, preset.dropout)

    def segments(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Embed ``spans`` (S, 2) of ``strokes`` (n, 32, 4); return (S, D), unit norm."""
        encoded = self.segment_encoder(strokes, spans, bounds)
        return functional.normalize(self.segment_tower(encoded), dim=-1, eps=1e-6)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed texts given as token vectors (B, T, E) and mask (B, T); return (B, D), unit."""
        encoded = self.text_encoder(tokens, mask)
        return functional.normalize(self.text_tower(encoded), dim=-1, eps=1e-6)

    def unity(self, strokes: Tensor, spans: Tensor, bounds: Tensor | None = None) -> Tensor:
        """Log-odds that ``spans`` (S, 2) of ``strokes`` (n, 32, 4) are steps; return (S,)."""
        scored: Tensor = self.steps(strokes, spans, bounds)
        return scored


def _tower(preset: ScorerPreset) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Dropout(preset.dropout), nn.Linear(preset.width, preset.space)
    )
