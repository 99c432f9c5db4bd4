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
from hitree_training import checkpoint, data, instructions, wording
from hitree_training.best import Best
from hitree_training.checkpoint import Checkpoint
from hitree_training.describing import Describing, labels
from hitree_training.expanding import Expanding
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.progress import Budget
from hitree_training.trained import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.data import Example
    from hitree_training.instructions import Expansion

LEARNING_RATE = 2e-3
WARMUP = 0.04  # of the schedule
CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01
ROOT_WEIGHT = 0.5  # of sentences for whole drawings in the loss
RULE_WEIGHT = 0.3  # of texts made from part labels
PLAN_WEIGHT = 2.0  # of expansions, which have their turn less often
LEAF_WEIGHT = 0.2  # of "it is a leaf" beside them: easily learnt
WIDER = 4  # annotated drawings of a batch for one that has only part labels
PLAN_EVERY = 3  # steps; plans are long, so a large batch at times costs less than small ones always
MIN_COUNT = 2  # times that a word must occur to be learnt


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


@dataclass(frozen=True)
class Sets:
    """What is trained on, and what it is judged by."""

    subjects: list[str]
    data_hash: str  # of the annotated drawings
    vocabulary: Vocabulary
    annotated: Describing
    labelled: Describing | None  # drawings with part labels only; the built-in set has none
    plans: Expanding
    held_out: Describing
    held_out_plans: Expanding

    @classmethod
    def read(cls, options: Options) -> Sets:
        """Read them; the same again where a run goes on.

        Raises:
            DataError: nothing is annotated.
        """
        examples = data.load(options.folder, splits=("train",))
        noted = annotated_of(examples, options.folder, "train")
        labelled = [e for e in examples if labels(e) and not e.annotation]
        held_out = annotated(options.folder, ("real", "drawn"), "valid")
        trees = instructions.read_trees(options.trees) if options.trees else []
        vocabulary = vocabulary_of([*noted, *labelled], trees)
        return cls(
            subjects=sorted({e.subject for e in noted}),
            data_hash=data.data_hash(noted),
            vocabulary=vocabulary,
            annotated=Describing(noted, vocabulary, "reading annotated drawings"),
            labelled=Describing(labelled, vocabulary, "reading labels") if labelled else None,
            plans=Expanding(instructions.expansions(noted) + trees, vocabulary),
            held_out=Describing(held_out, vocabulary, "reading held-out drawings"),
            held_out_plans=Expanding(instructions.expansions(held_out), vocabulary),
        )

    def loss(self, model: Generator, batch: int, step: int, generator: torch.Generator) -> Tensor:
        """What is to be made small: the weighted losses of one random batch."""
        seen = self.annotated.losses(model, self.annotated.sample(batch, generator), generator)
        total = seen.step + ROOT_WEIGHT * seen.root + RULE_WEIGHT * seen.rule
        if self.labelled:
            wider = self.labelled.sample(batch // WIDER, generator)
            total = total + RULE_WEIGHT * self.labelled.losses(model, wider, generator).rule
        if step % PLAN_EVERY == 0:
            inner = self.plans.sample(batch, generator)
            leaves = self.plans.sample_leaves(batch // 2, generator)
            plan = self.plans.loss(model, inner, generator)
            plan = plan + LEAF_WEIGHT * self.plans.loss(model, leaves, generator)
            total = total + PLAN_WEIGHT * plan
        return total


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    before = checkpoint.load(options.out, "generator") if options.resume else None
    sets = Sets.read(options)
    torch.manual_seed(options.seed)
    model = untrained(options.preset, sets.vocabulary, sets.subjects)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY, eps=1e-6
    )
    best = Best.resumed(options.patience, before)
    if before:
        model.load_state_dict(before.resume["weights"])
        optimiser.load_state_dict(before.resume["optimiser"])

    def snapshot() -> Checkpoint:
        made = Checkpoint(
            model="generator",
            preset=options.preset.model_dump(),
            weights=best.weights,
            progress=budget.fraction,
            step=budget.step,
            data_hash=sets.data_hash,
            extras={
                "vocabulary": sets.vocabulary.to_json(),
                "token_width": data.token_vectors().width,
                "subjects": sets.subjects,
                "trees": options.trees.name if options.trees else "",
                "valid": best.figures,
            },
            resume={
                "weights": model.state_dict(),  # the last ones; the best are what is used
                "optimiser": optimiser.state_dict(),
                **best.resume(),
            },
        )
        checkpoint.save(options.out, made)
        return made

    budget = Budget(
        "planner" if options.trees else "generator",
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
            loss = sets.loss(model, options.batch, step, generator)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, sets.held_out, sets.held_out_plans)
            best.offer(model, figures.total, vars(figures))
            made = snapshot()
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


def load(path: Path) -> tuple[Generator, Vocabulary]:
    """The network of a checkpoint, ready to write, and its vocabulary."""
    found = checkpoint.load(path, "generator")
    vocabulary = Vocabulary.from_json(found.extras["vocabulary"])
    return cast("Generator", network(found)), vocabulary


def annotated(folder: Path | None, kinds: tuple[data.Kind, ...], split: str) -> list[Example]:
    """The annotated drawings of a split.

    Raises:
        DataError: there are none.
    """
    return annotated_of(data.load(folder, kinds=kinds, splits=(split,)), folder, split)


def annotated_of(examples: Sequence[Example], folder: Path | None, split: str) -> list[Example]:
    """Those of ``examples``, from a folder and split, that are annotated.

    Raises:
        DataError: there are none.
    """
    found = [e for e in examples if e.annotation]
    if not found:
        raise data.DataError(f"no {split} drawing in {folder or data.BUILTIN} is annotated")
    return found


def vocabulary_of(examples: Sequence[Example], trees: Sequence[Expansion]) -> Vocabulary:
    """The words of all texts and of their mirror images."""
    notes = [e.annotation for e in examples if e.annotation]
    texts = [text for note in notes for text in (note.root, *(step.text for step in note.steps))]
    texts += [step.text for e in examples for step in wording.compose(labels(e))]
    texts += [child for tree in trees for child in tree.children]
    return Vocabulary.of([*texts, *map(wording.mirror, texts)], MIN_COUNT)


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
