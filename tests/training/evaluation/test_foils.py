"""Wrong instructions: opposites of traits, and other parts."""

from __future__ import annotations

import pytest

from hitree.drawing import Drawing
from hitree_training.annotations import Annotation, Step
from hitree_training.data import Example
from hitree_training.evaluation.foils import Parts, opposites, things


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("add two big ears", ["add two small ears"]),
        ("add an open mouth", ["add a closed mouth"]),
        ("draw a small oval body", ["draw a big oval body"]),
        (
            "add a long tail on the left",
            ["add a short tail on the left", "add a long tail on the right"],
        ),
        ("make one wing up and one wing down", []),  # both ways
        ("add the left eye and the right eye", []),
        ("draw the back round to the tail", []),  # no shape
        ("add a nose", []),
    ],
)  # fmt: skip
def test_opposites(text: str, expected: list[str]) -> None:
    assert [foil.text for foil in opposites(text)] == expected


def test_opposites_say_which_trait_they_turn() -> None:
    (foil,) = opposites("add tiny legs")
    assert (foil.kind, foil.trait, foil.way) == ("trait", "size", "big")


def test_things_are_singular_and_without_places() -> None:
    assert things(["left ears", "Head and beak"]) == {"ear", "head", "beak"}


def example(parts: tuple[str, ...], *steps: str) -> Example:
    drawing = Drawing.of([[[n, n], [n + 9, n]] for n in range(len(parts))])
    made = tuple(Step(n, n + 1, text) for n, text in enumerate(steps))
    return Example("key", "cat", "train", "drawn", drawing, parts, Annotation("", parts, made))


def test_other_parts_are_neither_drawn_nor_being_drawn() -> None:
    train = [
        example(("head", "left ear", "tail"), "draw a head", "add an ear", "add a tail"),
        example(("head", "ears", "face"), "draw a round head", "add two ears", "add a face"),
    ]
    case = example(("head", "ear", "tail"), "draw a big head", "add a pointed ear", "add a tail")
    assert case.annotation is not None
    _, ear, _ = case.annotation.steps
    found = Parts(train).others("cat", case.annotation, ear)
    assert {foil.text for foil in found} == {"add a tail", "add a face"}
    assert {foil.kind for foil in found} == {"part"}
    assert Parts(train).others("dog", case.annotation, ear) == []
