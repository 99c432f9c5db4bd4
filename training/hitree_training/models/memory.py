"""A key-value memory: what is generally said, kept beside the network that looks at strokes.

As in the talk *Improving Generative Models with Hierarchical Plans*: slots that all subjects share,
and slots of each subject. Keys and values are learnt; the memory is read by attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SHARED = 64  # slots for all subjects
OWN = 16  # slots of each subject
KEY = 64  # width of keys
SHARPNESS = 40.0  # nats that a subject's own slots lose when the cosine falls from 1 to 0


class Memory(nn.Module):
    """Slots that answer a query from an encoder, for a subject."""

    subjects: Tensor  # (N, E) sentence vectors, so that a subject is found by what it means

    def __init__(self, query: int, width: int, subjects: int, token_width: int) -> None:
        """``query`` and ``width`` are those of queries and of what is read."""
        super().__init__()
        slots = SHARED + OWN * subjects
        self.ask = nn.Linear(query, KEY)
        self.keys = nn.Parameter(torch.randn(slots, KEY))
        self.values = nn.Parameter(torch.randn(slots, width) / math.sqrt(width))
        self.register_buffer("subjects", torch.zeros(subjects, token_width))

    def forward(self, query: Tensor, subject: Tensor) -> Tensor:
        """What is read for ``query`` (S, Q) and the sentence vector ``subject`` (S, E): (S, W).

        An unknown subject, whose vector is zero, reads the slots of all subjects alike; one that
        was never trained on reads those of its kin.
        """
        weights: Tensor = self.attention(query, subject) @ self.values
        return weights

    def attention(self, query: Tensor, subject: Tensor) -> Tensor:
        """The weight of each slot, shared ones first: (S, SHARED + OWN * N)."""
        match = self.ask(query) @ self.keys.T / math.sqrt(KEY)  # (S, M)
        near = functional.log_softmax(SHARPNESS * subject @ self.subjects.T, dim=-1)  # (S, N)
        own = match[:, SHARED:] + near.repeat_interleave(OWN, dim=1)  # (S, N * OWN)
        return torch.softmax(torch.cat([match[:, :SHARED], own], dim=1), dim=-1)
