"""What the generator learns to describe: segments of drawings, as strokes and words.

Three kinds of texts belong to a drawing: its steps as they were annotated, the sentence for the
whole of it, and what its part labels say by rule about any few neighbouring parts
(`wording.windows`). The last are many and cheap: they teach what parts look like, in drawings that
nobody annotated as well, and leave the style to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from hitree.text import Vocabulary
from hitree_training import instructions, wording
from hitree_training.segment_batches import Strokes, subject_vectors, weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hitree_training.data import Example
    from hitree_training.models.generator import Generator

MIX = {"real": 0.35, "drawn": 0.45, "sampled": 0.2}  # 493, 1,141 and 738 are annotated
WINDOWS = 1  # texts by rule that are read each time that an annotated drawing is seen
WIDER_WINDOWS = 3  # and each time that one with part labels alone is seen
TOGETHER = 32  # texts that are read at a time


class Source(IntEnum):
    """Who says what is said of a segment."""

    STEP = 0  # an annotator, of a step
    ROOT = 1  # an annotator, of the whole drawing
    RULE = 2  # the part labels


@dataclass(frozen=True)
class Line:
    """What is to be written about a segment."""

    start: int  # first stroke
    end: int  # after the last stroke
    source: Source
    ids: list[int]  # of the text, first symbol to EOS
    mirrored: list[int]  # the same for the mirrored drawing


@dataclass(frozen=True)
class Losses:
    """Mean negative log-likelihood of a word, in nats, by `Source`; 0 where there is none."""

    step: Tensor
    root: Tensor
    rule: Tensor


class Describing:
    """Drawings with what is said of their segments."""

    def __init__(self, examples: Sequence[Example], vocabulary: Vocabulary, label: str) -> None:
        self.strokes = Strokes(examples, label)
        self.subjects = subject_vectors(examples)
        self.weights = weights(examples, MIX)
        self.annotated = [_annotated(example, vocabulary) for example in examples]
        self.by_rule = [_by_rule(example, vocabulary) for example in examples]

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` drawings, by weight."""
        return torch.multinomial(self.weights, size, replacement=True, generator=generator)

    def losses(self, model: Generator, index: Tensor, generator: torch.Generator | None) -> Losses:
        """Losses over the drawings at ``index``; augmented, and with texts by rule, if seeded."""
        batch = self.strokes.batch(index, generator)
        spans, bounds, which, ids, sources = [], [], [], [], []
        for b, i in enumerate(index.tolist()):
            first, mirrored = int(batch.first[b]), bool(batch.mirrored[b])
            for line in self._lines(i, generator):
                spans.append((first + line.start, first + line.end))
                bounds.append((first, first + int(batch.size[b])))
                ids.append(line.mirrored if mirrored else line.ids)
                which.append(i)
                sources.append(line.source)
        context = model.describe(
            batch.strokes, torch.tensor(spans), self.subjects[which], torch.tensor(bounds)
        )
        nll, count = word_nll(model, context, ids)
        told = torch.tensor(sources)
        return Losses(*(_mean(nll, count, told == source) for source in Source))

    def _lines(self, index: int, generator: torch.Generator | None) -> list[Line]:
        lines = self.by_rule[index]
        if generator is None or not lines:
            return self.annotated[index]
        count = WINDOWS if self.annotated[index] else WIDER_WINDOWS
        chosen = torch.randint(len(lines), (count,), generator=generator).tolist()
        return self.annotated[index] + [lines[at] for at in chosen]


def _annotated(example: Example, vocabulary: Vocabulary) -> list[Line]:
    """The steps of a drawing, and the root for the whole of it."""
    note = example.annotation
    if note is None:
        return []
    size = len(example.drawing.strokes)
    said = [(s.start, s.end, s.text, Source.STEP) for s in note.steps if s.end - s.start < size]
    if note.root:
        said.append((0, size, note.root, Source.ROOT))
    return [
        Line(
            start,
            end,
            source,
            instructions.sentence(text, vocabulary),
            instructions.sentence(wording.mirror(text), vocabulary),
        )
        for start, end, text, source in said
    ]


def _by_rule(example: Example, vocabulary: Vocabulary) -> list[Line]:
    """What part labels say, where there are any."""
    return [
        Line(
            step.start,
            step.end,
            Source.RULE,
            instructions.by_rule(step.text, vocabulary),
            instructions.by_rule(wording.mirror(step.text), vocabulary),
        )
        for step in wording.windows(labels(example))
    ]


def labels(example: Example) -> tuple[str, ...]:
    """A part label per stroke, as annotated or as the data set has them; () for none."""
    annotated = example.annotation.parts if example.annotation else ()
    return annotated or example.parts


def word_loss(model: Generator, context: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
    """Mean NLL of a word of ``ids`` (first symbol … EOS each), given ``context`` (B, H)."""
    nll, count = word_nll(model, context, ids)
    return nll.sum() / count.sum()


def word_nll(
    model: Generator, context: Tensor, ids: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Summed NLL of the words of each of ``ids``, and their number: (B,) each.

    Texts of about the same length are read together, so that little is read in vain.
    """
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    cuts = [order[at : at + TOGETHER] for at in range(0, len(order), TOGETHER)]
    parts = [_together(model, context[rows], [ids[row] for row in rows]) for rows in cuts]
    place = torch.tensor(order).argsort()
    nll, count = (torch.cat(column)[place] for column in zip(*parts, strict=True))
    return nll, count


def _together(
    model: Generator, context: Tensor, ids: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    padded = torch.full((len(ids), max(map(len, ids))), Vocabulary.PAD)
    for row, sequence in zip(padded, ids, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    target = padded[:, 1:]
    # Unknown words are never to be written. Logits are made only where there is a target.
    counts = (target != Vocabulary.PAD) & (target != Vocabulary.UNK)
    logits = model.logits(model.read(context, padded[:, :-1])[counts])  # (N, V)
    each = functional.cross_entropy(logits, target[counts], reduction="none")
    nll = torch.zeros(len(ids)).index_add(0, counts.nonzero()[:, 0], each)
    return nll, counts.sum(dim=1)


def _mean(nll: Tensor, count: Tensor, chosen: Tensor) -> Tensor:
    return (nll * chosen).sum() / (count * chosen).sum().clamp(min=1)
