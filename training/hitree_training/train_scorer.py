"""Train the tree scorer: ``hitree-train scorer``.

The talk's triplet loss, in both directions: a segment must lie nearer to its own instruction than
to its neighbours' and to those of other drawings, and an instruction nearer to its own segment
than to neighbours and to spans that are a stroke too long or too short. Drawings without
annotations learn "draw a {subject}", which is how the subject of a drawing is told. What is kept
is the network with the lowest loss on held-out drawings.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from hitree_training import checkpoint, data, wording
from hitree_training.best import Best
from hitree_training.checkpoint import Checkpoint
from hitree_training.models.scorer import Scorer, ScorerPreset
from hitree_training.pairs import PairBatch, Pairs, token_batch
from hitree_training.progress import Budget
from hitree_training.train_generator import schedule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.data import Example

STEP_MIX = {"real": 0.4, "drawn": 0.35, "sampled": 0.25}  # of annotated drawings
BULK_MIX = {"real": 0.5, "drawn": 0.1, "sampled": 0.4}  # of drawings that only have a subject
BULK = 400  # drawings of a subject and kind that are read for their subject alone

LEARNING_RATE = 2e-3
CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01
MARGIN = 0.4  # alpha, between squared distances of unit vectors (0 to 4)
HARDNESS = 10.0  # a negative that is nearer by a cosine of 0.1 weighs e times as much
ALIKE = 0.85  # cosine of two texts' token vectors from which they say the same


@dataclass(frozen=True)
class Options:
    """What ``hitree-train scorer`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: ScorerPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 3000
    batch: int = 32  # annotated drawings
    bulk: int = 96  # drawings that only have a subject
    seed: int = 0
    rate: float = LEARNING_RATE
    resume: bool = False
    evaluate_every: int = 200  # steps; the checkpoint is written as often
    patience: int = 8  # evaluations without a better one, then it ends


@dataclass(frozen=True)
class Figures:
    """How well held-out pairs are told apart."""

    loss: float  # of the triplets
    step: float  # share of segments whose own step fits best among their drawing's steps
    subject: float  # share of drawings whose subject is told


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    torch.manual_seed(options.seed)
    examples = data.load(options.folder)
    held_out = data.load(options.folder, kinds=("real", "drawn"), splits=("valid",))
    before = checkpoint.load(options.out, "scorer") if options.resume else None

    steps = Pairs([e for e in examples if e.annotation], STEP_MIX, "reading annotated drawings")
    bulk = Pairs(without_annotation(examples), BULK_MIX, "reading drawings")
    valid = Pairs([e for e in held_out if e.annotation], STEP_MIX, "reading held-out drawings")
    subjects = sorted({e.subject for e in examples})

    token_width = data.token_vectors().width
    model = Scorer(options.preset, token_width=token_width)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY, eps=1e-6
    )
    best = Best.resumed(options.patience, before)
    if before:
        model.load_state_dict(before.resume["weights"])
        optimiser.load_state_dict(before.resume["optimiser"])

    def snapshot() -> Checkpoint:
        made = Checkpoint(
            model="scorer",
            preset=options.preset.model_dump(),
            weights=best.weights,
            progress=budget.fraction,
            step=budget.step,
            data_hash=hash_of_data,
            extras={"token_width": token_width, "subjects": subjects, "valid": best.figures},
            resume={
                "weights": model.state_dict(),  # the last ones; the best are what is used
                "optimiser": optimiser.state_dict(),
                **best.resume(),
            },
        )
        checkpoint.save(options.out, made)
        return made

    hash_of_data = data.data_hash(examples)
    budget = Budget(
        "scorer",
        minutes=options.minutes,
        steps=options.steps,
        step=before.step if before else 0,
        done=before.progress if before else 0.0,
    )
    started = time.monotonic()
    with budget:
        for step in budget:
            # Seeded step by step, so that a run that goes on makes the very same batches.
            generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
            torch.manual_seed(options.seed * 1_000_003 + step)  # dropout
            for group in optimiser.param_groups:
                group["lr"] = options.rate * schedule(budget.fraction)
            model.train()
            some = steps.sample(options.batch, generator)
            others = bulk.sample(options.bulk, generator)
            told = triplets(model, steps.batch(some, generator, augment=True))
            named = triplets(model, bulk.batch(others, generator, augment=True))
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(told + named)
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, valid, subjects)
            best.offer(model, figures.loss, vars(figures))
            made = snapshot()
            budget.note(
                f"train {told.item():.3f} {named.item():.3f}  valid {figures.loss:.3f}  "
                f"step {figures.step:.3f}  subject {figures.subject:.3f}  "
                f"{time.monotonic() - started:.0f} s"
            )
            if best.over:
                break
    return made


def load(path: Path) -> Scorer:
    """The network of a checkpoint, ready to score."""
    found = checkpoint.load(path, "scorer")
    model = Scorer(ScorerPreset(**found.preset), token_width=found.extras["token_width"])
    model.load_state_dict(found.weights)
    return model.eval()


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


def triplets(model: Scorer, batch: PairBatch) -> Tensor:
    """The loss ``[|h - x+|^2 - |h - x-|^2 + alpha]_+``, averaged over pairs.

    Of a pair's triplets the harder ones weigh more (`HARDNESS`); those within its drawing and
    those across drawings are averaged apart and added, since the former are few.
    """
    tokens, mask = token_batch(batch.texts)
    segments = model.segments(batch.strokes, batch.spans, batch.bounds)  # (P + Q, D)
    texts = functional.normalize(batch.bags @ model.texts(tokens, mask), dim=-1)  # (P, D)
    near = texts @ segments.T  # (P, P + Q) cosines; of unit vectors, |h - x|^2 = 2 - 2 cos
    own = near.diagonal()  # (P,)
    within, across = _differ(batch, tokens, mask)  # (P, P + Q)
    by_segment = near[:, : len(own)].T  # (P, P)
    return (
        _hinge(near, own, within)  # wrong segments for a text
        + _hinge(near, own, across)
        + _hinge(by_segment, own, within[:, : len(own)])  # wrong texts for a segment
        + _hinge(by_segment, own, across[:, : len(own)])  # who differs is symmetric
    )


def _differ(batch: PairBatch, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """1 where a pair's text must not fit a span, (P, P + Q): of one drawing, across drawings.

    Within a drawing that is every other span. Across drawings, whole ones differ by their subject
    and parts by what their texts say.
    """
    pairs = len(batch.bags)
    same_drawing = batch.drawing[:pairs, None] == batch.drawing  # (P, P + Q)
    same_span = (batch.spans[:pairs, None] == batch.spans).all(dim=-1)  # strokes lie end to end
    mean = batch.bags @ (tokens * mask[..., None]).sum(dim=1)  # (P, E)
    mean = functional.normalize(mean, dim=-1)
    both_whole = batch.whole[:, None] & batch.whole
    same_subject = batch.subject[:, None] == batch.subject
    same = torch.where(both_whole, same_subject, mean @ mean.T > ALIKE)  # (P, P)
    # A bent span belongs to no text: it is a wrong answer in its own drawing only.
    same = functional.pad(same, (0, len(batch.spans) - pairs), value=True)
    return (same_drawing & ~same_span).float(), (~same_drawing & ~same).float()


def _hinge(near: Tensor, own: Tensor, wrong: Tensor) -> Tensor:
    """The triplets of cosines (P, N) with wrong answers and (P,) with the right one."""
    weight = wrong * torch.exp(HARDNESS * near.detach())
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    losses = functional.relu(2 * (near - own[:, None]) + MARGIN)
    some = wrong.amax(dim=1).sum().clamp(min=1.0)  # a drawing of one step has no neighbours
    return (losses * weight).sum() / some


@torch.inference_mode()
def evaluate(model: Scorer, pairs: Pairs, subjects: Sequence[str], size: int = 64) -> Figures:
    """Figures over held-out drawings, as annotated."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(pairs.examples), generator=generator)
    losses, right, steps, named = [], 0, 0, 0
    plain = model.texts(*token_batch([wording.root(subject) for subject in subjects]))
    for index in torch.split(order, size):
        batch = pairs.batch(index, generator, augment=False)
        losses.append(float(triplets(model, batch)))
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
    return Figures(sum(losses) / len(losses), right / max(steps, 1), named / len(order))
