"""How well trees agree with the annotators', and how much of a parent's text its children share.

Bracketing (`hitree_training.bracketing`): recall, precision and F1 of the annotators' steps, over
spans of two or more strokes without the root, every tree pruned to the annotators' number of nodes.
Every scorer is parsed by every parser, beside trees that look at nothing and the best binary tree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from hitree.parse import PARSERS, Judged, Weights, all_spans
from hitree.stroke5 import UP
from hitree_training import train_decoder, wording
from hitree_training.bracketing import Agreement, agreement, oracle, pruned, trivial
from hitree_training.evaluation import texts
from hitree_training.explain import PARSING
from hitree_training.sequences import NO_AUGMENTATION, Sequences, View
from hitree_training.train_scorer import bare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hitree.parse import Floats
    from hitree.tree import Node
    from hitree_training.data import Example
    from hitree_training.explain import Described, Explainer, Parsing
    from hitree_training.models.decoder import SketchDecoder
    from hitree_training.sequences import Texts

SCORERS: Mapping[str, Weights] = {
    # The triplet loss's: how near the segment's own instruction lies to it.
    "fit": Weights(fit=1.0),
    # The talk's: the mean probability of the generated instruction's words, here as a logarithm.
    "likelihood": Weights(likelihood=1.0),
    # The talk's: how probable a parent's strokes are when each child is drawn under its text.
    "strokes": Weights(strokes=1.0),
    # The three of them that need no unity, weighed as they were before there was any.
    "texts": Weights(fit=1.0, likelihood=0.2, coherence=0.5),
    "unity": Weights(unity=1.0),
    # Tuned on valid drawings, as is the choice to serve unity alone.
    "unity and texts": Weights(unity=1.0, fit=1.0, likelihood=0.2, coherence=0.5),
}
"""What a segment is worth, by name. Where a text is asked for, it is the generator's likeliest."""

BATCH = 64  # drawings

T = TypeVar("T")


def figures(
    explainer: Explainer, examples: Sequence[Example], decoder: SketchDecoder | None = None
) -> dict[str, object]:
    """All figures of annotated drawings of one kind; without a ``decoder`` none of "strokes".

    ``bracketing`` by scorer and parser, ``trivial`` and ``oracle`` by tree; ``served`` are the
    trees of `hitree_training.explain.PARSING`, not pruned to the annotators' size; ``sharing`` is
    `sharing` of theirs, of the annotators' and of texts put together at random.
    """
    noted = [example for example in examples if example.annotation]
    judged = [explainer.judge(example) for example in shown(noted, "judging segments")]
    known = [one.known for one in judged]
    if decoder is not None:
        known = with_strokes(decoder, noted, judged)
    made = explained(explainer, noted, PARSING)
    return {
        "drawings": len(noted),
        "bracketing": {
            scorer: {
                parser: bracketing(noted, parsed(known, parser, weights)) for parser in PARSERS
            }
            for scorer, weights in SCORERS.items()
            if decoder is not None or not weights.strokes
        },
        **floors(noted),
        "served": served(noted, made),
        "sharing": {
            "inferred": sharing(pairs(made)),
            "annotated": sharing(annotated_pairs(noted)),
            "at random": sharing(at_random(pairs(made), seed=0)),
        },
    }


# ---- bracketing ----------------------------------------------------------------------------------


def parsed(known: Sequence[Judged], parser: str, weights: Weights) -> list[Node]:
    """The binary trees that a parser finds."""
    return [PARSERS[parser](one.strokes, one, weights) for one in known]


def bracketing(examples: Sequence[Example], trees: Sequence[Node]) -> dict[str, float]:
    """Recall, precision and F1 of trees, each pruned to as many nodes as the annotators'."""
    total = Agreement()
    for example, tree in zip(examples, trees, strict=True):
        steps = example.annotation.steps if example.annotation else ()
        total += agreement(pruned(tree, 1 + len(steps)), steps)
    return total.figures()


def floors(examples: Sequence[Example]) -> dict[str, object]:
    """The same of trees that look at nothing, and of the best binary tree there is."""
    known: dict[str, list[Node]] = {}
    for seed, example in enumerate(examples):
        for name, tree in trivial(len(example.drawing.strokes), seed).items():
            known.setdefault(name, []).append(tree)
    best = [
        oracle(len(e.drawing.strokes), e.annotation.steps if e.annotation else ()) for e in examples
    ]
    return {
        "trivial": {name: bracketing(examples, trees) for name, trees in known.items()},
        "oracle": bracketing(examples, best),
    }


def served(examples: Sequence[Example], trees: Sequence[Node]) -> dict[str, float]:
    """Trees as they are, of whatever size: their agreement and their number of nodes."""
    total = Agreement()
    for example, tree in zip(examples, trees, strict=True):
        total += agreement(tree, example.annotation.steps if example.annotation else ())
    return {
        **total.figures(),
        "nodes": float(np.mean([len(list(tree.walk())) for tree in trees])),
        "annotated_nodes": float(
            np.mean([1 + len(e.annotation.steps) for e in examples if e.annotation])
        ),
    }


def explained(explainer: Explainer, examples: Sequence[Example], parsing: Parsing) -> list[Node]:
    """The trees of drawings as if they were not annotated, with the generator's texts."""
    plain = [bare(example) for example in examples]
    chunks = [plain[at : at + BATCH] for at in range(0, len(plain), BATCH)]
    return [tree for chunk in chunks for tree in explainer.trees(chunk, parsing)]


