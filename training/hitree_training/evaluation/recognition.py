"""Whether drawings are recognised, by a classifier that none of them has trained.

The judge was trained on the train splits alone (`hitree_training.train_classifier`), never on what
a decoder of ours drew, and is not the classifier that is served. It sees drawings made as a user
gets them: at the temperature that is served, under sampled plans (`planned`); and drawings under
the annotated steps of held-out drawings, which tells plans from strokes where a subject fails.
Held-out real, drawn and sampled drawings are the reference rows. Beside it stands how much the
drawings differ (`hitree_training.evaluation.likeness`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: JSON

import numpy as np
from matplotlib.figure import Figure

from hitree_training import data, sample
from hitree_training.evaluation.bootstrap import RESAMPLES, interval
from hitree_training.evaluation.likeness import likeness
from hitree_training.evaluation.planned import Planning
from hitree_training.models.classifier import classify, pictures
from hitree_training.sample import Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree.drawing import Drawing
    from hitree_training.data import Example
    from hitree_training.evaluation.likeness import BySubject
    from hitree_training.models.classifier import Classifier
    from hitree_training.sample import Sample
    from hitree_training.trained import Trained

ROWS = 350  # drawn side by side


@dataclass(frozen=True)
class Options:
    """How much is drawn."""

    folder: Path | None  # data; None: the built-in set
    drawings: int = 20  # of each subject, under sampled plans
    guidance: float = 1.0  # see `hitree_training.sample.Sampling`
    seed: int = 0
    split: str = "test"


@dataclass(frozen=True)
class Judge:
    """A classifier and what its logits stand for."""

    classifier: Classifier | Callable[[Tensor], Tensor]
    subjects: tuple[str, ...]
    size: int  # cells a side of the pictures that it takes

    def told(self, drawings: Sequence[Drawing]) -> list[str]:
        """The most probable subject of every drawing."""
        logits = classify(self.classifier, pictures(drawings, self.size))
        return [self.subjects[index] for index in logits.argmax(dim=1).tolist()]


def measure(trained: Trained, options: Options) -> tuple[dict[str, Any], list[Sample]]:
    """The figures, and what was drawn under sampled plans, for a picture of it.

    ``trained`` must hold all four networks; its classifier is the judge.

    Raises:
        DataError: the data set has no drawings of the split.
    """
    test = data.load(options.folder, splits=(options.split,))
    judge = judge_of(trained)
    drawn = draw(trained, plans(trained, judge.subjects, options), options)
    rows = {
        "sampled plans": by_subject((one.request.subject, one.drawing) for one in drawn),
        "annotated plans": by_subject(
            (one.request.subject, one.drawing)
            for one in draw(trained, annotated(test, judge.subjects), options)
        ),
    }
    kinds = [kind for kind in data.KINDS if any(example.kind == kind for example in test)]
    held_out: dict[str, BySubject] = {
        kind: by_subject(
            (e.subject, e.drawing) for e in test if e.kind == kind and e.subject in judge.subjects
        )
        for kind in kinds
    }
    train = data.load(options.folder)
    rng = np.random.default_rng(options.seed)
    return {
        "drawings_of_each": options.drawings,
        "temperature": Sampling().temperature,
        "guidance": options.guidance,
        "seed": options.seed,
        "split": options.split,
        "recognised": {
            name: recognised(judge, row, rng) for name, row in (rows | held_out).items()
        },
        "likeness": likeness(rows, held_out, train),
    }, drawn


def judge_of(trained: Trained) -> Judge:
    """The classifier of what was trained.

    Raises:
        DataError: there is none.
    """
    if trained.classifier is None:
        raise data.DataError("recognition needs a classifier; give one: --classifier")
    return Judge(trained.classifier, trained.subjects, trained.classifier.size)


def plans(trained: Trained, subjects: Sequence[str], options: Options) -> list[Request]:
    """Plans for every subject, see `planned`.

    Raises:
        DataError: a network is missing.
    """
    if trained.generator is None or trained.vocabulary is None or trained.scorer is None:
        raise data.DataError("plans need a generator and a scorer; give --generator and --scorer")
    planning = Planning(trained.generator, trained.vocabulary, trained.scorer)
    return planning.plans(subjects, options.drawings, options.seed)


def annotated(examples: Iterable[Example], subjects: Sequence[str]) -> list[Request]:
    """The annotated steps of drawings, each as a plan."""
    return [
        Request(e.subject, e.annotation.root, tuple(step.text for step in e.annotation.steps))
        for e in examples
        if e.annotation and e.subject in subjects
    ]


def draw(trained: Trained, requests: Sequence[Request], options: Options) -> list[Sample]:
    """Draw as it is served.

    Raises:
        DataError: there is no decoder.
    """
    if trained.decoder is None:
        raise data.DataError("drawing needs a decoder; give one: --decoder")
    made: list[Sample] = []
    for at in range(0, len(requests), ROWS):
        by = Sampling(seed=options.seed + at, guidance=options.guidance)
        made += sample.draw(trained.decoder, requests[at : at + ROWS], by)
    return made


def by_subject(pairs: Iterable[tuple[str, Drawing]]) -> dict[str, list[Drawing]]:
    """Drawings under their subjects, which are sorted."""
    found: dict[str, list[Drawing]] = {}
    for subject, drawing in pairs:
        found.setdefault(subject, []).append(drawing)
    return dict(sorted(found.items()))


def recognised(judge: Judge, drawings: BySubject, rng: np.random.Generator) -> dict[str, Any]:
    """How often the judge tells the subject: mean over subjects, and each subject's own.

    The interval is a bootstrap over the drawings of every subject; subjects are as they are.
    """
    subjects: dict[str, Any] = {}
    for subject, own in drawings.items():
        told = judge.told(own)
        wrong = sorted({other for other in told if other != subject}, key=told.count, reverse=True)
        subjects[subject] = {
            "drawings": len(own),
            "right": told.count(subject) / len(own),
            "taken_for": {other: told.count(other) for other in wrong},
        }
    count = np.array([one["drawings"] for one in subjects.values()])
    right = np.array([one["right"] for one in subjects.values()])
    # Drawing again from n drawings, of which a share is right, is a binomial.
    again = rng.binomial(count, right, (RESAMPLES, len(count))) / count
    low, high = interval(again.mean(axis=1)).tolist()
    return {
        "drawings": int(count.sum()),
        "mean": float(right.mean()),
        "low": low,
        "high": high,
        "subjects": subjects,
    }


def failures(judge: Judge, samples: Sequence[Sample], lines: int = 12, columns: int = 8) -> Figure:
    """The subjects that are recognised least, a line each: what they were taken for."""
    told = judge.told([one.drawing for one in samples])
    wrong: dict[str, list[tuple[str, Sample]]] = {}
    for one, other in zip(samples, told, strict=True):
        if other != one.request.subject:
            wrong.setdefault(one.request.subject, []).append((other, one))
    worst = sorted(wrong, key=lambda subject: len(wrong[subject]), reverse=True)[:lines]
    figure = Figure(figsize=(2.2 * columns, 2.6 * max(len(worst), 1)), layout="constrained")
    for line, subject in enumerate(worst):
        for column, (other, one) in enumerate(wrong[subject][:columns]):
            axes = figure.add_subplot(len(worst), columns, line * columns + column + 1)
            sample.plot(axes, one.drawing, one.leaves)
            title = f"{subject}, taken for {other} ({len(wrong[subject])} wrong)"
            axes.set_title("\n".join((title, *one.request.steps)), fontsize=5)
    return figure
