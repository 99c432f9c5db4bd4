"""What is said of segments: by annotators, and by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from hitree.drawing import Drawing
from hitree_training import describing, generator_sets
from hitree_training.annotations import Annotation, Step
from hitree_training.data import Example
from hitree_training.describing import Describing
from hitree_training.models.generator import Generator, GeneratorPreset

if TYPE_CHECKING:
    from torch import Tensor

    from hitree.text import Vocabulary

STROKE = ((10.0, 20.0), (200.0, 20.0))
NOTE = Annotation(
    "draw a cat",
    ("head", "left ear", "right ear"),
    (Step(0, 1, "draw a round head"), Step(1, 3, "add ears on the left")),
)
NOTED = Example("1", "cat", "train", "real", Drawing.of([STROKE] * 3), (), NOTE)
LABELLED = Example("2", "cat", "train", "real", Drawing.of([STROKE] * 2), ("head", "tail"), None)


class Recorded(Generator):
    """A generator that notes what it is asked to describe."""

    asked: Tensor

    def describe(
        self, strokes: Tensor, spans: Tensor, subject: Tensor, bounds: Tensor | None = None
    ) -> Tensor:
        self.asked = spans
        return super().describe(strokes, spans, subject, bounds)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return generator_sets.vocabulary_of([NOTED, LABELLED] * 2, [])


@pytest.fixture
def model(vocabulary: Vocabulary) -> Recorded:
    torch.manual_seed(0)
    preset = GeneratorPreset(variant="strokes", width=8, hidden=140, dropout=0.0)
    return Recorded(preset, token_width=128, vocabulary=len(vocabulary)).eval()


def test_annotated_drawings_are_told_whole_and_by_steps(
    vocabulary: Vocabulary, model: Recorded
) -> None:
    found = Describing([NOTED], vocabulary, "").losses(model, torch.tensor([0]), None)
    assert model.asked.tolist() == [[0, 1], [1, 3], [0, 3]]
    assert found.step > 0
    assert found.root > 0
    assert found.rule == 0  # only in training


def test_labels_widen_what_is_told(vocabulary: Vocabulary, model: Recorded) -> None:
    seeded = torch.Generator().manual_seed(0)
    found = Describing([NOTED, LABELLED], vocabulary, "").losses(
        model, torch.tensor([1, 1]), seeded
    )
    assert len(model.asked) == 2 * describing.WIDER_WINDOWS
    assert found.step == found.root == 0
    assert found.rule > 0


def test_a_step_that_is_the_whole_drawing_leaves_it_to_the_root(vocabulary: Vocabulary) -> None:
    note = Annotation("draw a cat", (), (Step(0, 3, "draw a round head"),))
    only = Example("3", "cat", "train", "real", Drawing.of([STROKE] * 3), (), note)
    lines = Describing([only], vocabulary, "").annotated[0]
    assert [vocabulary.decode(line.ids) for line in lines] == ["draw a cat"]


def test_texts_are_mirrored_with_their_drawing(vocabulary: Vocabulary) -> None:
    line = Describing([NOTED], vocabulary, "").annotated[0][1]
    assert vocabulary.decode(line.ids) == "add ears on the left"
    assert vocabulary.decode(line.mirrored) == "add ears on the right"


def test_a_text_costs_the_same_whatever_is_read_beside_it(
    model: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "TOGETHER", 2)
    context = torch.randn(5, 140)
    ids = [[1, *range(6, 6 + length), 2] for length in (3, 1, 5, 2, 1)]
    nll, count = describing.word_nll(model, context, ids)
    assert count.tolist() == [4, 2, 6, 3, 2]
    for row in range(5):
        alone, _ = describing.word_nll(model, context[row : row + 1], ids[row : row + 1])
        torch.testing.assert_close(nll[row], alone[0])


def test_unknown_words_are_not_to_be_written(vocabulary: Vocabulary, model: Recorded) -> None:
    ids = [[vocabulary.BOS, vocabulary.UNK, vocabulary.EOS]]
    _, count = describing.word_nll(model, torch.randn(1, 140), ids)
    assert count.tolist() == [1]
