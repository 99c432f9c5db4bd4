"""The tables of trees: what is counted, and that every scorer and parser is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from hitree.drawing import Drawing
from hitree.parse import PARSERS, Fits, Judged, Weights, all_spans
from hitree.text import Vocabulary
from hitree_training import data, presets
from hitree_training.evaluation import trees
from hitree_training.evaluation.trees import Segment
from hitree_training.explain import Explainer
from hitree_training.models.decoder import DecoderPreset, SketchDecoder
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.models.scorer import Scorer, ScorerPreset
from hitree_training.sequences import Texts

if TYPE_CHECKING:
    from hitree_training.data import Example


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return data.load(kinds=("drawn",), splits=("test",))[:6]


@pytest.fixture(scope="module")
def decoder() -> SketchDecoder:
    torch.manual_seed(0)
    width = data.token_vectors().width
    preset = presets.load(DecoderPreset, "decoder-tiny")
    return SketchDecoder(preset, token_width=width, scale=25.0).eval()


@pytest.fixture(scope="module")
def explainer(examples: list[Example]) -> Explainer:
    torch.manual_seed(0)
    width = data.token_vectors().width
    texts = [s.text for e in examples if e.annotation for s in e.annotation.steps]
    vocabulary = Vocabulary.of(texts)
    generator = Generator(
        presets.load(GeneratorPreset, "generator-tiny"),
        token_width=width,
        vocabulary=len(vocabulary),
    )
    scorer = Scorer(presets.load(ScorerPreset, "scorer-tiny"), token_width=width)
    return Explainer(generator.eval(), vocabulary, scorer.eval())


def knowing(example: Example) -> Judged:
    """What unity is when it knows the annotators' steps."""
    assert example.annotation
    steps = {(step.start, step.end) for step in example.annotation.steps}
    spans = all_spans(len(example.drawing.strokes))
    unity = np.array([tuple(span) in steps for span in spans.tolist()], np.float32)
    return Judged(len(example.drawing.strokes), Fits.of_unity(unity))


def test_every_scorer_is_parsed_by_every_parser_beside_floors_and_ceiling(
    explainer: Explainer, decoder: SketchDecoder, examples: list[Example]
) -> None:
    found = trees.figures(explainer, examples, decoder)
    assert found["drawings"] == len(examples)
    rows = found["bracketing"]
    assert isinstance(rows, dict)
    assert set(rows) == set(trees.SCORERS)
    for parsers in rows.values():
        assert set(parsers) == set(PARSERS)
    assert len({str(row) for row in rows.values()}) > 1  # they do not all do the same
    assert isinstance(found["oracle"], dict)
    assert found["oracle"]["f1"] == 1.0
    assert isinstance(found["trivial"], dict)
    assert {"flat_3", "flat_4", "random"} < set(found["trivial"])


def test_without_a_decoder_nothing_is_said_of_strokes(
    explainer: Explainer, examples: list[Example]
) -> None:
    found = trees.figures(explainer, examples[:2])
    assert isinstance(found["bracketing"], dict)
    assert set(found["bracketing"]) == set(trees.SCORERS) - {"strokes"}


def test_unity_that_knows_the_steps_finds_them(examples: list[Example]) -> None:
    known = [knowing(example) for example in examples]
    found = trees.bracketing(examples, trees.parsed(known, "cky", Weights(unity=1.0)))
    assert found["f1"] == 1.0


def test_strokes_depend_on_their_text_and_on_nothing_after_them(
    decoder: SketchDecoder, examples: list[Example]
) -> None:
    whole = replace(examples[0], annotation=None)
    strokes = whole.drawing.strokes  # the same ones, so that the drawing keeps its place
    other = replace(whole, drawing=Drawing((*strokes[:3], *strokes[:2:-1])))
    with torch.inference_mode():
        plain, told, elsewhere, otherwise = trees.stroke_costs(
            decoder,
            [
                Segment(whole, 0, len(strokes), ""),
                Segment(whole, 1, 3, "add two ears"),
                Segment(other, 1, 3, "add two ears"),
                Segment(whole, 1, 3, "add a long tail"),
            ],
        )
    assert all(len(one) == len(strokes) for one in (plain, told, elsewhere, otherwise))
    assert (plain > 0).all()
    np.testing.assert_allclose(told[:3], elsewhere[:3], rtol=1e-5)
    assert told[0] == pytest.approx(plain[0], rel=1e-5)  # before it only the root is told
    assert abs(told[1:3] - plain[1:3]).min() > 1e-4
    assert abs(told[1:3] - otherwise[1:3]).min() > 1e-4


def test_a_segment_is_cut_out_wherever_it_lies(examples: list[Example]) -> None:
    size = len(examples[0].drawing.strokes)

    def ends(start: int, end: int) -> list[int]:
        return list(Segment(examples[0], start, end, "add an ear").view(Texts()).ends)

    assert ends(0, size) == [size]
    assert ends(0, 2) == [2, size]
    assert ends(1, 3) == [1, 3, size]
    assert ends(2, size) == [2, size]
    view = Segment(examples[0], 1, 3, "add an ear").view(Texts())
    assert [len(below) for below in view.below] == [0, 1, 0]


def test_strokes_are_put_beside_what_was_known(
    explainer: Explainer, decoder: SketchDecoder, examples: list[Example]
) -> None:
    judged = [explainer.judge(example) for example in examples[:2]]
    found = trees.with_strokes(decoder, examples[:2], judged)
    for one, before in zip(found, judged, strict=True):
        assert one.strokes == before.known.strokes
        assert (one.fits.unity == before.known.fits.unity).all()
        assert len(one.fits.strokes) == len(before.texts)
        assert len(set(one.fits.strokes.tolist())) > 1
        assert (one.fits.strokes < 0).any()
        assert (one.fits.strokes > 0).any()  # a ratio, of which an untrained decoder has both


def test_sharing_is_all_of_the_same_words_and_none_of_others() -> None:
    same = [("a round head and two ears", ("a round head", "two ears"))]
    assert trees.sharing(same) == {
        "parents": 1,
        "bleu_1": pytest.approx(1.0),
        "rouge_l": pytest.approx(1.0),
    }
    other = trees.sharing([("draw it", ("two ears", "a tail"))])
    assert other["bleu_1"] < 0.1
    assert other["rouge_l"] == 0.0


def test_at_random_every_parent_has_anothers_children() -> None:
    found = [(f"draw {k}", (f"add {k}",)) for k in range(5)]
    mixed = trees.at_random(found, seed=1)
    assert sorted(mixed) != sorted(found)
    assert {parent for parent, _ in mixed} == {parent for parent, _ in found}
    assert all(parent[5:] != children[0][4:] for parent, children in mixed)
