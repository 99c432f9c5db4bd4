"""Which expansions are taken; the planner's tests show the rule at work."""

from dataclasses import dataclass

import numpy as np
import pytest

from hitree.expansion import agreement, choose, other_subjects, redundancy, things


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("add two legs and a foot on the left", ["leg", "foot"]),
        ("draw a round head with two pointed ears", ["head", "ear"]),
        ("put a beak on the right side of the head and an eye", ["beak", "eye"]),
        ("give it a smile", ["smile"]),
    ],
)
def test_things_are_what_is_drawn(text, found):
    assert things(text.split()) == found


def test_redundancy_counts_what_was_drawn_before():
    assert redundancy(["add two eyes", "add a beak and a wing"]) == 0
    assert redundancy(["add two eyes and a beak", "add an eye and a smile"]) == 0.25
    assert redundancy([""]) == 0


def test_a_step_may_add_the_animals_that_the_prompt_names():
    subjects = ("cat", "owl", "sea turtle", "spider")
    found = other_subjects("draw a cat with a spider", "cat", subjects)
    assert found == {"owl", "sea turtle"}


def test_agreement_is_with_what_the_others_draw():
    whole = ["draw a head", "draw a body"]
    expansions = [whole, whole, ["draw a head"], ["draw a hat"]]
    found = agreement(expansions)
    assert found == pytest.approx([(2 + 2 / 3) / 4] * 2 + [(2 * 2 / 3 + 1) / 4, 1 / 4])
    assert agreement([[], []]) == [0, 0]


@dataclass(frozen=True)
class Written:
    """An expansion as a generator wrote it."""

    texts: tuple[str, ...]
    log_prob: float


def test_a_plan_with_what_most_have_beats_a_likelier_one():
    """Alike in all else, the plan without a body is the plainest, and is not taken."""
    full = ("draw a head", "draw a body", "add two legs")
    bare = ("draw a head", "add two eyes", "add a smile")
    sampled = [Written(full, -1.2)] * 3 + [Written(bare, -1.0)]

    def embed(texts):
        return np.ones((len(texts), 1), np.float32)

    best = choose(sampled, ("draw a cat",), frozenset(), embed)
    assert best is not None
    assert best.texts == full
