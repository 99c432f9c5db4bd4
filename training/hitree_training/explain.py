"""Explaining drawings with the trained networks: what the parsers of `hitree.parse` ask for.

Unity takes one call for all segments of many drawings, and texts are written for the nodes that
are kept. Only where the weights ask for it is every segment described first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hitree.parse import DEFAULT, PARSER, PARSERS, Fits, Judged, Weights, all_spans
from hitree.prune import prune
from hitree.segments import stroke_features
from hitree.telling import repeating, tell
from hitree.text import words
from hitree.tree import build
from hitree_training import decode, train_generator, train_scorer, wording
from hitree_training.pairs import token_batch
from hitree_training.segment_batches import subject_vectors
from hitree_training.step_spans import end_to_end

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree.text import Vocabulary
    from hitree.tree import Node
    from hitree_training.data import Example
    from hitree_training.models.generator import Generator
    from hitree_training.models.scorer import Scorer

WORDS = 24  # of an instruction at most
BEAM = 4  # texts to choose from where the likeliest one repeats another node's


@dataclass(frozen=True)
class Parsing:
    """How trees are made."""

    parser: str = PARSER  # one of hitree.parse.PARSERS
    max_nodes: int = 16
    threshold: float = 0.0  # value that a node must have to be worth keeping
    weights: Weights = DEFAULT

    def tree(self, known: Judged) -> Node:
        """The tree of a drawing, without texts."""
        binary = PARSERS[self.parser](known.strokes, known, self.weights)
        return prune(binary, max_nodes=self.max_nodes, threshold=self.threshold)


PARSING = Parsing()


@dataclass(frozen=True)
class Explainer:
    """A generator that writes instructions and a scorer that judges segments and instructions."""

    generator: Generator
    vocabulary: Vocabulary
    scorer: Scorer

    @classmethod
    def load(cls, generator: Path, scorer: Path) -> Explainer:
        """Read two checkpoints."""
        return cls(*train_generator.load(generator), train_scorer.load(scorer))

    def trees(self, examples: Sequence[Example], parsing: Parsing = PARSING) -> list[Node]:
        """Infer the instruction trees of drawings whose subjects are known."""
        batch = Batch.of(examples)
        if parsing.weights.reads_text:
            judged = [self.judge(example).known for example in examples]
        else:
            judged = self.unity(batch)
        shapes = [parsing.tree(known) for known in judged]
        return [
            build([replace(n, text=text) for n, text in zip(shape.walk(), texts, strict=True)])
            for shape, texts in zip(shapes, self._texts(batch, shapes), strict=True)
        ]

    @torch.inference_mode()
    def unity(self, batch: Batch) -> list[Judged]:
        """All segments of drawings, judged by unity alone."""
        spans, bounds = end_to_end(batch.sizes)
        found = self.scorer.unity(batch.strokes, spans, bounds).numpy()
        ends = np.cumsum([size * (size + 1) // 2 for size in batch.sizes])
        parts = np.split(found, ends[:-1])
        return [Judged(n, Fits.of_unity(part)) for n, part in zip(batch.sizes, parts, strict=True)]

    @torch.inference_mode()
    def judge(self, example: Example) -> Described:
        """All segments of one drawing, each described and judged by all that the scorer knows."""
        strokes = torch.from_numpy(stroke_features(example.drawing))
        spans = torch.from_numpy(all_spans(len(strokes)))
        bounds = torch.tensor([[0, len(strokes)]]).expand_as(spans)
        subject = subject_vectors([example]).expand(len(spans), -1)
        found = self.likeliest(self.contexts(Rows(strokes, spans, subject, bounds)))
        texts = tuple(one.text for one in found)
        segments = self.scorer.segments(strokes, spans)
        instructions = self.scorer.texts(*token_batch(texts))
        fits = Fits(
            unity=self.scorer.unity(strokes, spans).numpy(),
            fit=(segments * instructions).sum(dim=1).numpy(),
            likelihood=np.array([one.log_prob for one in found], np.float32),
            strokes=np.zeros(len(spans), np.float32),
            segments=segments.numpy(),
            texts=instructions.numpy(),
        )
        return Described(Judged(len(strokes), fits), texts)

    @torch.inference_mode()
    def contexts(self, rows: Rows) -> Tensor:
        """What the generator makes of segments, before it writes. (S, H)"""
        context: Tensor = self.generator.describe(
            rows.strokes, rows.spans, rows.subjects, rows.bounds
        )
        return context

    @torch.inference_mode()
    def likeliest(self, context: Tensor) -> list[Told]:
        """A text for each of ``context`` (S, H), the likeliest word at a time."""
        found = decode.greedy(self.generator.step, context, limit=WORDS, banned=decode.ONE_SENTENCE)
        return [self._read(one) for one in found]

    @torch.inference_mode()
    def best(self, context: Tensor) -> list[list[Told]]:
        """The `BEAM` best texts for each of ``context`` (S, H), best first."""
        found = decode.beam(
            self.generator.step, context, limit=WORDS, width=BEAM, banned=decode.ONE_SENTENCE
        )
        return [[self._read(one) for one in beams] for beams in found]

    def _read(self, one: decode.Decoded) -> Told:
        return Told(self.vocabulary.decode(one.ids), one.mean)

    def _texts(self, batch: Batch, shapes: Sequence[Node]) -> list[list[str]]:
        """The texts of trees, in preorder, written for all of them at once."""
        trees = [list(shape.walk()) for shape in shapes]
        ends = np.cumsum([len(nodes) for nodes in trees]).tolist()
        firsts = [end - len(nodes) for end, nodes in zip(ends, trees, strict=True)]
        context = self.contexts(batch.rows([(b, n) for b, own in enumerate(trees) for n in own]))
        # A wide search only where it is needed: for the long sentences of whole drawings, and for
        # the few nodes that say what another one says.
        options = [[told] for told in self.likeliest(context)]
        for b, best in enumerate(self.best(context[firsts])):
            options[firsts[b]] = [Told(root_text(batch.examples[b], best[0].text), 0.0)]
        own = [slice(first, end) for first, end in zip(firsts, ends, strict=True)]
        again = [
            firsts[b] + index
            for b, nodes in enumerate(trees)
            for index in repeating(nodes, [told[0].text for told in options[own[b]]])
        ]
        for at, best in zip(again, self.best(context[again]), strict=True):
            options[at] = best
        return [tell(nodes, options[own[b]]) for b, nodes in enumerate(trees)]


@dataclass(frozen=True)
class Told:
    """A text that a segment may be described by; a `hitree.telling.Option`."""

    text: str
    log_prob: float  # mean of a word


@dataclass(frozen=True)
class Rows:
    """S segments of drawings that lie end to end."""

    strokes: Tensor  # (n, 32, 4)
    spans: Tensor  # (S, 2) int64
    subjects: Tensor  # (S, E) sentence vectors
    bounds: Tensor  # (S, 2) int64, the drawing of each


@dataclass(frozen=True)
class Batch:
    """Drawings end to end."""

    examples: tuple[Example, ...]
    strokes: Tensor  # (n, 32, 4)
    sizes: list[int]  # strokes of each drawing
    firsts: list[int]  # the first stroke of each
    subjects: Tensor  # (B, E) sentence vectors

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Batch:
        """Read drawings."""
        sizes = [len(example.drawing.strokes) for example in examples]
        return cls(
            tuple(examples),
            torch.from_numpy(np.concatenate([stroke_features(e.drawing) for e in examples])),
            sizes,
            [sum(sizes[:b]) for b in range(len(sizes))],
            subject_vectors(examples),
        )

    def rows(self, places: Sequence[tuple[int, Node]]) -> Rows:
        """The segments of nodes, each with the index of its drawing."""
        which = [b for b, _ in places]
        spans = torch.tensor([(node.start or 0, node.end or 0) for _, node in places])
        first, size = torch.tensor(self.firsts)[which], torch.tensor(self.sizes)[which]
        bounds = torch.stack([first, first + size], dim=1)
        return Rows(self.strokes, spans + first[:, None], self.subjects[which], bounds)


@dataclass(frozen=True, eq=False)
class Described:
    """All segments of one drawing, with the texts that they were judged under."""

    known: Judged
    texts: tuple[str, ...]  # of `all_spans`


def root_text(example: Example, described: str) -> str:
    """What a whole drawing is called: as annotated, else as described where that names it."""
    if example.annotation and example.annotation.root:
        return example.annotation.root
    found = set(words(described))
    names = all(word in found for word in example.subject.split())
    return described if names else wording.root(example.subject)
