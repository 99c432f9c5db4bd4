"""Which expansions are taken; the planner's tests show the rule at work."""

import pytest

from hitree.expansion import other_subjects, redundancy, things


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
