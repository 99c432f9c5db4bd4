"""Instruction generator: what a segment adds, and how an instruction is carried out.

One text decoder, a GRU, is started from either of two contexts. *Describe* reads a segment of a
drawing and writes its instruction. *Expand* (plan mode) reads the instruction stack from the root
down to a node and writes the node's child instructions, or says that the node is a leaf. The
context alone tells the decoder which of the two it is doing.

A segment is followed stroke by stroke, or looked at as images (`ImageEncoder`); either may be
helped by a `Memory`. These are the preset's variants.

The decoder's state is the GRU's and, beside it, the sum of all words written so far: few examples
do not teach a small GRU to remember what it has said, and a plan must not say things twice.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hitree_training.models.image_encoder import ImageEncoder
from hitree_training.models.memory import Memory
from hitree_training.models.segment_encoder import SegmentEncoder
from hitree_training.models.step_encoder import StepEncoder
from hitree_training.models.text_encoder import TextEncoder
from hitree_training.presets import Preset

Variant = Literal["strokes", "strokes+memory", "images", "images+memory"]

SAID = 0.25  # weight of a word in the sum of what was said


class GeneratorPreset(Preset):
    """What a generator is made of."""

    variant: Variant = "strokes"  # how segments are read
    width: int  # W, of the encoders
    hidden: int  # H, of the text decoder's state; more than E, which remembers what was written
    dropout: float  # on contexts and outputs, in training
    layers: int = 0  # neighbours of a stroke that are seen with it; 0: each stroke is read alone


class Generator(nn.Module):
    """Writes instructions word by word."""

    def __init__(
        self, preset: GeneratorPreset, *, token_width: int, vocabulary: int, subjects: int = 0
    ) -> None:
        """``token_width`` E, of token vectors and embedded words; ``vocabulary`` V, words.

        ``subjects``: how many there are; only a memory has slots for each.
        """
        super().__init__()
        self.preset = preset
        width, hidden, tokens = preset.width, preset.hidden, token_width
        self.dropout = nn.Dropout(preset.dropout)
        self.segment_encoder = _reader(preset)
        self.memory: Memory | None = None
        if preset.variant.endswith("+memory"):
            self.memory = Memory(width + tokens, width, subjects, tokens)
        seen = width + tokens + (width if self.memory else 0)
        self.describe_context = _context(seen, hidden, preset.dropout)
        self.text_encoder = TextEncoder(tokens, width)
        self.expand_context = _context(3 * width + tokens + 1, hidden, preset.dropout)
        self.words = nn.Embedding(vocabulary, tokens)
        self.gru = nn.GRU(tokens, hidden - tokens, batch_first=True)
        self.to_word = nn.Linear(2 * hidden, tokens)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def describe(
        self, strokes: Tensor, spans: Tensor, subject: Tensor, bounds: Tensor | None = None
    ) -> Tensor:
        """Contexts (S, H) for ``spans`` (S, 2) of ``strokes`` (n, 32, 4).

        ``subject`` (S, E) is the subject's sentence vector; zeros mean that it is not known.
        """
        segments = self.segment_encoder(strokes, spans, bounds)
        seen = torch.cat([segments, subject], dim=-1)
        if self.memory:
            seen = torch.cat([seen, self.memory(seen, subject)], dim=-1)
        context: Tensor = self.describe_context(seen)
        return context

    def expand(self, stack: Tensor, stack_mask: Tensor, subject: Tensor) -> Tensor:
        """Contexts (B, H) for the nodes at the ends of instruction stacks.

        ``stack`` (B, L, T, E) holds the token vectors from the root to the node, ``stack_mask``
        (B, L, T) is all zero for levels that do not exist, ``subject`` is (B, E).
        """
        levels, length, tokens = stack.shape[1:]
        texts = self.text_encoder(
            stack.reshape(-1, length, tokens),  # (B, L, T, E) -> (B * L, T, E)
            stack_mask.reshape(-1, length),  # (B, L, T) -> (B * L, T)
        ).reshape(-1, levels, self.preset.width)  # (B * L, W) -> (B, L, W)
        exists = stack_mask.amax(dim=-1)  # (B, L)
        # 1 at the last level that exists: the node itself.
        node = exists - torch.cat([exists[:, 1:], torch.zeros_like(exists[:, :1])], dim=1)
        depth = exists.sum(dim=1, keepdim=True)  # (B, 1)
        parts = [
            texts[:, 0],
            (texts * node.unsqueeze(-1)).sum(dim=1),
            texts.sum(dim=1) / depth.clamp(min=1.0),
            subject,
            depth - 1.0,
        ]
        context: Tensor = self.expand_context(torch.cat(parts, dim=-1))
        return context

    def forward(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the words after ``tokens`` (B, T), which begin with BOS."""
        return self.logits(self.read(context, tokens))

    def read(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Features (B, T, 2H) after ``tokens`` (B, T), from which `logits` tells the next words."""
        # Whole words are dropped, so that the decoder leans on the context and not on habit.
        words = self.words(tokens)  # (B, T, E)
        start, before = self._split(context)
        said = before.unsqueeze(1) + SAID * words.cumsum(dim=1)
        # dropout1d takes (N, C, L) and drops along L: here whole words.
        heard = functional.dropout1d(words, self.preset.dropout / 2, self.training)
        hidden, _ = self.gru(heard, start.unsqueeze(0).contiguous())  # (B, T, H - E)
        state = torch.cat([hidden, said], dim=-1)  # (B, T, H)
        return torch.cat([state, context.unsqueeze(1).expand_as(state)], dim=-1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (…, V) of the words after ``features`` (…, 2H)."""
        # Output words are the input words (tied): few annotations have to teach them only once.
        return functional.linear(self.to_word(self.dropout(features)), self.words.weight, self.bias)

    def step(self, token: Tensor, context: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """One word: ``token`` (B,) int64, ``context`` and ``h`` (B, H), h first being the context.

        Returns ``log_probs`` (B, V) of the next word and the new state (B, H). The gates are
        written out, with the weights of the fused layer, so that it exports as plain products.
        """
        word = self.words(token)  # (B, E)
        old, said = self._split(h)
        w_x, w_s, b_x, b_s = self.gru.all_weights[0]
        x, s = functional.linear(word, w_x, b_x), functional.linear(old, w_s, b_s)
        x_reset, x_update, x_new = x.chunk(3, dim=-1)
        s_reset, s_update, s_new = s.chunk(3, dim=-1)
        reset, update = torch.sigmoid(x_reset + s_reset), torch.sigmoid(x_update + s_update)
        new = torch.tanh(x_new + reset * s_new)
        h = torch.cat([(1.0 - update) * new + update * old, said + SAID * word], dim=-1)
        return functional.log_softmax(self.logits(torch.cat([h, context], dim=-1)), dim=-1), h

    def _split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """The GRU's part of a state (B, H), and what was said, (B, E)."""
        return state[:, : self.gru.hidden_size], state[:, self.gru.hidden_size :]


def _reader(preset: GeneratorPreset) -> nn.Module:
    """What reads segments, (n, 32, 4) strokes and (S, 2) spans to (S, W)."""
    if preset.variant.startswith("images"):
        return ImageEncoder(preset.width, preset.dropout)
    if preset.layers:
        return StepEncoder(preset.width, preset.layers, preset.dropout)
    return SegmentEncoder(preset.width, preset.dropout)


def _context(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
    )
