"""The memory attends: to a subject's own slots and the shared ones, by what is asked."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hitree_training.models.memory import OWN, SHARED, Memory

SUBJECTS, QUERY, TOKENS = 3, 8, 12


@pytest.fixture
def memory() -> Memory:
    torch.manual_seed(0)
    made = Memory(QUERY, 5, SUBJECTS, TOKENS)
    made.subjects.copy_(functional.normalize(torch.randn(SUBJECTS, TOKENS), dim=-1))
    return made


def shares(memory: Memory, query: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
    """The weight of each subject's own slots together: (S, N)."""
    attention = memory.attention(query, subject)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(len(query)))
    return (
        attention[:, SHARED:].reshape(-1, SUBJECTS, OWN).sum(dim=2)
    )  # (S, N * OWN) -> (S, N, OWN)


def test_a_subject_reads_its_own_slots(memory: Memory) -> None:
    own = shares(memory, torch.randn(SUBJECTS, QUERY), memory.subjects)
    assert (own.diagonal() > 0.05).all()
    assert (own - own.diagonal().diag()).max() < 1e-3


def test_shared_slots_are_read_as_well(memory: Memory) -> None:
    own = shares(memory, torch.randn(SUBJECTS, QUERY), memory.subjects)
    assert (own.sum(dim=1) < 0.95).all()


def test_an_unknown_subject_reads_the_slots_of_all(memory: Memory) -> None:
    own = shares(memory, torch.zeros(1, QUERY), torch.zeros(1, TOKENS))[0]
    assert own.min() > 0.2 * own.max() > 0


def test_what_is_read_depends_on_the_query(memory: Memory) -> None:
    subject = memory.subjects[:1].expand(2, -1)
    read = memory(10 * torch.randn(2, QUERY), subject)
    assert read.shape == (2, 5)
    assert not torch.allclose(read[0], read[1], atol=1e-2)


def test_keys_and_values_learn(memory: Memory) -> None:
    memory(torch.randn(4, QUERY), memory.subjects[[0, 0, 1, 2]]).square().sum().backward()
    for tensor in (memory.keys, memory.values, memory.ask.weight):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
