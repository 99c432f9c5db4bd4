"""From a drawing to the instruction tree behind it; and what its segments are worth saying.

The scorer says of every segment how probable it is one step of the drawing, of all of them in one
call; a parser of `hitree.parse` finds the tree, which is pruned to the segments that are worth it.
Only these are described, with a beam, so that a node can say something else than the nodes above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hitree.errors import InvalidInput
from hitree.limits import LIMITS
from hitree.parse import DEFAULT, PARSER, PARSERS, Fits, Judged, all_spans
from hitree.prune import prune
from hitree.telling import tell
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

MOST_NODES = 12  # where the caller sets none: as many as a person reads at a glance
PRUNE = 0.0  # log-odds of a step from which it is worth a node, where the bundle sets none
OPTIONS = 4  # descriptions of a node to choose from


class AnnotatorModels(Protocol):
    """What an annotator needs of `hitree_server.models.Models`."""

    subjects: tuple[str, ...]
    settings: Mapping[str, float]

    def recognise(self, prompt: str, nearest: bool = False) -> Recognition: ...

    def embed_texts(self, texts: Sequence[str]) -> Floats: ...

    def embed_segments(self, drawing: Drawing, spans: Ids) -> Floats: ...

    def unity(self, drawing: Drawing, spans: Ids) -> Floats: ...

    def classify(self, drawing: Drawing) -> Floats: ...

    def describe(
        self, drawing: Drawing, spans: Ids, subject: str, *, n_best: int = 1, width: int = 4
    ) -> list[list[Described]]: ...


@dataclass(frozen=True)
class ScoreItem:
    """An instruction to be judged against a segment."""

    start: int  # first stroke
    end: int  # one past the last stroke
    text: str


class Annotator:
    """Reads drawings with a bundle's models."""

    def __init__(self, models: AnnotatorModels) -> None:
        self._models = models

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
        count = len(cuts) - 1
        unity = self._models.unity(drawing, cuts[all_spans(count)])
        root = PARSERS[parser](count, Judged(count, Fits.of_unity(unity)), DEFAULT)
        threshold = self._models.settings.get("prune", PRUNE)
        kept = prune(root, max_nodes=max_nodes or MOST_NODES, threshold=threshold)
        nodes = self._told(drawing, subject, [_in_strokes(node, cuts) for node in kept.walk()])
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
        if not 0 <= n_best <= LIMITS.n_best:
            raise InvalidInput(f"n_best is {n_best}; send 1 to {LIMITS.n_best}")
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
        if not 1 <= len(items) <= LIMITS.score_items:
            raise InvalidInput(
                f"there are {len(items)} items to score; send 1 to {LIMITS.score_items}"
            )
        texts = [check_text(item.text, "instruction") for item in items]
        segments = self._models.embed_segments(
            drawing, _spans(drawing, [(item.start, item.end) for item in items])
        )
        fits: list[float] = (segments * embed_unique(self._models, texts)).sum(axis=1).tolist()
        return fits

    def _subject(self, drawing: Drawing, subject: str) -> tuple[str, float]:
        """The subject that was given, or the most probable one and how probable it is."""
        if subject:
            found = self._models.recognise(check_text(subject, "subject"))
            return found.subject, found.confidence
        probabilities = self._models.classify(drawing)
        best = int(probabilities.argmax())
        return self._models.subjects[best], float(probabilities[best])

    def _told(self, drawing: Drawing, subject: str, nodes: list[Node]) -> list[Node]:
        """The nodes with their texts, and how well these fit as scores."""
        spans = _spans(drawing, [(node.start or 0, node.end or 0) for node in nodes])
        options = self._models.describe(drawing, spans, subject, n_best=OPTIONS)
        whole = options[0][0]
        options[0] = [replace(whole, text=_root_text(whole.text, subject))]
        texts = tell(nodes, options)
        fits = self._models.embed_segments(drawing, spans) * embed_unique(self._models, texts)
        return [
            replace(node, text=text, score=float(fit), children=())
            for node, text, fit in zip(nodes, texts, fits.sum(axis=1), strict=True)
        ]


def embed_unique(models: AnnotatorModels, texts: Sequence[str]) -> Floats:
    """Embed texts (N, D), each different one once: neighbouring segments read much alike."""
    unique, place = np.unique(np.array(texts, object).astype(str), return_inverse=True)
    return models.embed_texts(unique.tolist())[place]


def _root_text(described: str, subject: str) -> str:
    """What the whole is called: its description where it names the subject."""
    found = words(described)
    names = all(word in found for word in subject.split())
    return described if names else f"draw {with_article(subject)}"


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
