"""Measure trained models on held-out drawings: ``hitree-train evaluate``.

Real and drawn drawings apart, as JSON. Text metrics are nltk's and rouge-score's, over annotated
steps, one output a step, lower case, without punctuation: BLEU-1 and cumulative BLEU-2 (smoothing
method 1) averaged over steps, ROUGE-L F1 with stemming, and how many different words are written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any  # Any: JSON

import numpy as np
import torch
from nltk.translate.bleu_score import (  # type: ignore[import-untyped]  # ships no types
    SmoothingFunction,
    sentence_bleu,
)
from rich.console import Console
from rich.progress import track
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # ships no types

from hitree.parse import DEFAULT, PARSERS
from hitree.segments import stroke_features
from hitree.text import words
from hitree_training import (
    checkpoint,
    data,
    decode,
    instructions,
    sample,
    train_decoder,
    train_generator,
    train_scorer,
    wording,
)
from hitree_training.bracketing import Agreement, agreement, oracle, pruned, trivial
from hitree_training.explain import WORDS, Explainer
from hitree_training.pairs import Pairs
from hitree_training.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from hitree.tree import Node
    from hitree_training.data import Example, Kind

BEAM = 4  # wide, as a description is decoded here
PLANS = 24  # sampled for each subject: repeats are rare, and few samples may show none
PLAN_WORDS = 64  # of a plan at most
PLAN_TEMPERATURE = 0.7
TOP_K = 20  # words that are sampled from

KINDS: tuple[Kind, ...] = ("real", "drawn")  # no sampled drawing is annotated in valid or test


@dataclass(frozen=True)
class Options:
    """What ``hitree-train evaluate`` was asked for; a model without a checkpoint is left out."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the JSON file
    generator: Path | None = None
    scorer: Path | None = None
    decoder: Path | None = None
    split: str = "test"


def evaluate(options: Options) -> dict[str, Any]:
    """Measure what there is, write the figures to ``options.out`` and return them."""
    found: dict[str, Any] = {"split": options.split, "git_sha": checkpoint.git_sha(), "kinds": {}}
    for kind in KINDS:
        try:
            examples = data.load(options.folder, kinds=(kind,), splits=(options.split,))
        except data.DataError:
            continue  # the built-in set has no real drawings
        found["kinds"][kind] = measure(examples, options)
    if options.scorer and options.generator:
        subjects = checkpoint.load(options.generator, "generator").extras["subjects"]
        found["plans"] = plans(Explainer.load(options.generator, options.scorer), subjects)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = options.out.with_suffix(".part")
    fresh.write_text(json.dumps(found, indent=1) + "\n")
    fresh.replace(options.out)
    return found


def measure(examples: list[Example], options: Options) -> dict[str, Any]:
    """The figures of one kind of drawings."""
    noted = [example for example in examples if example.annotation]
    figures: dict[str, Any] = {"data_hash": data.data_hash(examples), "annotated": len(noted)}
    if options.scorer:
        scorer = train_scorer.load(options.scorer)
        subjects = checkpoint.load(options.scorer, "scorer").extras["subjects"]
        pairs = Pairs(noted, train_scorer.STEP_MIX, "reading drawings")
        figures["scorer"] = asdict(train_scorer.evaluate(scorer, pairs, subjects))
    if options.scorer and options.generator:
        explainer = Explainer.load(options.generator, options.scorer)
        figures["generator"] = describe(explainer, noted)
        figures["trees"] = trees(explainer, noted)
    if options.decoder:
        model = sample.load(options.decoder)
        figures["decoder"] = asdict(train_decoder.evaluate(model, Sequences(examples)))
    return figures


def describe(explainer: Explainer, examples: Sequence[Example]) -> dict[str, float]:
    """Figures of the instructions that are written for annotated steps."""
    written, wanted = [], []
    for example in shown(examples, "describing"):
        if example.annotation is None:
            continue
        spans = torch.tensor([(step.start, step.end) for step in example.annotation.steps])
        written += descriptions(explainer, example, spans)
        wanted += [step.text for step in example.annotation.steps]
    return text_figures(written, wanted)


