"""How well instructions are written for annotated steps, between two floors and an oracle.

One output a step, lower case, without punctuation: BLEU-1 and cumulative BLEU-2 (nltk, smoothing
method 1) averaged over steps, ROUGE-L F1 with stemming, and how many different words are written.
An annotator's wording is one of many, so the figures only mean something beside those of others
who write for the same steps:

* `Frequent` knows the subject and how many steps came before;
* `Nearest` copies what was written for the training step that looks most alike;
* `Oracle` knows the true part labels of the step's strokes, which no model is told, and copies
  the training step whose parts are closest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol  # Any: JSON

import numpy as np
import torch
from nltk.translate.bleu_score import (  # type: ignore[import-untyped]  # ships no types
    SmoothingFunction,
    sentence_bleu,
)
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # ships no types

from hitree.raster import render
from hitree.segments import stroke_features
from hitree.text import words
from hitree_training import data, decode
from hitree_training.evaluation.bootstrap import interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from hitree.text import Vocabulary
    from hitree_training.annotations import Step
    from hitree_training.data import Example, Kind
    from hitree_training.models.generator import Generator

    Floats = NDArray[np.float64]

METRICS = ("bleu_1", "bleu_2", "rouge_l")
RESAMPLES = 1000  # of the bootstrap over drawings
BEAM = 2  # sequences that a beam search keeps: chosen on valid, wider ones differ little
LIMIT = 24  # words of an instruction at most
CELLS = 16  # a side of the images that `Nearest` compares: coarse, so that lines need not meet

# The talk's figures, for context: other drawings, other annotations.
TALK = {
    "strokes": {"bleu_1": 0.4280, "bleu_2": 0.2148, "rouge_l": 0.3849, "unique_words": 61},
    "images": {"bleu_1": 0.4542, "bleu_2": 0.2401, "rouge_l": 0.4049, "unique_words": 53},
    "images+memory": {"bleu_1": 0.4646, "bleu_2": 0.2600, "rouge_l": 0.4167, "unique_words": 69},
}


class Writer(Protocol):
    """Something that writes an instruction for each step of a drawing."""

    def write(self, example: Example) -> list[str]:
        """The instructions, one a step of ``example``, which is annotated."""


def measure(
    writers: Mapping[str, Writer],
    train: Sequence[Example],
    held: Mapping[Kind, Sequence[Example]],
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of the writers, and of the floors and the oracle made from ``train``, by kind.

    Only annotated drawings count; kinds without any are left out.
    """
    beside: dict[str, Writer] = {
        "frequent": Frequent(train),
        "nearest": Nearest(train),
        "oracle": Oracle(train),
    }
    noted = {kind: [e for e in some if e.annotation] for kind, some in held.items()}
    return {
        "seed": seed,
        "kinds": {
            kind: {name: row(one, some, seed) for name, one in {**writers, **beside}.items()}
            for kind, some in noted.items()
            if some
        },
        "talk": TALK,
    }


def row(writer: Writer, examples: Sequence[Example], seed: int = 0) -> dict[str, Any]:
    """The figures of one writer on annotated drawings of one kind."""
    written = [writer.write(example) for example in examples]
    wanted = [[step.text for step in steps(example)] for example in examples]
    return figures(written, wanted, seed)


def figures(
    written: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]], seed: int = 0
) -> dict[str, Any]:
    """The figures of texts against one reference each; both are grouped by drawing.

    Each metric has a mean over all steps and the interval of a bootstrap over drawings.
    """
    scored = [
        np.array([scores(a, b) for a, b in zip(mine, theirs, strict=True)])  # (steps, 3)
        for mine, theirs in zip(written, wanted, strict=True)
    ]
    sums = np.array([part.sum(axis=0) for part in scored])  # (drawings, 3)
    counts = np.array([len(part) for part in scored])
    again = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[again].sum(axis=1) / counts[again].sum(axis=1, keepdims=True)  # (RESAMPLES, 3)
    low, high = interval(means)
    total = sums.sum(axis=0) / counts.sum()
    return {
        "drawings": len(scored),
        "steps": int(counts.sum()),
        **{
            name: {"mean": float(total[i]), "low": float(low[i]), "high": float(high[i])}
            for i, name in enumerate(METRICS)
        },
        "unique_words": len({w for texts in written for text in texts for w in words(text)}),
    }


_SMOOTH = SmoothingFunction().method1
_ROUGE = RougeScorer(["rougeL"], use_stemmer=True)


def scores(text: str, reference: str) -> tuple[float, float, float]:
    """BLEU-1, BLEU-2 and ROUGE-L of one text, in the order of `METRICS`."""
    hypothesis, truth = words(text), words(reference)
    return (
        float(sentence_bleu([truth], hypothesis, (1.0,), _SMOOTH)),
        float(sentence_bleu([truth], hypothesis, (0.5, 0.5), _SMOOTH)),
        float(_ROUGE.score(" ".join(truth), " ".join(hypothesis))["rougeL"].fmeasure),
    )


