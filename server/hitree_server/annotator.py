"""From a drawing to the instruction tree behind it; and what its segments are worth saying.

Every segment is described by the generator and embedded with its description by the scorer, all of
them in one batch; a parser of `hitree.parse` finds the tree, which is pruned to a readable size and
described once more, with a beam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hitree.errors import InvalidInput
from hitree.limits import LIMITS
from hitree.parse import DEFAULT, PARSERS, Fits, prune
from hitree.text import check_text, words
from hitree.tree import Node, Plan, build
from hitree_server import units
from hitree_server.instruction import with_article

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hitree.drawing import Drawing
    from hitree_server.decoding import Floats, Ids
    from hitree_server.models import Described
    from hitree_server.subjects import Recognition

PARSER = "cky"
MOST_NODES = 12  # where the caller sets none: as many as a person reads at a glance
PRUNE = 0.3  # value of a segment below which it is not worth a node, where the bundle sets none
SHARPNESS = 10.0  # turns cosines into probabilities of subjects
N_BEST = 16  # descriptions of one segment


class AnnotatorModels(Protocol):
    """What an annotator needs of `hitree_server.models.Models`."""

    subjects: tuple[str, ...]
    settings: Mapping[str, float]

    def recognise(self, prompt: str, nearest: bool = False) -> Recognition: ...

    def embed_texts(self, texts: Sequence[str]) -> Floats: ...

    def embed_segments(self, drawing: Drawing, spans: Ids) -> Floats: ...

    def describe(
        self, drawing: Drawing, spans: Ids, subject: str, *, n_best: int = 1, width: int = 4
    ) -> list[list[Described]]: ...


@dataclass(frozen=True)
class ScoreItem:
    """An instruction to be judged against a segment."""

    start: int  # first stroke
    end: int  # one past the last stroke
    text: str


class SegmentFits:
    """Scores segments of one drawing for a parser; fulfils `hitree.parse.SegmentScorer`."""

    def __init__(self, models: AnnotatorModels, drawing: Drawing, subject: str, cuts: Ids) -> None:
        self._models = models
        self._drawing = drawing
        self._subject = subject
        self._cuts = cuts  # (U + 1,) stroke indices between units

    def spans(self, spans: Ids) -> Fits:
        """Score segments ``spans`` (S, 2) of units, each under its greedy description."""
        strokes = self._cuts[spans]
        described = self._models.describe(self._drawing, strokes, self._subject, width=1)
        best = [texts[0] for texts in described]
        segments = self._models.embed_segments(self._drawing, strokes)
        texts = embed_unique(self._models, [one.text for one in best])
        likelihood = np.array([one.log_prob for one in best], np.float32)
        return Fits((segments * texts).sum(axis=1), likelihood, segments, texts)


class Annotator:
    """Reads drawings with a bundle's models."""

    def __init__(self, models: AnnotatorModels) -> None:
        self._models = models
        self._subject_texts = embed_unique(
            models, [f"draw {with_article(subject)}" for subject in models.subjects]
        )  # (subjects, D)

    def annotate(
        self, drawing: Drawing, *, subject: str = "", parser: str = PARSER, max_nodes: int = 0
    ) -> Plan:
        """Infer the instruction tree behind a drawing.

        An empty ``subject`` is recognised from the strokes; ``max_nodes`` of 0 is the default.

        Raises:
            InvalidDrawing: see `hitree.drawing.Drawing.check`.
            UnknownSubject: ``subject`` is none of the bundle's.
            InvalidInput: an unknown parser, or ``max_nodes`` beyond the limit.
        """
        drawing.check()
        _check_options(parser, max_nodes)
        subject, confidence = self._subject(drawing, subject)
        cuts = units.cuts(drawing)
        scores = SegmentFits(self._models, drawing, subject, cuts)
        root = PARSERS[parser](len(cuts) - 1, scores, DEFAULT)
        threshold = self._models.settings.get("prune", PRUNE)
        most = max_nodes or readable_nodes(len(cuts) - 1)
        kept = list(prune(root, max_nodes=most, threshold=threshold).walk())
        nodes = self._told(drawing, subject, [_in_strokes(node, cuts) for node in kept])
        return Plan(build(nodes), subject, confidence)

    def describe(
        self, drawing: Drawing, start: int, end: int, *, subject: str = "", n_best: int = 1
    ) -> list[Described]:
        """The ``n_best`` instructions for the segment ``[start, end)``, best first; 0 means 1.

        Raises:
            InvalidDrawing, UnknownSubject: as in `annotate`.
            InvalidInput: no such segment, or ``n_best`` beyond the limit.
        """
        drawing.check()
        if not 0 <= n_best <= N_BEST:
            raise InvalidInput(f"n_best is {n_best}; send 1 to {N_BEST}")
        spans = _spans(drawing, [(start, end)])
        subject, _ = self._subject(drawing, subject)
        return self._models.describe(drawing, spans, subject, n_best=n_best or 1)[0]

    def score(self, drawing: Drawing, items: Sequence[ScoreItem]) -> list[float]:
        """How well each instruction fits its segment: -1 to 1, higher fits better.

        Raises:
            InvalidDrawing: see `hitree.drawing.Drawing.check`.
            InvalidInput: no items, too many, no such segment, or a text that is none.
        """
        drawing.check()
        if not 1 <= len(items) <= LIMITS.plan_nodes:
            raise InvalidInput(
                f"there are {len(items)} items to score; send 1 to {LIMITS.plan_nodes}"
            )
        texts = [check_text(item.text, "instruction") for item in items]
        segments = self._models.embed_segments(
            drawing, _spans(drawing, [(item.start, item.end) for item in items])
        )
        fits: list[float] = (segments * embed_unique(self._models, texts)).sum(axis=1).tolist()
        return fits

    def _subject(self, drawing: Drawing, subject: str) -> tuple[str, float]:
        """The subject that was given, or the one that the whole drawing fits best."""
        if subject:
            found = self._models.recognise(subject)
            return found.subject, found.confidence
        whole = np.array([[0, len(drawing.strokes)]], np.int64)
        cosines = self._subject_texts @ self._models.embed_segments(drawing, whole)[0]
        odds = np.exp(SHARPNESS * (cosines - cosines.max()))
        best = int(np.argmax(odds))
        return self._models.subjects[best], float(odds[best] / odds.sum())

    def _told(self, drawing: Drawing, subject: str, nodes: list[Node]) -> list[Node]:
        """The nodes with their texts, and how well these fit as scores."""
        spans = _spans(drawing, [(node.start or 0, node.end or 0) for node in nodes])
        described = self._models.describe(drawing, spans, subject)
        texts = [best[0].text for best in described]
        texts[0] = _root_text(texts[0], subject)
        fits = self._models.embed_segments(drawing, spans) * embed_unique(self._models, texts)
        return [
            replace(node, text=text, score=float(fit), children=())
            for node, text, fit in zip(nodes, texts, fits.sum(axis=1), strict=True)
        ]