# ---- strokes under their instructions ------------------------------------------------------------


@torch.inference_mode()
def with_strokes(
    decoder: SketchDecoder, examples: Sequence[Example], judged: Sequence[Described]
) -> list[Judged]:
    """What is known of segments, and how much likelier an instruction makes their strokes.

    The talk's P(parent strokes | child instructions) is the product of what each child's strokes
    have under its own instruction, teacher-forced. A segment counts for the logarithm of that less
    the logarithm under the plain root alone: of one parent's splits the latter is the same, so they
    rank as in the talk, and segments of different sizes compare. Before a segment the decoder is
    told the plain root.
    """
    rows = [all_spans(one.known.strokes).tolist() for one in judged]
    told = [
        Segment(example, start, end, text)
        for example, one, spans in zip(examples, judged, rows, strict=True)
        for (start, end), text in zip(spans, one.texts, strict=True)
    ]
    plain = [Segment(example, 0, len(example.drawing.strokes), "") for example in examples]
    costs = iter(stroke_costs(decoder, told))
    return [
        replace(one.known, fits=replace(one.known.fits, strokes=_gains(spans, costs, base)))
        for one, spans, base in zip(judged, rows, stroke_costs(decoder, plain), strict=True)
    ]


def _gains(spans: Sequence[Sequence[int]], costs: Iterator[Floats], base: Floats) -> Floats:
    """How much less the strokes of spans cost when told, one drawing's costs a span. (S,)"""
    gains = [(base - next(costs))[start:end].sum() for start, end in spans]
    return np.array(gains, np.float32)


@dataclass(frozen=True)
class Segment:
    """A segment of a drawing and what it is told beside the plain root."""

    example: Example
    start: int  # first stroke
    end: int  # one past the last
    text: str  # empty: nothing

    def view(self, texts: Texts) -> View:
        """The drawing, cut before and after the segment."""
        below = (texts.add(self.text),) if self.text else ()
        size = len(self.example.drawing.strokes)
        cuts = {self.start: (), self.end: below}
        cuts |= {} if self.end == size else {size: ()}
        cuts.pop(0, None)
        root = texts.add(wording.root(self.example.subject))
        return View((root,), tuple(cuts), tuple(cuts.values()))


def stroke_costs(decoder: SketchDecoder, segments: Sequence[Segment]) -> list[Floats]:
    """What each stroke of each segment's whole drawing costs, in nats. (strokes,) each."""
    told = iter(segments)
    sequences = Sequences(
        [segment.example for segment in segments],
        shown=lambda _example, texts, _tree: [next(told).view(texts)],
    )
    generator = torch.Generator().manual_seed(0)  # there is one view of each: nothing is drawn
    found: dict[int, Floats] = {}
    for index in shown(torch.split(sequences.lengths.argsort(), BATCH), "reading strokes"):
        batch = sequences.batch(index, generator, NO_AUGMENTATION)
        scored = train_decoder.score(decoder, batch)
        up = batch.rows[..., UP]  # (B, T)
        stroke = (up.cumsum(dim=1) - up).long()  # (B, T) which one a row belongs to
        sums = torch.zeros(len(index), int(stroke.max()) + 1)
        sums.scatter_add_(1, stroke, (scored.offset + scored.pen) * batch.valid)
        for i, row in zip(index.tolist(), sums.numpy(), strict=True):
            found[i] = row[: len(segments[i].example.drawing.strokes)]
    return [found[i] for i in range(len(segments))]


# ---- texts ---------------------------------------------------------------------------------------

Pair = tuple[str, tuple[str, ...]]
"""A parent's text and its children's."""


def pairs(trees: Iterable[Node]) -> list[Pair]:
    """Every node that has children, with them."""
    return [
        (node.text, tuple(child.text for child in node.children))
        for tree in trees
        for node in tree.walk()
        if node.children
    ]


def annotated_pairs(examples: Iterable[Example]) -> list[Pair]:
    """The annotators' roots and steps."""
    notes = [example.annotation for example in examples if example.annotation]
    return [(note.root, tuple(step.text for step in note.steps)) for note in notes if note.root]


def at_random(found: Sequence[Pair], seed: int) -> list[Pair]:
    """The same parents, each with the children of another: what sharing is by chance."""
    order = np.random.default_rng(seed).permutation(len(found))
    return [(found[a][0], found[b][1]) for a, b in zip(order, np.roll(order, 1), strict=True)]


def sharing(found: Sequence[Pair]) -> dict[str, float]:
    """How much of parents' texts their children's texts, joined by "and", say, as in the talk.

    BLEU-1 and ROUGE-L as `texts.scores` takes them, averaged over parents.
    """
    scored = [texts.scores(" and ".join(children), text) for text, children in found]
    bleu_1, _, rouge_l = np.mean(scored, axis=0).tolist() if scored else (0.0, 0.0, 0.0)
    return {"parents": len(found), "bleu_1": bleu_1, "rouge_l": rouge_l}


def shown(items: Sequence[T], label: str) -> Iterable[T]:
    """The items behind a progress bar."""
    return track(items, label, console=Console(stderr=True), transient=True)
