"""What unity learns from: all spans of annotated drawings, and which of them are steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from hitree.parse import DEFAULT, PARSER, PARSERS, Fits, Judged, all_spans
from hitree_training.bracketing import Agreement, agreement, pruned
from hitree_training.segment_batches import Strokes, weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from hitree_training.data import Example
    from hitree_training.models.scorer import Scorer

CALIBRATION = 0.3  # weight of the log loss, beside that of the partition
NEVER = -1e9  # log-potential of what is no span


@dataclass(frozen=True)
class SpanBatch:
    """All S spans of B drawings that lie end to end."""

    strokes: Tensor  # (n, 32, 4)
    spans: Tensor  # (S, 2) int64
    bounds: Tensor  # (S, 2) int64, the drawing of each
    drawing: Tensor  # (S,) int64, which of the B
    size: Tensor  # (B,) int64, strokes
    steps: Tensor  # (S,) float32, 1 where annotators made a step of it


class StepSpans:
    """A set of annotated drawings."""

    def __init__(self, examples: Sequence[Example], mix: Mapping[str, float], label: str) -> None:
        self.examples = examples
        self.strokes = Strokes(examples, label)
        self.weights = weights(examples, mix)
        self.steps = [_steps(example) for example in examples]

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` drawings, by weight."""
        return torch.multinomial(self.weights, size, replacement=True, generator=generator)

    def batch(self, index: Tensor, generator: torch.Generator | None) -> SpanBatch:
        """All spans of drawings ``index`` (B,), augmented by ``generator`` if there is one."""
        batch = self.strokes.batch(index, generator)
        spans, bounds = end_to_end(batch.size.tolist())
        return SpanBatch(
            batch.strokes,
            spans,
            bounds,
            torch.arange(len(index)).repeat_interleave(batch.size * (batch.size + 1) // 2),
            batch.size,
            torch.cat([self.steps[i] for i in index.tolist()]),
        )


def loss(model: Scorer, batch: SpanBatch) -> Tensor:
    """How badly the annotators' steps are told from everything else, a drawing.

    Steps partition a drawing. So the log-odds of spans are potentials of a semi-Markov random
    field (Sarawagi & Cohen 2004) over all ways to cut the drawing into steps, and the loss is the
    negative log-likelihood of the annotators' way. A log loss of every span by itself beside it
    keeps log-odds what they are called.
    """
    log_odds = model.unity(batch.strokes, batch.spans, batch.bounds)
    alone = functional.binary_cross_entropy_with_logits(log_odds, batch.steps, reduction="sum")
    told = (log_odds * batch.steps).sum()
    partition = _log_partition(log_odds, batch).sum() - told
    # A drawing has some four steps: a quarter makes the two of one size.
    return (partition + CALIBRATION * alone / 4) / len(batch.size)


@torch.inference_mode()
def f1(model: Scorer, spans: StepSpans, size: int = 64) -> float:
    """The F1 of the best trees' brackets, each tree pruned to the annotators' number of nodes."""
    total, parse = Agreement(), PARSERS[PARSER]
    for index in torch.split(torch.arange(len(spans.examples)), size):
        batch = spans.batch(index, None)
        log_odds = model.unity(batch.strokes, batch.spans, batch.bounds)
        parts = torch.split(log_odds, batch.drawing.bincount().tolist())
        for i, strokes, part in zip(index.tolist(), batch.size.tolist(), parts, strict=True):
            note = spans.examples[i].annotation
            steps = note.steps if note else ()
            tree = parse(strokes, Judged(strokes, Fits.of_unity(part.numpy())), DEFAULT)
            total += agreement(pruned(tree, 1 + len(steps)), steps)
    return total.figures()["f1"]


def _log_partition(log_odds: Tensor, batch: SpanBatch) -> Tensor:
    """The logarithm of the sum over all ways to cut each drawing, by dynamic programming. (B,)"""
    drawings, most = len(batch.size), int(batch.size.max())
    first = batch.bounds[:, 0]
    table = torch.full((drawings, most + 1, most + 1), NEVER)
    table[batch.drawing, batch.spans[:, 0] - first, batch.spans[:, 1] - first] = log_odds
    sums = torch.zeros(drawings, 1)  # (B, j) of all ways to cut the first 0 … j - 1 strokes
    for end in range(1, most + 1):
        here = torch.logsumexp(sums + table[:, :end, end], dim=1, keepdim=True)  # (B, 1)
        sums = torch.cat([sums, here], dim=1)
    return sums.gather(1, batch.size[:, None])[:, 0]


@cache
def _all(strokes: int) -> Tensor:
    return torch.from_numpy(all_spans(strokes))


def end_to_end(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`all_spans` of drawings that lie end to end, of ``sizes`` strokes; their bounds. (S, 2)."""
    spans, bounds, first = [], [], 0
    for size in sizes:
        spans.append(_all(size) + first)
        bounds.append(torch.tensor([[first, first + size]]).expand_as(spans[-1]))
        first += size
    return torch.cat(spans), torch.cat(bounds)


def _steps(example: Example) -> Tensor:
    """Which of `all_spans` are steps. (S,) float32."""
    wanted = {(s.start, s.end) for s in example.annotation.steps} if example.annotation else set()
    spans = _all(len(example.drawing.strokes)).tolist()
    return torch.tensor([(i, j) in wanted for i, j in spans], dtype=torch.float32)