def readable_nodes(strokes: int) -> int:
    """How many nodes a tree has at most by default: people use a step for every other stroke."""
    return min(2 + strokes // 2, MOST_NODES)


def embed_unique(models: AnnotatorModels, texts: Sequence[str]) -> Floats:
    """Embed texts (N, D), each different one once: neighbouring segments read much alike."""
    unique, place = np.unique(np.array(texts, object).astype(str), return_inverse=True)
    return models.embed_texts(unique.tolist())[place]


def _root_text(described: str, subject: str) -> str:
    """What the whole is called: its description where it names the subject."""
    found = words(described)
    names = all(word in found for word in subject.split())
    return described if names and found[0] == "draw" else f"draw {with_article(subject)}"


def _in_strokes(node: Node, cuts: Ids) -> Node:
    start, end = cuts[[node.start or 0, node.end or 0]].tolist()
    return replace(node, start=start, end=end)


def _spans(drawing: Drawing, spans: Sequence[tuple[int, int]]) -> Ids:
    count = len(drawing.strokes)
    for start, end in spans:
        if not 0 <= start < end <= count:
            raise InvalidInput(
                f"[{start}, {end}) is no segment of a drawing of {count} strokes; send "
                f"0 <= start < end <= {count}"
            )
    return np.array(spans, np.int64)


def _check_options(parser: str, max_nodes: int) -> None:
    if parser not in PARSERS:
        raise InvalidInput(f"there is no parser {parser!r}; choose one of {', '.join(PARSERS)}")
    if not 0 <= max_nodes <= LIMITS.plan_nodes:
        raise InvalidInput(
            f"max_nodes is {max_nodes}; send 1 to {LIMITS.plan_nodes}, or 0 for the default"
        )
