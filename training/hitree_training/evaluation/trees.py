"""How well trees agree with the annotators', and how much of a parent's text its children share.

Bracketing (`hitree_training.bracketing`): recall, precision and F1 of the annotators' steps, over
spans of two or more strokes without the root, every tree pruned to the annotators' number of nodes.
Every scorer is parsed by every parser, beside trees that look at nothing and the best binary tree.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from nltk.translate.bleu_score import (  # type: ignore[import-untyped]  # ships no types
    SmoothingFunction,
    sentence_bleu,
)
from rich.console import Console
from rich.progress import track
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # ships no types

from hitree.parse import PARSERS, Judged, Weights, all_spans
from hitree.stroke5 import UP
from hitree.text import words
from hitree_training import train_decoder, wording
from hitree_training.bracketing import Agreement, agreement, oracle, pruned, trivial
from hitree_training.explain import PARSING
from hitree_training.sequences import NO_AUGMENTATION, Sequences, View
from hitree_training.train_scorer import bare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    "unity and texts": Weights(unity=1.0, fit=1.0, likelihood=1.0, coherence=0.5),
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
    """What is known of segments, and how probable their strokes are under their instructions.

    P(parent strokes | child instructions) is the product of what each child's strokes have under
    its own instruction, so that it comes down to a number a segment: the mean log-density of a
    point, teacher-forced, where the segment is told the plain root and its instruction, and what
    is before it the plain root alone.
    """
    spans = [all_spans(one.known.strokes) for one in judged]
    copies = [
        (example, int(start), int(end), text)
        for example, one, rows in zip(examples, judged, spans, strict=True)
        for (start, end), text in zip(rows, one.texts, strict=True)
    ]
    found = log_densities(decoder, copies)
    parts = np.split(found, np.cumsum([len(rows) for rows in spans])[:-1])
    return [
        replace(one.known, fits=replace(one.known.fits, strokes=part))
        for one, part in zip(judged, parts, strict=True)
    ]


def log_densities(
    decoder: SketchDecoder, segments: Sequence[tuple[Example, int, int, str]]
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The mean log-density of a point of each segment ``[start, end)`` under its text. (S,)"""
    told = iter(segments)

    def view(example: Example, texts: Texts, tree: Node | None) -> list[View]:  # noqa: ARG001
        start, end, text = next(told)[1:]
        size = len(example.drawing.strokes)
        cuts = [(start, ()), (end, (texts.add(text),)), (size, ())]
        kept = [cut for cut, last in zip(cuts, (0, start, end), strict=True) if cut[0] > last]
        root = texts.add(wording.root(example.subject))
        return [View((root,), tuple(cut for cut, _ in kept), tuple(below for _, below in kept))]

    sequences = Sequences([example for example, *_ in segments], shown=view)
    generator = torch.Generator().manual_seed(0)  # there is one view of each: nothing is drawn
    found = np.zeros(len(segments), np.float32)
    for index in shown(torch.split(sequences.lengths.argsort(), BATCH), "reading strokes"):
        batch = sequences.batch(index, generator, NO_AUGMENTATION)
        scored = train_decoder.score(decoder, batch)
        up = batch.rows[..., UP]  # (B, T)
        stroke = up.cumsum(dim=1) - up  # (B, T) which stroke a row belongs to
        start, end = torch.tensor([segments[i][1:3] for i in index.tolist()]).T[..., None]
        inside = ((stroke >= start) & (stroke < end)).float() * batch.valid
        cost = ((scored.offset + scored.pen) * inside).sum(dim=1) / inside.sum(dim=1)
        found[index.numpy()] = -cost.numpy()
    return found


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

    BLEU-1 (nltk, smoothing method 1) and ROUGE-L F1 (with stemming), averaged over parents.
    """
    smooth = SmoothingFunction().method1
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    bleu, longest = [], []
    for text, children in found:
        parent, joined = words(text), words(" and ".join(children))
        bleu.append(sentence_bleu([parent], joined, (1.0,), smooth))
        longest.append(rouge.score(" ".join(parent), " ".join(joined))["rougeL"].fmeasure)
    return {
        "parents": len(found),
        "bleu_1": float(np.mean(bleu)) if bleu else 0.0,
        "rouge_l": float(np.mean(longest)) if longest else 0.0,
    }


def shown(items: Sequence[T], label: str) -> Iterable[T]:
    """The items behind a progress bar."""
    return track(items, label, console=Console(stderr=True), transient=True)
