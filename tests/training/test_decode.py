"""Decoding over a step function that is a table of probabilities."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch

from hitree.text import Vocabulary
from hitree_training.decode import NEVER, beam, greedy, sample

if TYPE_CHECKING:
    from hitree_training.decode import StepFunction

A, B = 6, 7
SIZE = 8


def table(seed: int) -> torch.Tensor:
    """Log-probabilities (word before, word after)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(SIZE, SIZE, generator=generator), dim=-1)


def stepper(log_probs: torch.Tensor) -> StepFunction:
    def step(
        token: torch.Tensor, context: torch.Tensor, h: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert context.shape == h.shape
        return log_probs[token], h + 1

    return step


CONTEXT = torch.zeros(2, 3)


def test_greedy_takes_the_likeliest_word_that_is_allowed() -> None:
    log_probs = torch.full((SIZE, SIZE), -9.0)
    log_probs[Vocabulary.BOS, Vocabulary.UNK] = 0.0  # banned
    log_probs[Vocabulary.BOS, A] = -1.0
    log_probs[A, B] = log_probs[B, Vocabulary.EOS] = -0.5
    found = greedy(stepper(log_probs), CONTEXT, limit=9)
    assert [one.ids for one in found] == [(A, B), (A, B)]
    assert found[0].log_prob == pytest.approx(-2.0)
    assert found[0].mean == pytest.approx(-2.0 / 3)
    assert found[0].finished


def test_greedy_stops_at_the_limit() -> None:
    log_probs = torch.full((SIZE, SIZE), -9.0)
    log_probs[:, A] = -0.1
    (found, _) = greedy(stepper(log_probs), CONTEXT, limit=4)
    assert found.ids == (A,) * 4
    assert not found.finished


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_of_all_sequences(seed: int) -> None:
    log_probs, limit = table(seed), 3
    allowed = [word for word in range(SIZE) if word not in (*NEVER, Vocabulary.EOS)]
    best = -math.inf
    for length in range(limit):
        for ids in itertools.product(allowed, repeat=length):
            path = [Vocabulary.BOS, *ids, Vocabulary.EOS]
            total = sum(float(log_probs[a, b]) for a, b in itertools.pairwise(path))
            best = max(best, total / (length + 1))
    beams = beam(stepper(log_probs), CONTEXT, limit=limit, width=200)[0]
    found = max(one.mean for one in beams if one.finished)
    assert found == pytest.approx(best, abs=1e-5)


def test_a_beam_of_one_is_greedy_and_rows_do_not_mix() -> None:
    step = stepper(table(1))
    single = beam(step, CONTEXT, limit=5, width=1)
    assert [row[0].ids for row in single] == [one.ids for one in greedy(step, CONTEXT, limit=5)]
    several = beam(step, CONTEXT, limit=5, width=4)
    assert several[0] == several[1]


def test_sampling_follows_its_seed_and_its_k() -> None:
    step = stepper(table(2))

    def draw(seed: int, top_k: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        found = sample(
            step,
            torch.zeros(40, 3),
            limit=6,
            top_k=top_k,
            temperature=1.0,
            generator=generator,
        )
        return [one.ids for one in found]

    assert draw(0, 4) == draw(0, 4) != draw(1, 4)
    assert len(set(draw(0, 4))) > 3
    assert draw(0, 1)[0] == greedy(step, CONTEXT, limit=6)[0].ids
    assert not {word for ids in draw(0, 8) for word in ids} & set(NEVER)
