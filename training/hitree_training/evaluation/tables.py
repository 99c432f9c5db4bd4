"""The tables of the evaluation: what each of them needs, and how it is measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar  # Any: JSON

import numpy as np

from hitree_training import (
    checkpoint,
    data,
    train_classifier,
    train_decoder,
    train_judge,
    tree_file,
)
from hitree_training.evaluation import likelihood, plans, recognition, steering, texts, trees
from hitree_training.evaluation.planned import Planning
from hitree_training.explain import Explainer
from hitree_training.sample import Sampling
from hitree_training.sequences import Sequences
from hitree_training.trained import Trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hitree.tree import Node
    from hitree_training.data import Example, Kind

T = TypeVar("T")

REFERENCE = "reference/google_sketchrnn_nll.csv"  # in the data folder


class EvaluationError(Exception):
    """A table was asked for that cannot be measured; the message says what is missing."""


@dataclass(frozen=True)
class Options:
    """What an evaluation was asked for, beside the networks."""

    out: Path  # the JSON file
    folder: Path | None = None  # data; None: the built-in set
    split: str = "test"
    tables: tuple[str, ...] = ()  # names in `TABLES`; empty: all that can be measured
    seed: int = 0
    trees: Path | None = None  # trees inferred from the drawings of the split
    runs: tuple[Path, ...] = ()  # decoders trained alike but for what they are told, or the seed
    variants: tuple[Path, ...] = ()  # generators beside the one that is served
    judge: Path | None = None  # of drawn segments
    recogniser: Path | None = None  # a classifier that judges drawings, not the one that is served
    guidance: float = 1.0  # with which the decoder draws


@dataclass(frozen=True)
class Held:
    """What tables are measured with: networks and held-out drawings."""

    trained: Trained
    options: Options

    @cached_property
    def examples(self) -> dict[Kind, list[Example]]:
        """The drawings of the split, by kind; kinds that a folder lacks are left out."""
        found = data.load(self.options.folder, splits=(self.options.split,))
        kinds = [kind for kind in data.KINDS if any(e.kind == kind for e in found)]
        return {kind: [e for e in found if e.kind == kind] for kind in kinds}

    @cached_property
    def trees(self) -> dict[str, Node]:
        """The trees inferred from drawings, by ``key_id``."""
        return tree_file.by_key(given(self.options.trees))

    @property
    def sampling(self) -> Sampling:
        """How the decoder draws."""
        return Sampling(seed=self.options.seed, guidance=self.options.guidance)

    def has(self, need: str) -> bool:
        """Whether a network or an option is there."""
        found = getattr(self.trained, need, None) or getattr(self.options, need, None)
        if need == "reference":
            folder = self.options.folder
            return bool(folder and (folder / REFERENCE).is_file())
        return bool(found)


def given(value: T | None) -> T:
    """What a table needs, of which its needs made sure."""
    if value is None:
        raise EvaluationError("a table measures what it does not say that it needs")
    return value


def annotated(held: Held) -> dict[str, Any]:
    """The decoder's NLL on drawings as they are annotated, labelled or plain, by kind."""
    decoder = given(held.trained.decoder)
    return {
        kind: {"drawings": len(some), **asdict(train_decoder.evaluate(decoder, Sequences(some)))}
        for kind, some in held.examples.items()
    }


def told(held: Held) -> dict[str, Any]:
    """The decoder's NLL when it is told nothing, the root, or all of the inferred trees."""
    decoder = given(held.trained.decoder)
    return {
        condition: {
            kind: likelihood.figures(decoder, some, held.trees, condition)
            for kind, some in held.examples.items()
        }
        for condition in likelihood.CONDITIONS
    }


def conditions(held: Held) -> dict[str, Any]:
    """Decoders that were trained alike, each told what it was trained to be told."""
    rows = likelihood.runs(held.options.runs, held.examples, held.trees)
    return {"runs": rows, "summary": likelihood.summary(rows)}


