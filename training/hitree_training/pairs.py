"""What the scorer learns from: segments of drawings, each with the instructions that explain it.

A pair is a span and a *bag* of texts, whose embeddings are added up: one step, several steps in a
row, all steps of a drawing, its root sentence, or "draw a {subject}". Bags of several texts teach
what the parser calls coherence: that the children's instructions together explain their parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hitree_training import data, wording
from hitree_training.segment_batches import Strokes, weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from hitree_training.annotations import Step
    from hitree_training.data import Example

PLAIN = 0.5  # share of annotated drawings whose root says no more than the subject
BENT = 1  # wrong spans that are made of every step's span, one stroke longer or shorter


@dataclass(frozen=True)
class PairBatch:
    """P pairs, and Q spans that no text explains, over n strokes."""

    strokes: Tensor  # (n, 32, 4)
    spans: Tensor  # (P + Q, 2) int64, the pairs first
    bounds: Tensor  # (P + Q, 2) int64, the drawing of each span
    texts: tuple[str, ...]  # U texts
    bags: Tensor  # (P, U) float32, 1 where a text is in a pair's bag
    drawing: Tensor  # (P + Q,) int64, which drawing
    subject: Tensor  # (P,) int64, which subject
    whole: Tensor  # (P,) bool, the span is the whole drawing


class Pairs:
    """A set of drawings, annotated or not, as pairs."""

    def __init__(self, examples: Sequence[Example], mix: Mapping[str, float], label: str) -> None:
        self.examples = examples
        self.strokes = Strokes(examples, label)
        self.weights = weights(examples, mix)
        self.subjects = sorted({e.subject for e in examples})

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` drawings, by weight."""
        return torch.multinomial(self.weights, size, replacement=True, generator=generator)

    def batch(self, index: Tensor, generator: torch.Generator, *, augment: bool) -> PairBatch:
        """The pairs of the drawings at ``index`` (B,); which runs and bends, is drawn."""
        batch = self.strokes.batch(index, generator if augment else None)
        gathered = _Gathered()
        for b, i in enumerate(index.tolist()):
            gathered.open(b, int(batch.first[b]), int(batch.size[b]), bool(batch.mirrored[b]))
            example = self.examples[i]
            self._add(gathered, example, generator, augment)
        return gathered.close(batch.strokes)

    def _add(
        self, gathered: _Gathered, example: Example, generator: torch.Generator, augment: bool
    ) -> None:
        subject = self.subjects.index(example.subject)
        size = len(example.drawing.strokes)
        chance = torch.rand(3, generator=generator).tolist()
        plain = wording.root(example.subject)
        if example.annotation is None:
            gathered.pair((0, size), (plain,), subject)
            return
        steps = example.annotation.steps
        root = example.annotation.root or plain
        gathered.pair((0, size), (plain if augment and chance[0] < PLAIN else root,), subject)
        gathered.pair((0, size), tuple(step.text for step in steps), subject)
        for step in steps:
            gathered.pair((step.start, step.end), (step.text,), subject)
            for _ in range(BENT):
                gathered.bend(step, generator)
        if len(steps) > 2:  # and a run of some of them
            a = int(chance[1] * (len(steps) - 1))
            b = a + 2 + int(chance[2] * (len(steps) - a - 1))
            run = steps[a:b]
            gathered.pair((run[0].start, run[-1].end), tuple(s.text for s in run), subject)


class _Gathered:
    """Pairs while they are gathered, drawing by drawing."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.bags: list[tuple[str, ...]] = []
        self.subjects: list[int] = []
        self.drawings: list[tuple[int, int, int]] = []  # which, first stroke, strokes; a pair's
        self.wrong: list[tuple[int, int]] = []
        self.wrong_drawings: list[tuple[int, int, int]] = []

    def open(self, which: int, first: int, size: int, mirrored: bool) -> None:
        self._which, self._first, self._size, self._mirrored = which, first, size, mirrored

    def pair(self, span: tuple[int, int], texts: tuple[str, ...], subject: int) -> None:
        self.spans.append((self._first + span[0], self._first + span[1]))
        self.bags.append(tuple(map(wording.mirror, texts)) if self._mirrored else texts)
        self.subjects.append(subject)
        self.drawings.append((self._which, self._first, self._size))

    def bend(self, step: Step, generator: torch.Generator) -> None:
        """Add the step's span with one end moved by a stroke, where that leaves a span."""
        move = int(torch.randint(0, 4, (), generator=generator))
        start = step.start + (-1, 1, 0, 0)[move]
        end = step.end + (0, 0, -1, 1)[move]
        if 0 <= start < end <= self._size:
            self.wrong.append((self._first + start, self._first + end))
            self.wrong_drawings.append((self._which, self._first, self._size))

    def close(self, strokes: Tensor) -> PairBatch:
        texts = tuple(dict.fromkeys(text for bag in self.bags for text in bag))
        index = {text: u for u, text in enumerate(texts)}
        bags = torch.zeros(len(self.bags), len(texts))
        for p, bag in enumerate(self.bags):
            bags[p, [index[text] for text in bag]] = 1.0
        drawings = torch.tensor(self.drawings + self.wrong_drawings)  # (P + Q, 3)
        which, first, size = drawings.unbind(dim=1)
        spans = torch.tensor(self.spans)
        bounds = torch.stack([first, first + size], dim=1)
        return PairBatch(
            strokes=strokes,
            spans=torch.tensor(self.spans + self.wrong),
            bounds=bounds,
            texts=texts,
            bags=bags,
            drawing=which,
            subject=torch.tensor(self.subjects),
            whole=(spans == bounds[: len(spans)]).all(dim=1),
        )


def token_batch(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token vectors (B, T, E) and mask (B, T) of texts."""
    vectors, mask = data.token_vectors().batch(texts)
    return torch.from_numpy(vectors), torch.from_numpy(mask)