@torch.inference_mode()
def descriptions(explainer: Explainer, example: Example, spans: torch.Tensor) -> list[str]:
    """The best instruction by beam search for each of ``spans`` (S, 2)."""
    generator = explainer.generator
    subject = torch.from_numpy(data.token_vectors().sentence(example.subject))
    context = generator.describe(
        torch.from_numpy(stroke_features(example.drawing)), spans, subject.expand(len(spans), -1)
    )
    found = decode.beam(
        generator.step, context, limit=WORDS, width=BEAM, banned=decode.ONE_SENTENCE
    )
    return [explainer.vocabulary.decode(beams[0].ids) for beams in found]


def text_figures(written: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """BLEU-1, BLEU-2, ROUGE-L of texts against one reference each, and unique words."""
    smooth = SmoothingFunction().method1
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    one, two, longest = [], [], []
    for text, reference in zip(written, wanted, strict=True):
        hypothesis, truth = words(text), words(reference)
        one.append(sentence_bleu([truth], hypothesis, (1.0,), smooth))
        two.append(sentence_bleu([truth], hypothesis, (0.5, 0.5), smooth))
        score = rouge.score(" ".join(truth), " ".join(hypothesis))
        longest.append(score["rougeL"].fmeasure)
    return {
        "steps": len(written),
        "bleu_1": float(np.mean(one)),
        "bleu_2": float(np.mean(two)),
        "rouge_l": float(np.mean(longest)),
        "unique_words": len({word for text in written for word in words(text)}),
    }


@torch.inference_mode()
def plans(explainer: Explainer, subjects: Sequence[str]) -> dict[str, float]:
    """Figures of plans sampled for "draw a {subject}", before any ranking."""
    generator = explainer.generator
    expanding = train_generator.Expanding([], explainer.vocabulary)
    asked = [subject for subject in subjects for _ in range(PLANS)]
    context = generator.expand(
        *expanding.read([(wording.root(subject),) for subject in asked]), expanding.subject(asked)
    )
    sampled = decode.sample(
        generator.step,
        context,
        limit=PLAN_WORDS,
        top_k=TOP_K,
        temperature=PLAN_TEMPERATURE,
        generator=torch.Generator().manual_seed(0),
    )
    made = [instructions.steps(one.ids, explainer.vocabulary) for one in sampled]
    return {
        "plans": len(made),
        "steps": float(np.mean([len(steps) for steps in made])),
        "three_or_more_steps": float(np.mean([len(steps) >= 3 for steps in made])),
        "says_a_step_twice": float(np.mean([len(set(steps)) < len(steps) for steps in made])),
        "repeats_but_for_the_verb": float(np.mean([repeats(steps) for steps in made])),
        "different": len(set(zip(asked, made, strict=True))) / len(made),
    }


def repeats(steps: Sequence[str]) -> bool:
    """Whether two steps differ in their first word at most: "add two eyes", "put two eyes"."""
    things = [tuple(words(step)[1:]) for step in steps]
    return len(set(things)) < len(things)


def trees(explainer: Explainer, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Bracketing of each parser, beside trees that know nothing and the ceiling."""
    sums: dict[str, Agreement] = {}
    for seed, example in enumerate(shown(examples, "parsing")):
        if example.annotation is None:
            continue
        steps = example.annotation.steps
        for name, tree in all_trees(explainer, example, seed).items():
            small = pruned(tree, 1 + len(steps))
            sums[name] = sums.get(name, Agreement()) + agreement(small, steps)
    return {name: counted.figures() for name, counted in sums.items()}


def all_trees(explainer: Explainer, example: Example, seed: int) -> dict[str, Node]:
    """Every tree that is compared, by name."""
    n = len(example.drawing.strokes)
    scores = explainer.of(example.drawing, example.subject)
    steps = example.annotation.steps if example.annotation else ()
    parsed = {name: parse(n, scores, DEFAULT) for name, parse in PARSERS.items()}
    return {**parsed, **trivial(n, seed), "oracle": oracle(n, steps)}


def shown(examples: Sequence[Example], label: str) -> Iterable[Example]:
    """The examples behind a progress bar."""
    return track(examples, label, console=Console(stderr=True), transient=True)
