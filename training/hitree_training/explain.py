"""Explaining drawings with the trained networks: what the parsers of `hitree.parse` ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from hitree.parse import DEFAULT, PARSERS, Fits, Weights, prune
from hitree.segments import stroke_features
from hitree.tree import build
from hitree_training import data, decode, train_generator, train_scorer
from hitree_training.pairs import token_batch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from hitree.drawing import Drawing
    from hitree.parse import Spans
    from hitree.text import Vocabulary
    from hitree.tree import Node
    from hitree_training.models.generator import Generator
    from hitree_training.models.scorer import Scorer

WORDS = 24  # of an instruction at most


@dataclass(frozen=True)
class Parsing:
    """How trees are made."""

    parser: str = "cky"  # one of hitree.parse.PARSERS
    max_nodes: int = 16
    threshold: float = 0.0  # value that a node must have to be worth keeping
    weights: Weights = DEFAULT


PARSING = Parsing()


@dataclass(frozen=True)
class Explainer:
    """A generator that writes instructions and a scorer that judges them."""

    generator: Generator
    vocabulary: Vocabulary
    scorer: Scorer

    @classmethod
    def load(cls, generator: Path, scorer: Path) -> Explainer:
        """Read two checkpoints."""
        return cls(*train_generator.load(generator), train_scorer.load(scorer))

    def of(self, drawing: Drawing, subject: str) -> Explained:
        """What is needed to parse one drawing of a known subject."""
        return Explained(self, torch.from_numpy(stroke_features(drawing)), subject)

    def tree(self, drawing: Drawing, subject: str, root: str, parsing: Parsing) -> Node:
        """Infer the instruction tree of a drawing; ``root`` is the text of its root."""
        explained = self.of(drawing, subject)
        parse = PARSERS[parsing.parser]
        binary = parse(len(drawing.strokes), explained, parsing.weights)
        small = prune(binary, max_nodes=parsing.max_nodes, threshold=parsing.threshold)
        nodes = list(small.walk())
        texts = [root, *(explained.texts[node.start or 0, node.end or 0] for node in nodes[1:])]
        return build([replace(node, text=t) for node, t in zip(nodes, texts, strict=True)])


class Explained:
    """The segments of one drawing; a `hitree.parse.SegmentScorer`."""

    def __init__(self, explainer: Explainer, strokes: Tensor, subject: str) -> None:
        self.texts: dict[tuple[int, int], str] = {}  # the instruction of every segment asked for
        self._explainer = explainer
        self._strokes = strokes  # (n, 32, 4)
        self._subject = torch.from_numpy(data.token_vectors().sentence(subject))

    @torch.inference_mode()
    def spans(self, spans: Spans) -> Fits:
        """Describe segments and judge what was written."""
        rows = torch.from_numpy(spans)
        found = self.describe(rows)
        texts = [self._explainer.vocabulary.decode(one.ids) for one in found]
        self.texts.update(zip(map(tuple, spans.tolist()), texts, strict=True))
        segments = self._explainer.scorer.segments(self._strokes, rows)
        instructions = self._explainer.scorer.texts(*token_batch(texts))
        return Fits(
            fit=(segments * instructions).sum(dim=1).numpy(),
            likelihood=torch.tensor([one.mean for one in found]).numpy(),
            segments=segments.numpy(),
            texts=instructions.numpy(),
        )

    @torch.inference_mode()
    def describe(self, spans: Tensor) -> list[decode.Decoded]:
        """The likeliest words for segments (S, 2), greedily."""
        generator = self._explainer.generator
        subject = self._subject.expand(len(spans), -1)
        context = generator.describe(self._strokes, spans, subject)
        return decode.greedy(generator.step, context, limit=WORDS, banned=decode.ONE_SENTENCE)
