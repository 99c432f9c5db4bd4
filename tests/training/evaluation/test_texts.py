"""Texts beside floors and an oracle whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hitree.drawing import Drawing
from hitree_training import data, generator_sets, presets, train_generator
from hitree_training.annotations import Annotation, Step
from hitree_training.data import Example
from hitree_training.evaluation import texts
from hitree_training.evaluation.texts import Frequent, Nearest, Oracle, Written
from hitree_training.models.generator import GeneratorPreset

HIGH = ((10.0, 20.0), (200.0, 20.0))
LOW = ((10.0, 230.0), (200.0, 230.0))
LEFT = ((10.0, 20.0), (10.0, 230.0))


def example(subject: str, *drawn: tuple[tuple[tuple[float, float], ...], str, str]) -> Example:
    """A drawing of one stroke a step: its points, its part label and its instruction."""
    strokes, parts, said = zip(*drawn, strict=True)
    steps = tuple(Step(n, n + 1, text) for n, text in enumerate(said))
    return Example(
        "1", subject, "train", "drawn", Drawing.of(strokes), (), Annotation("", parts, steps)
    )


TRAIN = [
    example("cat", (HIGH, "head", "draw a head"), (LOW, "tail", "add a tail")),
    example("cat", (HIGH, "head", "draw a head"), (LEFT, "left ear", "add an ear")),
    example("cat", (LOW, "body", "draw a body"), (LEFT, "left ear", "add an ear")),
    example("dog", (HIGH, "tail", "draw a wagging tail")),
]


@dataclass(frozen=True)
class Scripted:
    """Writes the same for every step."""

    text: str

    def write(self, example: Example) -> list[str]:
        return [self.text for _ in texts.steps(example)]


def test_the_most_frequent_instruction_depends_on_subject_and_position() -> None:
    asked = example("cat", (LEFT, "", ""), (LEFT, "", ""), (LEFT, "", ""))
    # No training cat has a third step: what its steps say most often stands in.
    assert Frequent(TRAIN).write(asked) in (
        ["draw a head", "add an ear", "draw a head"],
        ["draw a head", "add an ear", "add an ear"],
    )
    assert Frequent(TRAIN).write(example("dog", (LEFT, "", ""))) == ["draw a wagging tail"]


def test_the_nearest_step_is_the_one_that_looks_alike() -> None:
    asked = example("cat", (LOW, "", ""), (LEFT, "", ""))
    assert Nearest(TRAIN).write(asked) == ["draw a body", "add an ear"]


def test_the_nearest_step_sees_the_canvas_before_it() -> None:
    asked = example("cat", (HIGH, "", ""), (LOW, "", ""))
    assert Nearest(TRAIN).write(asked)[1] == "add a tail"


def test_the_oracle_goes_by_part_labels() -> None:
    asked = example("cat", (LEFT, "tail", ""), (LEFT, "right ear", ""), (HIGH, "body", ""))
    assert Oracle(TRAIN).write(asked) == ["add a tail", "add an ear", "draw a body"]


def test_the_oracle_prefers_the_same_subject() -> None:
    assert Oracle(TRAIN).write(example("dog", (LEFT, "tail", ""))) == ["draw a wagging tail"]


def test_scores_are_those_of_known_texts() -> None:
    assert texts.scores("Add an ear.", "add an ear") == (1.0, 1.0, 1.0)
    bleu_1, bleu_2, rouge = texts.scores("add a tail", "add an ear")
    assert bleu_1 == pytest.approx(1 / 3)
    assert rouge == pytest.approx(1 / 3)
    assert bleu_2 < bleu_1


def test_figures_are_means_over_steps_with_an_interval_over_drawings() -> None:
    written = [["add an ear", "add an ear", "add an ear"], ["x"]]
    wanted = [["add an ear"] * 3, ["y"]]
    found = texts.figures(written, wanted)
    assert (found["drawings"], found["steps"], found["unique_words"]) == (2, 4, 4)
    assert found["rouge_l"]["mean"] == pytest.approx(0.75)
    assert (found["rouge_l"]["low"], found["rouge_l"]["high"]) == (0.0, 1.0)


def test_all_rows_are_measured_on_annotated_drawings_of_each_kind() -> None:
    bare = Example("2", "cat", "test", "real", Drawing.of([HIGH]), (), None)
    held: dict[data.Kind, list[Example]] = {
        "drawn": [TRAIN[0]],
        "real": [TRAIN[1], bare],
        "sampled": [bare],
    }
    found = texts.measure({"scripted": Scripted("draw a head")}, TRAIN, held)
    assert set(found["kinds"]) == {"drawn", "real"}
    for rows in found["kinds"].values():
        assert set(rows) == {"scripted", "frequent", "nearest", "oracle"}
        assert {row["steps"] for row in rows.values()} == {2}
    real = found["kinds"]["real"]
    assert real["oracle"]["bleu_1"]["mean"] == 1.0
    assert real["scripted"]["bleu_1"]["mean"] == pytest.approx((1 + 0.1 / 3) / 2, abs=0.02)
    assert set(found["talk"]) == {"strokes", "images", "images+memory"}


def test_a_network_writes_a_text_for_every_step() -> None:
    preset = presets.load(GeneratorPreset, "generator-tiny")
    vocabulary = generator_sets.vocabulary_of(TRAIN, [])
    model = train_generator.untrained(preset, vocabulary, ["cat"]).eval()
    writer = Written(model, vocabulary)
    written = writer.write(TRAIN[0])
    assert len(written) == 2
    assert set(" ".join(written).split()) <= set(vocabulary.entries)
