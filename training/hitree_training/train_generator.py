"""Train the instruction generator: ``hitree-train generator``, and ``planner``.

Both of its modes at once, since they share the text decoder: describing segments of drawings, and
expanding instructions into the steps below them. Drawings with part labels only, which nobody
annotated, widen what is described; inferred trees (``planner``) widen what is expanded. What is
kept is the network that wrote the held-out annotations best.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from hitree.text import Vocabulary
from hitree_training import checkpoint, data
from hitree_training.best import Best
from hitree_training.checkpoint import CheckpointError
from hitree_training.generator_sets import ROOT_WEIGHT, Sets
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.progress import Budget, seeded
from hitree_training.trained import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.checkpoint import Checkpoint
    from hitree_training.describing import Describing
    from hitree_training.expanding import Expanding

LEARNING_RATE = 2e-3
WARMUP = 0.04  # of the schedule
CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Options:
    """What ``hitree-train generator`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: GeneratorPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 3000
    batch: int = 20  # annotated drawings to describe, and expansions, when their turn comes
    seed: int = 0
    rate: float = LEARNING_RATE
    resume: bool = False
    trees: Path | None = None  # inferred trees, for ``planner``
    text_from: Path | None = None  # a generator whose text decoder and plan mode are begun with
    evaluate_every: int = 200  # steps; the checkpoint is written as often
    patience: int = 8  # evaluations without a better one, then it ends


@dataclass(frozen=True)
class Figures:
    """Mean negative log-likelihood of a word, in nats."""

    describe: float  # of annotated steps, from their strokes
    root: float  # of sentences for whole drawings, from their strokes
    expand: float  # of the steps of a root, from the root

    @property
    def total(self) -> float:
        """What early stopping goes by."""
        return self.describe + ROOT_WEIGHT * self.root + self.expand


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    before = checkpoint.load(options.out, "generator") if options.resume else None
    sets = Sets.read(options.folder, options.trees)
    torch.manual_seed(options.seed)
    model = untrained(options.preset, sets.vocabulary, sets.subjects)
    if options.text_from:
        borrow(model, sets.vocabulary, options.text_from)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY, eps=1e-6
    )
    best = Best.resumed(options.patience, before, model, optimiser)
    extras = {
        "vocabulary": sets.vocabulary.to_json(),
        "token_width": data.token_vectors().width,
        "subjects": sets.subjects,
        "trees": options.trees.name if options.trees else "",
    }
    budget = Budget(
        "planner" if options.trees else "generator",
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
            loss = sets.loss(model, options.batch, step, generator)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, sets.held_out, sets.held_out_plans)
            best.offer(model, figures.total, vars(figures))
            made = best.checkpoint(
                "generator",
                options.preset,
                model,
                optimiser,
                budget,
                data_hash=sets.data_hash,
                extras=extras,
            )
            checkpoint.save(options.out, made)
            budget.note(
                f"train {loss.item():.3f}  valid {figures.describe:.3f} {figures.root:.3f} "
                f"{figures.expand:.3f}  {time.monotonic() - started:.0f} s"
            )
            if best.over:
                break
    return made


def schedule(fraction: float) -> float:
    """The share of the learning rate at a position of the schedule: up shortly, then down."""
    return min(1.0, fraction / WARMUP) * (1 - fraction)


def untrained(
    preset: GeneratorPreset, vocabulary: Vocabulary, subjects: Sequence[str]
) -> Generator:
    """A network whose words begin as their static token vectors.

    So rare words begin near their kin. A memory begins with the subjects in their places.
    """
    vectors = data.token_vectors()
    model = Generator(
        preset, token_width=vectors.width, vocabulary=len(vocabulary), subjects=len(subjects)
    )
    table = np.stack([vectors.sentence(word) for word in vocabulary.entries])
    with torch.no_grad():
        model.words.weight.mul_(0.1)
        model.words.weight[Vocabulary.FIRST :] = torch.from_numpy(table)
    if model.memory:
        names = np.stack([vectors.sentence(subject) for subject in subjects])
        model.memory.subjects.copy_(torch.from_numpy(names))
    return model


def borrow(model: Generator, vocabulary: Vocabulary, path: Path) -> None:
    """Begin with the text decoder and the plan mode of another generator.

    So variants can be compared by how they read segments alone, in little time.

    Raises:
        CheckpointError: there is no such generator, or it is of other widths.
    """
    other, known = load(path)
    rows = torch.tensor(
        [(vocabulary.ids[w], i) for w, i in known.ids.items() if w in vocabulary.ids]
    )
    special = torch.arange(Vocabulary.FIRST).unsqueeze(1).expand(-1, 2)
    ours, theirs = torch.cat([special, rows]).unbind(dim=1)
    try:
        for part in ("text_encoder", "expand_context", "gru", "to_word"):
            getattr(model, part).load_state_dict(getattr(other, part).state_dict())
        with torch.no_grad():
            model.words.weight[ours] = other.words.weight[theirs]
            model.bias[ours] = other.bias[theirs]
    except RuntimeError as exc:
        raise CheckpointError(f"{path} is a generator of other widths: {exc}") from exc


def load(path: Path) -> tuple[Generator, Vocabulary]:
    """The network of a checkpoint, ready to write, and its vocabulary."""
    found = checkpoint.load(path, "generator")
    vocabulary = Vocabulary.from_json(found.extras["vocabulary"])
    return cast("Generator", network(found)), vocabulary


@torch.inference_mode()
def evaluate(model: Generator, drawings: Describing, plans: Expanding, size: int = 64) -> Figures:
    """Figures over held-out drawings, as annotated."""
    model.eval()
    parts = torch.split(torch.arange(len(drawings.annotated)), size)
    seen = [drawings.losses(model, part, None) for part in parts]
    roots = torch.split(plans.inner.nonzero()[:, 0], size)
    expanded = [plans.loss(model, part, None) for part in roots]
    return Figures(
        describe=_average([one.step for one in seen], parts),
        root=_average([one.root for one in seen], parts),
        expand=_average(expanded, roots),
    )


def _average(values: Sequence[Tensor], parts: Sequence[Tensor]) -> float:
    """The mean of what batches give, by their sizes: the last one may be small."""
    return float(np.average([float(v) for v in values], weights=[len(part) for part in parts]))
