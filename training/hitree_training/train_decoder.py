"""Train the sketch decoder: ``hitree-train decoder``.

One schedule from bulk to fine: it begins on the bulk of sampled and real drawings and moves over to
annotated ones, which teach it to follow steps; the learning rate falls to zero along the way. The
position in the schedule is part of the checkpoint, so that a run can stop anywhere and go on.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch

from hitree_training import checkpoint, data
from hitree_training.checkpoint import Checkpoint
from hitree_training.models.decoder import DecoderPreset, SketchDecoder, losses
from hitree_training.progress import Budget
from hitree_training.sequences import NO_AUGMENTATION, Augmentation, Batch, Sequences

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

# Shares of a batch, at the beginning and at the end; groups that a data set lacks drop out.
BULK = {
    "sampled": 0.55,
    "real": 0.19,
    "sampled annotated": 0.1,
    "real annotated": 0.06,
    "drawn annotated": 0.1,
}
FINE = {
    "sampled": 0.15,
    "real": 0.13,
    "sampled annotated": 0.2,
    "real annotated": 0.12,
    "drawn annotated": 0.4,
}
TURN = 0.6  # of the schedule is bulk; then the mix moves to the fine one

LEARNING_RATE = 1.2e-3
WARMUP = 0.03  # of the schedule
CLIP = 1.0  # norm of the gradient
SEGMENT_WEIGHT = 1.0  # of the segment's end in the loss


@dataclass(frozen=True)
class Options:
    """What ``hitree-train decoder`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: DecoderPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 2000
    batch: int = 128
    seed: int = 0
    resume: bool = False
    save_every: float = 300.0  # seconds


@dataclass(frozen=True)
class Figures:
    """Mean negative log-likelihoods in nats, as DESIGN and the talk's code count them."""

    nll: float  # offsets and pen of all points but the placement, per point, scaled
    placement: float  # of the first row, per drawing
    segment: float  # of segment ends, per stroke end


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    before = checkpoint.load(options.out, "decoder") if options.resume else None
    torch.manual_seed(options.seed)
    examples = data.load(options.folder)
    train_set = Sequences(examples)
    valid_sets = held_out(options.folder, "valid")

    scale = before.extras["scale"] if before else train_set.scale()
    token_width = data.token_vectors().width
    model = SketchDecoder(options.preset, token_width=token_width, scale=scale)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-6)
    # Seeded anew where a run goes on, so that it does not see the same batches again.
    generator = torch.Generator().manual_seed(options.seed + (before.step if before else 0))
    if before:
        model.load_state_dict(before.weights)
        optimiser.load_state_dict(before.resume["optimiser"])

    def snapshot() -> Checkpoint:
        made = Checkpoint(
            model="decoder",
            preset=options.preset.model_dump(),
            weights=model.state_dict(),
            progress=budget.fraction,
            step=budget.step,
            data_hash=hash_of_data,
            extras={
                "scale": scale,
                "token_width": token_width,
                "subjects": sorted({e.subject for e in examples}),
                "valid": {kind: vars(evaluate(model, held)) for kind, held in valid_sets.items()},
            },
            resume={"optimiser": optimiser.state_dict()},
        )
        checkpoint.save(options.out, made)
        return made

    hash_of_data = data.data_hash(examples)
    budget = Budget(
        "decoder",
        minutes=options.minutes,
        steps=options.steps,
        step=before.step if before else 0,
        done=before.progress if before else 0.0,
    )
    batches = stream(train_set, budget, options.batch, generator)
    saved = time.monotonic()
    model.train()
    with budget:
        for step in budget:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(budget.fraction)
            batch = next(batches)
            loss, per_point = objective(model, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            if step % 50 == 0:
                budget.note(f"nll {per_point:.3f}")
            if time.monotonic() - saved > options.save_every:
                figures = snapshot().extras["valid"]
                budget.note("valid " + "  ".join(f"{k} {v['nll']:.3f}" for k, v in figures.items()))
                saved = time.monotonic()
    return snapshot()


def held_out(folder: Path | None, split: str) -> dict[str, Sequences]:
    """The real and the drawn drawings of a split, apart; kinds that a folder lacks are left out."""
    examples = data.load(folder, kinds=("real", "drawn"), splits=(split,))
    kinds = sorted({example.kind for example in examples})
    return {kind: Sequences([e for e in examples if e.kind == kind]) for kind in kinds}


def learning_rate(fraction: float) -> float:
    """Warm up, then fall a little faster than linearly to a hundredth."""
    fall = 0.01 + 0.99 * math.pow(1 - fraction, 1.2)
    return LEARNING_RATE * min(1.0, fraction / WARMUP) * fall


def stream(
    sequences: Sequences, budget: Budget, size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Batches without end, drawn by the mix that the budget's position calls for."""

    def pools() -> Iterator[Iterator[Batch]]:
        while True:
            late = max(0.0, budget.fraction - TURN) / (1 - TURN)
            mix = {name: BULK[name] + late * (FINE[name] - BULK[name]) for name in BULK}
            yield sequences.sample(sequences.weights(mix), size, generator, Augmentation())

    return chain.from_iterable(pools())


def objective(model: SketchDecoder, batch: Batch) -> tuple[Tensor, float]:
    """The loss of a batch, and the NLL per point for the log."""
    encoded = model.encode(batch.stacks, batch.stack_mask, batch.subject)  # (S, C)
    head = model(batch.rows, encoded[batch.segment])
    found = losses(head, batch.rows, batch.segment_end, model.scale)
    moves = batch.valid * (1 - batch.rows[..., 4])
    lifts = batch.rows[..., 3]
    drawing = (found.offset * moves).sum() + (found.pen * batch.valid).sum()
    segments = (found.segment * lifts).sum()
    total = batch.valid.sum()
    return (drawing + SEGMENT_WEIGHT * segments) / total, float(drawing.detach() / total)


def evaluate(model: SketchDecoder, sequences: Sequences, size: int = 64) -> Figures:
    """Figures over a set, without augmentation; the views are chosen by a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    order = sequences.lengths.argsort()
    sums = torch.zeros(5, dtype=torch.float64)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for index in torch.split(order, size):
            batch = sequences.batch(index, generator, NO_AUGMENTATION)
            encoded = model.encode(batch.stacks, batch.stack_mask, batch.subject)
            head = model(batch.rows, encoded[batch.segment])
            found = losses(head, batch.rows, batch.segment_end, model.scale)
            moves = batch.valid * (1 - batch.rows[..., 4])
            lifts = batch.rows[..., 3]
            body = (found.offset * moves)[:, 1:].sum() + (found.pen * batch.valid)[:, 1:].sum()
            sums += torch.stack([
                body, batch.valid[:, 1:].sum(), found.offset[:, 0].sum(),
                (found.segment * lifts).sum(), lifts.sum(),
            ]).double()  # fmt: skip
    model.train(training)
    body, points, placement, segments, strokes = sums.tolist()
    return Figures(body / points, placement / len(sequences), segments / strokes)