# ---- writers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A trained generator, of whichever variant: the best text of a beam search."""

    generator: Generator
    vocabulary: Vocabulary

    @torch.inference_mode()
    def write(self, example: Example) -> list[str]:
        """See `Writer`."""
        subject = torch.from_numpy(data.token_vectors().sentence(example.subject))
        strokes = torch.from_numpy(stroke_features(example.drawing))
        spans = torch.tensor([(step.start, step.end) for step in steps(example)])
        context = self.generator.describe(strokes, spans, subject.expand(len(spans), -1))
        found = decode.beam(
            self.generator.step, context, limit=LIMIT, width=BEAM, banned=decode.ONE_SENTENCE
        )
        return [self.vocabulary.decode(beams[0].ids) for beams in found]


class Frequent:
    """The most frequent training instruction of the subject's n-th steps, or of all its steps."""

    def __init__(self, train: Iterable[Example]) -> None:
        self._at: dict[tuple[str, int], Counter[str]] = {}
        self._any: dict[str, Counter[str]] = {}
        for example in train:
            for position, step in enumerate(steps(example)):
                key = (example.subject, position)
                self._at.setdefault(key, Counter())[step.text] += 1
                self._any.setdefault(example.subject, Counter())[step.text] += 1

    def write(self, example: Example) -> list[str]:
        """See `Writer`."""
        return [
            self._at.get((example.subject, n), self._any[example.subject]).most_common(1)[0][0]
            for n in range(len(steps(example)))
        ]


class Nearest:
    """The instruction of the training step of the subject whose images are closest."""

    def __init__(self, train: Iterable[Example]) -> None:
        seen: dict[str, list[tuple[Floats, str]]] = {}
        for example in train:
            for step in steps(example):
                item = (_images(example, step), step.text)
                seen.setdefault(example.subject, []).append(item)
        self._texts = {subject: [text for _, text in pairs] for subject, pairs in seen.items()}
        self._images = {s: np.stack([image for image, _ in pairs]) for s, pairs in seen.items()}

    def write(self, example: Example) -> list[str]:
        """See `Writer`."""
        table, texts = self._images[example.subject], self._texts[example.subject]
        return [
            texts[int(((table - _images(example, step)) ** 2).sum(axis=1).argmin())]
            for step in steps(example)
        ]


class Oracle:
    """The instruction of the training step whose part labels are closest to the true ones.

    Labels are compared as a multiset of their words; among the closest are preferred steps of the
    same subject, then those at about the same place of the drawing.
    """

    def __init__(self, train: Iterable[Example]) -> None:
        self._steps = [
            (example.subject, place, step.text, _label_words(example, step))
            for example in train
            for place, step in enumerate(steps(example))
        ]
        vocabulary = sorted({word for *_, bag in self._steps for word in bag})
        self._column = {word: column for column, word in enumerate(vocabulary)}
        self._bags = np.stack([self._bag(bag) for *_, bag in self._steps])  # (N, words)
        self._sizes = self._bags.sum(axis=1)

    def write(self, example: Example) -> list[str]:
        """See `Writer`."""
        return [self._closest(example, n, step) for n, step in enumerate(steps(example))]

    def _closest(self, example: Example, place: int, step: Step) -> str:
        wanted = _label_words(example, step)
        common = np.minimum(self._bags, self._bag(wanted)).sum(axis=1)  # (N,)
        likeness = common / (self._sizes + sum(wanted.values()) - common)  # Jaccard
        best: list[int] = np.flatnonzero(likeness > likeness.max() - 1e-9).tolist()

        def far(index: int) -> tuple[bool, int]:
            subject, at, *_ = self._steps[index]
            return subject != example.subject, abs(at - place)

        return self._steps[min(best, key=far)][2]

    def _bag(self, counted: Counter[str]) -> Floats:
        row = np.zeros(len(self._column))
        for word, count in counted.items():
            if word in self._column:
                row[self._column[word]] = count
        return row


def steps(example: Example) -> tuple[Step, ...]:
    """The annotated steps; none where there is no annotation."""
    return example.annotation.steps if example.annotation else ()


def _label_words(example: Example, step: Step) -> Counter[str]:
    parts = example.annotation.parts if example.annotation else ()
    return Counter(word for part in parts[step.start : step.end] for word in part.split())


def _images(example: Example, step: Step) -> Floats:
    """What a step adds, and the canvas before it."""
    strokes = example.drawing.strokes
    seen = [render(some, CELLS) for some in (strokes[step.start : step.end], strokes[: step.start])]
    return np.concatenate(seen).ravel().astype(np.float64)
