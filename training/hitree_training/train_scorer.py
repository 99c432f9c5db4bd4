"""Train the tree scorer: ``hitree-train scorer``.

The talk's triplet loss, in both directions: a segment must lie nearer to its own instruction than
to its neighbours' and to those of other drawings, and an instruction nearer to its own segment
than to neighbours and to spans that are a stroke too long or too short. Drawings without
annotations learn "draw a {subject}", so that texts for whole drawings can be ranked. Beside that,
unity learns which spans of annotated drawings are steps. What is kept is the network that is best
at both on held-out drawings.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from hitree_training import checkpoint, data, step_spans, triplets, wording
from hitree_training.best import Best
from hitree_training.models.scorer import Scorer, ScorerPreset
from hitree_training.pairs import Pairs, token_batch
from hitree_training.progress import Budget, seeded
from hitree_training.step_spans import StepSpans
from hitree_training.train_generator import schedule
from hitree_training.trained import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.checkpoint import Checkpoint
    from hitree_training.data import Example

STEP_MIX = {"real": 0.4, "drawn": 0.35, "sampled": 0.25}  # of annotated drawings
BULK_MIX = {"real": 0.5, "drawn": 0.1, "sampled": 0.4}  # of drawings that only have a subject
BULK = 400  # drawings of a subject and kind that are read for their subject alone

LEARNING_RATE = 2e-3
CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Options:
    """What ``hitree-train scorer`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: ScorerPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 3000
    batch: int = 32  # annotated drawings, for the triplets
    bulk: int = 64  # drawings that only have a subject
    unity: int = 48  # annotated drawings of which all spans are judged
    seed: int = 0
    rate: float = LEARNING_RATE
    resume: bool = False
    towers: Path | None = None  # a scorer whose towers are kept: unity alone is trained
    evaluate_every: int = 200  # steps; the checkpoint is written as often
    patience: int = 8  # evaluations without a better one, then it ends


@dataclass(frozen=True)
class Figures:
    """How well held-out pairs are told apart."""

    triplets: float  # loss
    unity: float  # loss
    f1: float  # of the brackets of trees that unity alone makes
    step: float  # share of segments whose own step fits best among their drawing's steps
    subject: float  # share of drawings whose subject is told

    @property
    def loss(self) -> float:
        """What early stopping goes by: unity's own loss rises long before its trees get worse."""
        return self.triplets + 1 - self.f1


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    torch.manual_seed(options.seed)
    examples = data.load(options.folder)
    held_out = data.load(options.folder, kinds=("real", "drawn"), splits=("valid",))
    before = checkpoint.load(options.out, "scorer") if options.resume else None

    material = Material.read(examples, only_unity=options.towers is not None)
    valid = Pairs([e for e in held_out if e.annotation], STEP_MIX, "reading held-out drawings")
    valid_spans = StepSpans(valid.examples, STEP_MIX, "reading their spans")
    subjects = sorted({e.subject for e in examples})

    token_width = data.token_vectors().width
    model = begin(options, token_width)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY, eps=1e-6
    )
    best = Best.resumed(options.patience, before, model, optimiser)
    data_hash = data.data_hash(examples)
    extras = {"token_width": token_width, "subjects": subjects}
    budget = Budget(
        "scorer",
        minutes=options.minutes,
        steps=options.steps,
        before=before,
    )
    started = time.monotonic()
    with budget:
        for step in budget:
            generator = seeded(options.seed, step)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * schedule(budget.fraction)
            model.train()
            losses = material.losses(model, options, generator)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(losses).sum())
            for part in model.children():  # one by one, so that none takes the others' share
                torch.nn.utils.clip_grad_norm_(part.parameters(), CLIP)
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, valid, valid_spans, subjects)
            best.offer(model, figures.loss, vars(figures))
            made = best.checkpoint(
                "scorer",
                options.preset,
                model,
                optimiser,
                budget,
                data_hash=data_hash,
                extras=extras,
            )
            checkpoint.save(options.out, made)
            budget.note(
                f"train {' '.join(f'{loss.item():.3f}' for loss in losses)}  "
                f"valid {figures.unity:.3f} {figures.triplets:.3f}  f1 {figures.f1:.3f}  "
                f"step {figures.step:.3f}  subject {figures.subject:.3f}  "
                f"{time.monotonic() - started:.0f} s"
            )
            if best.over:
                break
    return made


@dataclass(frozen=True)
class Material:
    """What is learnt from."""

    spans: StepSpans  # of annotated drawings
    steps: Pairs | None  # of the same; None: the towers are kept
    bulk: Pairs | None  # of drawings whose subject alone is known

    @classmethod
    def read(cls, examples: Sequence[Example], *, only_unity: bool) -> Self:
        """Read drawings."""
        noted = [example for example in examples if example.annotation]
        spans = StepSpans(noted, STEP_MIX, "reading spans")
        if only_unity:
            return cls(spans, None, None)
        steps = Pairs(noted, STEP_MIX, "reading annotated drawings")
        return cls(spans, steps, Pairs(without_annotation(examples), BULK_MIX, "reading drawings"))

    def losses(self, model: Scorer, options: Options, generator: torch.Generator) -> list[Tensor]:
        """Of unity, and of the triplets of annotated drawings and of others."""
        some = self.spans.sample(options.unity, generator)
        found = [step_spans.loss(model, self.spans.batch(some, generator))]
        for pairs, size in ((self.steps, options.batch), (self.bulk, options.bulk)):
            if pairs:
                batch = pairs.batch(pairs.sample(size, generator), generator, augment=True)
                found.append(triplets.loss(model, batch))
        return found


def load(path: Path) -> Scorer:
    """The network of a checkpoint, ready to score."""
    model = network(checkpoint.load(path, "scorer"))
    assert isinstance(model, Scorer)
    return model


def begin(options: Options, token_width: int) -> Scorer:
    """A new network; its towers may be taken from a checkpoint, and are then left as they are."""
    model = Scorer(options.preset, token_width=token_width)
    if options.towers:
        kept = checkpoint.load(options.towers, "scorer").weights
        own = {name for name in model.state_dict() if not name.startswith("steps.")}
        model.load_state_dict({name: kept[name] for name in own}, strict=False)
        model.requires_grad_(requires_grad=False)
        model.steps.requires_grad_()
    return model


def without_annotation(examples: Sequence[Example]) -> list[Example]:
    """The first `BULK` drawings of each kind and subject, annotations set aside."""
    taken: Counter[tuple[str, str]] = Counter()
    found = []
    for example in examples:
        group = (example.kind, example.subject)
        if taken[group] < BULK:
            taken[group] += 1
            found.append(bare(example))
    return found


def bare(example: Example) -> Example:
    """The same drawing, of which only the subject is known."""
    return type(example)(**{**vars(example), "annotation": None})


@torch.inference_mode()
def evaluate(
    model: Scorer, pairs: Pairs, spans: StepSpans, subjects: Sequence[str], size: int = 64
) -> Figures:
    """Figures over held-out drawings, as annotated."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(pairs.examples), generator=generator)
    losses, unities, right, steps, named = [], [], 0, 0, 0
    plain = model.texts(*token_batch([wording.root(subject) for subject in subjects]))
    for index in torch.split(order, size):
        batch = pairs.batch(index, generator, augment=False)
        losses.append(float(triplets.loss(model, batch)))
        unities.append(float(step_spans.loss(model, spans.batch(index, None))))
        segments = model.segments(batch.strokes, batch.spans, batch.bounds)
        texts = batch.bags @ model.texts(*token_batch(batch.texts))
        single = ~batch.whole & (batch.bags.sum(dim=1) == 1)  # one step each
        found = segments[: len(single)][single] @ texts[single].T  # (Z, Z)
        which = batch.drawing[: len(single)][single]
        found = found.masked_fill(which[:, None] != which, -torch.inf)
        right += int((found.argmax(dim=1) == torch.arange(len(found))).sum())
        steps += len(found)
        first = torch.tensor([int((batch.drawing == b).nonzero()[0]) for b in range(len(index))])
        guess = (segments[first] @ plain.T).argmax(dim=1).tolist()  # a drawing's first is whole
        named += sum(
            subjects[g] == pairs.examples[i].subject
            for g, i in zip(guess, index.tolist(), strict=True)
        )
    return Figures(
        sum(losses) / len(losses),
        sum(unities) / len(unities),
        step_spans.f1(model, spans),
        right / max(steps, 1),
        named / len(order),
    )
