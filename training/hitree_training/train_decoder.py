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
from typing import TYPE_CHECKING, NamedTuple

import torch

from hitree.stroke5 import END, UP
from hitree_training import checkpoint, data, tree_file
from hitree_training.checkpoint import Checkpoint
from hitree_training.models.decoder import DecoderPreset, SketchDecoder
from hitree_training.models.decoder_loss import Matching, losses
from hitree_training.progress import Budget
from hitree_training.sequences import (
    NO_AUGMENTATION,
    Augmentation,
    Batch,
    Condition,
    Sequences,
)

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
    "real": 0.18,
    "sampled annotated": 0.17,
    "real annotated": 0.14,
    "drawn annotated": 0.36,
}
TURN = 0.5  # of the schedule is bulk; then the mix moves to the fine one

WARMUP = 0.03  # of the schedule
CLIP = 1.0  # norm of the gradient
SEGMENT_WEIGHT = 1.0  # of the segment's end in the loss
MATCHING_WEIGHT = 0.3  # of the matching loss, where it is asked for
MARGIN = 0.5  # of its triplets, between squared distances of unit vectors (0 to 4)


@dataclass(frozen=True)
class Options:
    """What ``hitree-train decoder`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: DecoderPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 2000
    batch: int = 64  # drawings
    seed: int = 0
    rate: float = 1.2e-3  # the highest learning rate
    resume: bool = False
    begin: Path | None = None  # a checkpoint to take the first weights from
    condition: Condition = "stack"  # what the decoder is told
    matching: bool = False  # the talk's matching loss beside the likelihood
    trees: Path | None = None  # inferred trees, for drawings that are not annotated
    without: frozenset[str] = frozenset()  # subjects that are held out
    save_every: float = 300.0  # seconds


@dataclass(frozen=True)
class Figures:
    """Mean negative log-likelihoods in nats, as DESIGN and the talk's code count them."""

    nll: float  # offsets and pen of all points but the placement, per point, scaled
    placement: float  # of the first row, per drawing
    segment: float  # of segment ends, per stroke end


class Scored(NamedTuple):
    """Negative log-likelihoods in nats, (B, T) each, zero where a row has no such term."""

    offset: Tensor  # of the offset in scaled units; the first row's is the placement
    pen: Tensor  # of the pen's flags
    segment: Tensor  # of the segment's end
    matching: Tensor  # () the matching loss; zero where it is not asked for


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    before = checkpoint.load(options.out, "decoder") if options.resume else None
    start = before or (checkpoint.load(options.begin, "decoder") if options.begin else None)
    torch.manual_seed(options.seed)
    examples = [e for e in data.load(options.folder) if e.subject not in options.without]
    inferred = tree_file.by_key(options.trees) if options.trees else {}
    train_set = Sequences(examples, options.condition, inferred)
    valid_sets = held_out(options)

    scale = start.extras["scale"] if start else train_set.scale()
    token_width = data.token_vectors().width
    model = SketchDecoder(options.preset, token_width=token_width, scale=scale)
    extra = Matching(options.preset, MARGIN) if options.matching else None
    parameters = [*model.parameters(), *(extra.parameters() if extra else ())]
    optimiser = torch.optim.Adam(parameters, lr=options.rate, eps=1e-6)
    # Seeded anew where a run goes on, so that it does not see the same batches again.
    generator = torch.Generator().manual_seed(options.seed + (before.step if before else 0))
    if start:
        model.load_state_dict(start.weights)
    if before:
        restore(before, optimiser, extra)

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
                "condition": options.condition,
                "matching": options.matching,
                "seed": options.seed,
                "valid": {kind: vars(evaluate(model, held)) for kind, held in valid_sets.items()},
            },
            resume={
                "optimiser": optimiser.state_dict(),
                "matching": extra.state_dict() if extra else {},
            },
        )
        checkpoint.save(options.out, made)
        return made

    hash_of_data = data.data_hash(examples)
    budget = Budget(
        "decoder",
        minutes=options.minutes,
        steps=options.steps,
        before=before,
    )
    batches = stream(train_set, budget, options.batch, generator)
    saved = time.monotonic()
    model.train()
    with budget:
        for step in budget:
            for group in optimiser.param_groups:
                group["lr"] = options.rate * schedule(budget.fraction)
            batch = next(batches)
            loss, per_point = objective(model, batch, extra)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimiser.step()
            if step % 50 == 0:
                budget.note(f"nll {per_point:.3f}")
            if time.monotonic() - saved > options.save_every:
                figures = snapshot().extras["valid"]
                budget.note("valid " + "  ".join(f"{k} {v['nll']:.3f}" for k, v in figures.items()))
                saved = time.monotonic()
    return snapshot()


def restore(before: Checkpoint, optimiser: torch.optim.Optimizer, extra: Matching | None) -> None:
    """Take up what a run needs beside its network, where it left off."""
    optimiser.load_state_dict(before.resume["optimiser"])
    if extra:
        extra.load_state_dict(before.resume["matching"])


def held_out(options: Options) -> dict[str, Sequences]:
    """The real and the drawn drawings held out, apart; kinds that a folder lacks are left out."""
    examples = data.load(options.folder, kinds=("real", "drawn"), splits=("valid",))
    examples = [example for example in examples if example.subject not in options.without]
    kinds = sorted({example.kind for example in examples})
    return {
        kind: Sequences([e for e in examples if e.kind == kind], options.condition)
        for kind in kinds
    }


def schedule(fraction: float) -> float:
    """The share of the learning rate: up shortly, then a little faster than linearly down."""
    fall = 0.01 + 0.99 * math.pow(1 - fraction, 1.2)
    return min(1.0, fraction / WARMUP) * fall


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


def score(model: SketchDecoder, batch: Batch, extra: Matching | None = None) -> Scored:
    """What a batch's rows cost."""
    encoded = model.encode(batch.stacks, batch.stack_mask, batch.subject)  # (S, C)
    condition = encoded[batch.segment]  # (B, T, C)
    states, where = model.states(batch.rows, condition)
    head = model.predict(states, condition, where)
    found = losses(head, batch.rows, batch.segment_end, model.scale)
    return Scored(
        offset=found.offset * batch.valid * (1 - batch.rows[..., END]),
        pen=found.pen * batch.valid,
        segment=found.segment * batch.rows[..., UP],  # a segment ends where the pen is lifted
        matching=extra(states, encoded, batch.segment, batch.valid) if extra else torch.zeros(()),
    )


def objective(
    model: SketchDecoder, batch: Batch, extra: Matching | None = None
) -> tuple[Tensor, float]:
    """The loss of a batch, and the NLL per point for the log."""
    found = score(model, batch, extra)
    total = batch.valid.sum()
    drawing = (found.offset + found.pen).sum() / total
    loss = drawing + SEGMENT_WEIGHT * found.segment.sum() / total + MATCHING_WEIGHT * found.matching
    return loss, float(drawing.detach())


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
            found = score(model, batch)
            sums += torch.stack([
                (found.offset + found.pen)[:, 1:].sum(), batch.valid[:, 1:].sum(),
                found.offset[:, 0].sum(), found.segment.sum(), batch.rows[..., UP].sum(),
            ]).double()  # fmt: skip
    model.train(training)
    body, points, placement, segments, strokes = sums.tolist()
    return Figures(body / points, placement / len(sequences), segments / strokes)
