"""Instructions by rule."""

import pytest

from hitree_training import wording


def test_root_has_the_right_article() -> None:
    assert wording.root("owl") == "draw an owl"
    assert wording.root("sea turtle") == "draw a sea turtle"


def test_compose_counts_runs() -> None:
    steps = wording.compose(("body", "foot", "foot", "left eye", "antenna", "antenna", "antenna"))
    assert [step.text for step in steps] == [
        "draw a body", "add two feet", "add a left eye", "add three antennae",
    ]  # fmt: skip
    assert [(step.start, step.end) for step in steps] == [(0, 1), (1, 3), (3, 4), (4, 7)]


def test_what_there_is_only_once_is_not_counted() -> None:
    texts = [step.text for step in wording.compose(("head", "head", "nose", "wing", "wing"))]
    assert texts == ["draw a head", "add a nose", "add two wings"]


def test_windows_combine_neighbouring_runs() -> None:
    steps = wording.windows(("body", "leg", "leg", "head", "eye"))
    said = {(step.start, step.end): step.text for step in steps}
    assert said[0, 3] == "draw a body and two legs"
    assert said[1, 5] == "add two legs, a head and an eye"
    assert (0, 5) not in said  # four runs
    assert (0, 2) not in said  # cuts a run in two
    assert len(steps) == len(said) == 9


def test_left_and_right_make_two() -> None:
    assert wording.things(("left eye", "right eye")) == "two eyes"
    assert wording.things(("left leg", "left leg", "nose", "right leg")) == "three legs and a nose"
    assert wording.things(("left eye", "nose")) == "a left eye and a nose"


def test_compound_parts_are_drawn_once() -> None:
    assert wording.compose(("head and neck", "head and neck"))[0].text == "draw a head and neck"


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("add the left ear", "add the right ear"),
        ("from left to right", "from right to left"),
        ("draw a bright leftover", "draw a bright leftover"),
    ],
)
def test_mirror(text: str, mirrored: str) -> None:
    assert wording.mirror(text) == mirrored
    assert wording.mirror(mirrored) == text