def google(held: Held) -> dict[str, Any]:
    """The decoder beside Google's per-subject ones, on real drawings, in units."""
    decoder, real = given(held.trained.decoder), held.examples["real"]
    theirs = likelihood.read_reference(given(held.options.folder) / REFERENCE)
    subjects = {example.key_id: example.subject for example in real}
    return {
        condition: likelihood.compare(
            likelihood.pixels(decoder, real, held.trees, condition),
            theirs,
            subjects,
            held.options.seed,
        )
        for condition in likelihood.CONDITIONS
    }


def written(held: Held) -> dict[str, Any]:
    """How well instructions are written for annotated steps, by the generator and by variants."""
    writers: dict[str, texts.Writer] = {}
    runs: Counter[str] = Counter()
    for path in held.options.variants:
        found = checkpoint.load(path, "generator")
        variant = found.preset["variant"]
        runs[variant] += 1
        writers[f"{variant}, run {runs[variant]}"] = _writer(Trained.of({"generator": found}))
    if held.trained.generator:
        writers["served"] = _writer(held.trained)
    train = [example for example in data.load(held.options.folder) if example.annotation]
    return texts.measure(writers, train, held.examples, held.options.seed)


def _writer(trained: Trained) -> texts.Written:
    return texts.Written(given(trained.generator), given(trained.vocabulary))


def explainer(held: Held) -> Explainer:
    """What explains drawings."""
    trained = held.trained
    return Explainer(given(trained.generator), given(trained.vocabulary), given(trained.scorer))


def planned(held: Held) -> dict[str, Any]:
    """What plans for every subject are like, as they are sampled and as a user gets them."""
    train = data.load(held.options.folder)
    found, subjects = explainer(held), sorted({e.subject for e in train})
    planning = Planning(found.generator, found.vocabulary, found.scorer)
    return plans.measure(planning, subjects, train, held.options.seed)


def bracketed(held: Held) -> dict[str, Any]:
    """How well trees agree with the annotators'."""
    return {
        kind: trees.figures(explainer(held), noted, held.trained.decoder)
        for kind, some in held.examples.items()
        if (noted := [example for example in some if example.annotation])
    }


def classifier(held: Held) -> dict[str, Any]:
    """How often the classifier that is served tells the subject of held-out drawings."""
    judge, rng = recognition.judge_of(held.trained), np.random.default_rng(held.options.seed)
    return {
        kind: recognition.recognised(
            judge,
            recognition.by_subject((e.subject, e.drawing) for e in some),
            rng,
        )
        for kind, some in held.examples.items()
    }


def recognised(held: Held) -> dict[str, Any]:
    """How often drawings made under sampled plans are recognised, see `recognition`."""
    judge, subjects = train_classifier.load(given(held.options.recogniser))
    judging = replace(held.trained, classifier=judge, subjects=subjects)
    options = held.options
    asked = recognition.Options(
        options.folder, guidance=options.guidance, seed=options.seed, split=options.split
    )
    found, _ = recognition.measure(judging, asked)
    return found


def steered(held: Held) -> dict[str, Any]:
    """Whether text steers strokes, see `steering`."""
    return steering.measure(
        given(held.trained.decoder),
        train_judge.load(given(held.options.judge)),
        held.options.folder,
        split=held.options.split,
        by=held.sampling,
    )


@dataclass(frozen=True)
class Table:
    """One table of figures."""

    measure: Callable[[Held], dict[str, Any]]
    needs: tuple[str, ...]  # networks, options, or "reference"


TABLES = {
    "annotated": Table(annotated, ("decoder",)),
    "told": Table(told, ("decoder", "trees")),
    "conditions": Table(conditions, ("runs", "trees")),
    "google": Table(google, ("decoder", "trees", "reference")),
    "texts": Table(written, ("generator",)),
    "plans": Table(planned, ("generator", "scorer")),
    "trees": Table(bracketed, ("generator", "scorer")),
    "classifier": Table(classifier, ("classifier",)),
    "recognition": Table(recognised, ("decoder", "generator", "scorer", "recogniser")),
    "steering": Table(steered, ("decoder", "judge")),
}
