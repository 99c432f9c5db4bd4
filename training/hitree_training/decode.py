"""Decoding: word sequences from a step function, greedily, by sampling or by beam search.

A step function takes ``token`` (B,) int64, ``context`` (B, H) and state ``h`` (B, H) and returns
``log_probs`` (B, V) and the next state; it is `Generator.step` or anything like it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hitree.text import Vocabulary

StepFunction = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

NEVER = (Vocabulary.PAD, Vocabulary.BOS, Vocabulary.UNK)
ONE_SENTENCE = (*NEVER, Vocabulary.SEP, Vocabulary.LEAF)
"""Ids that an instruction, other than an expansion, never holds."""


@dataclass(frozen=True)
class Decoded:
    """One sequence of words."""

    ids: tuple[int, ...]  # without BOS and EOS
    log_prob: float  # of all words and the EOS together
    finished: bool  # whether EOS came before the limit

    @property
    def mean(self) -> float:
        """The mean log-probability of a word, EOS counted."""
        return self.log_prob / (len(self.ids) + self.finished)


def greedy(
    step: StepFunction, context: Tensor, *, limit: int, banned: tuple[int, ...] = NEVER
) -> list[Decoded]:
    """The likeliest word at a time, for each of ``context`` (B, H); at most ``limit`` words."""
    return _roll(step, context, limit, banned, lambda log_probs: log_probs.argmax(dim=-1))


def sample(
    step: StepFunction,
    context: Tensor,
    *,
    limit: int,
    top_k: int,
    temperature: float,
    generator: torch.Generator,
    banned: tuple[int, ...] = NEVER,
) -> list[Decoded]:
    """Draw each word from the ``top_k`` likeliest, for each of ``context`` (B, H)."""

    def choose(log_probs: Tensor) -> Tensor:
        best, ids = log_probs.topk(min(top_k, log_probs.shape[-1]), dim=-1)  # (B, K)
        weights = torch.softmax(best / temperature, dim=-1)
        return ids.gather(1, torch.multinomial(weights, 1, generator=generator))[:, 0]

    return _roll(step, context, limit, banned, choose)


def _roll(
    step: StepFunction,
    context: Tensor,
    limit: int,
    banned: tuple[int, ...],
    choose: Callable[[Tensor], Tensor],
) -> list[Decoded]:
    token = torch.full((len(context),), Vocabulary.BOS)
    h, live = context, torch.ones(len(context), dtype=torch.bool)
    total = torch.zeros(len(context))
    words: list[Tensor] = []
    while len(words) < limit and live.any():
        log_probs, h = step(token, context, h)
        token = choose(_ban(log_probs, banned))
        total += log_probs.gather(1, token[:, None])[:, 0] * live
        token = torch.where(live, token, Vocabulary.EOS)
        live = live & (token != Vocabulary.EOS)
        words.append(token)
    rows = torch.stack(words, dim=1).tolist() if words else [[] for _ in context]
    return [
        _decoded(row, value, not going)
        for row, value, going in zip(rows, total.tolist(), live.tolist(), strict=True)
    ]


def beam(
    step: StepFunction,
    context: Tensor,
    *,
    limit: int,
    width: int,
    banned: tuple[int, ...] = NEVER,
) -> list[list[Decoded]]:
    """The ``width`` best sequences for each of ``context`` (B, H), best first.

    Ranked by the mean log-probability of a word, so that short sequences have no advantage.
    """
    rows = len(context)
    context = context.repeat_interleave(width, dim=0)  # (B * K, H)
    h = context
    token = torch.full((rows * width,), Vocabulary.BOS)
    total = torch.full((rows, width), -torch.inf)
    total[:, 0] = 0.0  # all beams begin alike: only one of them counts
    words = torch.zeros(rows, width, 0, dtype=torch.int64)
    done = torch.zeros(rows, width, dtype=torch.bool)
    base = torch.arange(rows)[:, None] * width
    for _ in range(limit):
        if done.all():
            break
        log_probs, h = step(token, context, h)
        spread = _ban(log_probs, banned).reshape(rows, width, -1)  # (B * K, V) -> (B, K, V)
        stay = torch.full_like(spread, -torch.inf)
        stay[..., Vocabulary.EOS] = 0.0  # a finished beam only repeats its EOS, at no cost
        spread = torch.where(done[..., None], stay, spread) + total[..., None]
        total, place = spread.flatten(1).topk(width, dim=1)  # (B, K)
        parent, word = place // spread.shape[-1], place % spread.shape[-1]
        kept = words.gather(1, parent[..., None].expand(-1, -1, words.shape[-1]))
        words = torch.cat([kept, word[..., None]], dim=-1)
        done = done.gather(1, parent) | (word == Vocabulary.EOS)
        h = h[(base + parent).flatten()]
        token = word.flatten()
    return [
        _ranked(*row) for row in zip(words.tolist(), total.tolist(), done.tolist(), strict=True)
    ]


def _ranked(words: list[list[int]], total: list[float], done: list[bool]) -> list[Decoded]:
    beams = [_decoded(*found) for found in zip(words, total, done, strict=True)]
    return sorted(beams, key=lambda found: found.mean, reverse=True)


def _ban(log_probs: Tensor, banned: tuple[int, ...]) -> Tensor:
    log_probs = log_probs.clone()
    log_probs[:, list(banned)] = -torch.inf
    return log_probs


def _decoded(row: list[int], total: float, finished: bool) -> Decoded:
    cut = row.index(Vocabulary.EOS) if Vocabulary.EOS in row else len(row)
    return Decoded(tuple(row[:cut]), total, finished)
