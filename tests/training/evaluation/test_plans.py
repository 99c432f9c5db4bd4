"""Plans are read by their words: repeats, and parts that are left out."""

from __future__ import annotations

import pytest
import torch

from hitree.drawing import Drawing
from hitree_training import generator_sets, presets, train_generator
from hitree_training.annotations import Annotation, Step
from hitree_training.data import Example
from hitree_training.evaluation import plans
from hitree_training.evaluation.planned import Planning
from hitree_training.evaluation.plans import Usual
from hitree_training.models.generator import GeneratorPreset
from hitree_training.models.scorer import Scorer, ScorerPreset

STROKE = ((10.0, 20.0), (200.0, 20.0))


def example(*said: tuple[str, str]) -> Example:
    """A cat of one stroke a step: part labels and instructions."""
    parts, texts = zip(*said, strict=True)
    steps = tuple(Step(n, n + 1, text) for n, text in enumerate(texts))
    note = Annotation("", parts, steps)
    return Example("1", "cat", "train", "drawn", Drawing.of([STROKE] * len(said)), (), note)


HEAD = ("round head", "draw a head")
EARS = ("left ear", "add two pointed ears")
TAIL = ("tail", "add a tail on the left")
CATS = [example(HEAD, EARS)] * 8 + [example(HEAD, EARS, TAIL)] * 10 + [example(HEAD)] * 2


def test_usual_is_what_most_drawings_have() -> None:
    found = Usual.of(CATS)
    assert found.parts == {"cat": {"head", "ear"}}  # a tail in half of them; "left" is no part
    assert found.share == pytest.approx(18 / 20)


def test_a_plan_that_leaves_out_what_is_usual_is_not_whole() -> None:
    usual = {"cat": frozenset({"head", "ear"})}
    made = [("cat", ("draw the head", "put an ear on top")), ("cat", ("draw a head", "add a tail"))]
    assert plans.whole(made, usual) == {"whole": 0.5, "missing": {"cat: ear": 1}}


def test_repeats_are_counted_with_and_without_the_verb() -> None:
    made = [
        ("cat", ("draw a head", "add two ears", "put two ears")),
        ("cat", ("draw a head", "draw a head")),
        ("owl", ("draw a head", "add two ears", "add a beak")),
        ("owl", ("draw a head", "add two ears", "add a beak")),
    ]
    found = plans.figures(made)
    assert found["says_a_step_twice"] == 0.25
    assert found["repeats_but_for_the_verb"] == 0.5
    assert found["three_or_more_steps"] == 0.75
    assert found["different"] == 0.75


def test_many_and_one_are_the_same_part() -> None:
    assert plans.mentioned(["add two antennae and feet"], {"antenna", "foot", "leg"}) == {
        "antenna",
        "foot",
    }


def test_sampled_and_chosen_plans_are_measured() -> None:
    torch.manual_seed(0)
    vocabulary = generator_sets.vocabulary_of(CATS, [])
    preset = presets.load(GeneratorPreset, "generator-tiny")
    model = train_generator.untrained(preset, vocabulary, ["cat"]).eval()
    scorer = Scorer(presets.load(ScorerPreset, "scorer-tiny"), token_width=128).eval()
    found = plans.measure(Planning(model, vocabulary, scorer), ["cat"], CATS)
    assert found["sampled"]["plans"] == plans.SAMPLED
    assert found["chosen"]["plans"] == plans.CHOSEN
    assert found["usual"] == {"cat": ["ear", "head"]}
    again = plans.measure(Planning(model, vocabulary, scorer), ["cat"], CATS)
    assert found == again
