"""Train the judge of the steering table: ``hitree-train judge``.

Cross entropy, both ways: a segment picks its instruction among those of its batch, its opposites
("small ears" for "big ears") and other parts of its subject; an instruction picks its segment. The
opposites come once more as pairs, weighed so that neither way round is commoner: else the judge
would learn that ears are mostly big, and never look. What is kept is the network with the lowest
loss on held-out drawings.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional

from hitree_training import checkpoint, data, wording
from hitree_training.best import Best
from hitree_training.checkpoint import Checkpoint
from hitree_training.evaluation.foils import Parts, opposites
from hitree_training.models.judge import Judge, JudgePreset
from hitree_training.pairs import token_batch
from hitree_training.progress import Budget
from hitree_training.segment_batches import Strokes, weights
from hitree_training.train_generator import schedule
from hitree_training.trained import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.annotations import Annotation, Step
    from hitree_training.data import Example
    from hitree_training.evaluation.foils import Foil

MIX = {"real": 0.4, "drawn": 0.4, "sampled": 0.2}
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
CLIP = 1.0  # norm of the gradient
PARTS = 2  # other parts that a segment is told from
ALIKE = 0.85  # cosine of two texts' token vectors from which they say the same
TRAITS = 1.0  # of the opposites' pairs in the loss


@dataclass(frozen=True)
class Options:
    """What ``hitree-train judge`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: JudgePreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 800
    batch: int = 48  # drawings
    seed: int = 7
    evaluate_every: int = 100  # steps; the checkpoint is written as often
    patience: int = 10  # evaluations without a better one, then it ends


@dataclass(frozen=True)
class Figures:
    """How often an annotated segment is nearer to its own instruction than to a wrong one."""

    loss: float
    trait: float  # the opposite trait
    part: float  # another part


@dataclass(frozen=True)
class Batch:
    """P steps of several drawings, and the texts that they are told from."""

    strokes: Tensor  # (n, 32, 4)
    spans: Tensor  # (P, 2) int64
    first: Tensor  # (P,) int64, the first stroke of each step's drawing
    texts: tuple[str, ...]  # U texts; the first P are the steps' own
    foils: Tensor  # (P, U) 1 where a text is a wrong one for this step alone
    traits: Tensor  # (K, 2) int64: step, and the text that says its opposite
    balance: Tensor  # (K,) weight of each


class Steps:
    """The annotated steps of a set of drawings."""

    def __init__(self, examples: Sequence[Example], parts: Parts, label: str) -> None:
        self.examples = examples
        self.strokes = Strokes(examples, label)
        self.weights = weights(examples, MIX)
        self._others = [
            [parts.others(e.subject, annotation, step) for _, annotation, step in _steps([e])]
            for e in track(examples, label, console=Console(stderr=True), transient=True)
        ]
        self._ways = Counter(
            (foil.trait, foil.way)
            for _, _, step in _steps(examples)
            for foil in opposites(step.text)
        )

    def batch(self, index: Tensor, generator: torch.Generator, *, augment: bool) -> Batch:
        """The steps of the drawings at ``index`` (B,)."""
        batch = self.strokes.batch(index, generator if augment else None)
        spans, first, own, foils = [], [], [], []
        for b, i in enumerate(index.tolist()):
            example, at = self.examples[i], int(batch.first[b])
            for (_, _, step), others in zip(_steps([example]), self._others[i], strict=True):
                spans.append((at + step.start, at + step.end))
                first.append(at)
                turn = wording.mirror if batch.mirrored[b] else str
                own.append(turn(step.text))
                picked = torch.randperm(len(others), generator=generator)[:PARTS].tolist()
                foils.append([*opposites(own[-1]), *(others[p] for p in picked)])
        return self._close(batch.strokes, spans, first, own, foils)

    def _close(
        self,
        strokes: Tensor,
        spans: list[tuple[int, int]],
        first: list[int],
        own: list[str],
        foils: list[list[Foil]],
    ) -> Batch:
        texts = list(own)
        traits, balance, mine = [], [], []
        for p, wrong in enumerate(foils):
            for foil in wrong:
                mine.append((p, len(texts)))
                if foil.kind == "trait":
                    traits.append((p, len(texts)))
                    balance.append(self._balance(foil))
                texts.append(foil.text)
        marks = torch.zeros(len(own), len(texts))
        marks[tuple(torch.tensor(mine).T)] = 1.0
        return Batch(
            strokes,
            torch.tensor(spans),
            torch.tensor(first),
            tuple(texts),
            marks,
            torch.tensor(traits).reshape(-1, 2),
            torch.tensor(balance),
        )

    def _balance(self, foil: Foil) -> float:
        """Small for the commoner way round."""
        there = self._ways[foil.trait, foil.way]
        total = sum(n for (trait, _), n in self._ways.items() if trait == foil.trait)
        return 0.25 * total / max(there, 1)


def _steps(examples: Sequence[Example]) -> list[tuple[Example, Annotation, Step]]:
    return [
        (example, example.annotation, step)
        for example in examples
        if example.annotation
        for step in example.annotation.steps
    ]


def train(options: Options) -> Checkpoint:
    """Train and return the last checkpoint, which is also written to ``options.out``."""
    torch.manual_seed(options.seed)
    examples = [e for e in data.load(options.folder) if e.annotation]
    held_out = data.load(options.folder, kinds=("real", "drawn"), splits=("valid",))
    parts = Parts(examples)
    steps = Steps(examples, parts, "reading annotated drawings")
    valid = Steps([e for e in held_out if e.annotation], parts, "reading held-out drawings")

    token_width = data.token_vectors().width
    model = Judge(options.preset, token_width=token_width)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, eps=1e-6
    )
    best = Best(options.patience)

    def snapshot() -> Checkpoint:
        made = Checkpoint(
            model="judge",
            preset=options.preset.model_dump(),
            weights=best.weights,
            progress=budget.fraction,
            step=budget.step,
            data_hash=hash_of_data,
            extras={"token_width": token_width, "seed": options.seed, "valid": best.figures},
        )
        checkpoint.save(options.out, made)
        return made

    hash_of_data = data.data_hash(examples)
    budget = Budget("judge", minutes=options.minutes, steps=options.steps)
    started = time.monotonic()
    with budget:
        for step in budget:
            generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * schedule(budget.fraction)
            model.train()
            index = torch.multinomial(steps.weights, options.batch, True, generator=generator)
            loss = objective(model, steps.batch(index, generator, augment=True))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, valid)
            best.offer(model, figures.loss, vars(figures))
            made = snapshot()
            budget.note(
                f"train {loss.item():.3f}  valid {figures.loss:.3f}  trait {figures.trait:.3f}  "
                f"part {figures.part:.3f}  {time.monotonic() - started:.0f} s"
            )
            if best.over:
                break
    return made


def load(path: Path) -> Judge:
    """The network of a checkpoint, ready to judge."""
    return cast("Judge", network(checkpoint.load(path, "judge")))


def objective(model: Judge, batch: Batch) -> Tensor:
    """The loss of a batch."""
    tokens, mask = token_batch(batch.texts)
    segments = model.segments(batch.strokes, batch.spans, batch.first)  # (P, D)
    near = model.sharpness.exp() * segments @ model.texts(tokens, mask).T  # (P, U)
    steps = len(segments)
    same = _alike(tokens, mask, steps)  # (P, P)
    others = torch.cat([~same, batch.foils[:, steps:] > 0], dim=1)  # (P, U) wrong ones
    others[:, :steps].fill_diagonal_(True)  # and the right one
    target = torch.arange(steps)
    by_segment = functional.cross_entropy(near.masked_fill(~others, -1e9), target)
    by_text = functional.cross_entropy(
        near[:, :steps].masked_fill(~others[:, :steps], -1e9).T, target
    )
    own = near.diagonal()[batch.traits[:, 0]]
    apart = functional.softplus(near[batch.traits[:, 0], batch.traits[:, 1]] - own)  # (K,)
    return by_segment + by_text + TRAITS * (apart * batch.balance).sum() / max(len(apart), 1)


def _alike(tokens: Tensor, mask: Tensor, steps: int) -> Tensor:
    """Which of the first ``steps`` texts say the same: (P, P) bool."""
    mean = (tokens[:steps] * mask[:steps, :, None]).sum(dim=1)
    mean = functional.normalize(mean, dim=-1)
    return mean @ mean.T > ALIKE


@torch.inference_mode()
def evaluate(model: Judge, steps: Steps, size: int = 48) -> Figures:
    """Figures over held-out drawings."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    losses = []
    right: dict[bool, list[float]] = {True: [], False: []}
    order = torch.randperm(len(steps.examples), generator=generator)
    for index in torch.split(order, size):
        batch = steps.batch(index, generator, augment=False)
        losses.append(float(objective(model, batch)))
        near = model.segments(batch.strokes, batch.spans, batch.first) @ (
            model.texts(*token_batch(batch.texts)).T
        )
        wins = (near.diagonal()[:, None] > near).float()  # (P, U)
        trait = torch.zeros_like(batch.foils)
        trait[batch.traits[:, 0], batch.traits[:, 1]] = 1.0
        right[True] += wins[trait > 0].tolist()
        right[False] += wins[(batch.foils > 0) & (trait == 0)].tolist()
    return Figures(
        float(np.mean(losses)), float(np.mean(right[True])), float(np.mean(right[False]))
    )
