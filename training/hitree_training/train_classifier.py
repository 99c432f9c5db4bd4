"""Train the classifier: ``hitree-train classifier``.

Real, drawn and sampled drawings of the train splits; nothing that a decoder of ours drew. Subjects
are seen equally often. Within a subject the kinds weigh by their worth and by the root of their
number, so that a handful of real drawings is seen more often than its share, and yet is not learnt
by heart. What is kept is the network with the lowest calibrated loss on held-out drawings, all
kinds and all subjects weighing alike.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional

from hitree_training import checkpoint, data
from hitree_training.best import Best
from hitree_training.ink import Augmentation, Ink
from hitree_training.models.classifier import Classifier, ClassifierPreset, classify, pictures
from hitree_training.progress import Budget, seeded
from hitree_training.trained import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.checkpoint import Checkpoint
    from hitree_training.data import Example

WORTH = {"real": 2.0, "drawn": 1.0, "sampled": 1.0}  # of a kind, beside the root of its number

LEARNING_RATE = 4e-3
WARMUP = 0.05  # share of the schedule
WEIGHT_DECAY = 0.02
SMOOTHING = 0.05  # share of the target that goes to all subjects alike
TEMPERATURES = torch.logspace(-1, 1, 81)  # that are tried


@dataclass(frozen=True)
class Options:
    """What ``hitree-train classifier`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: ClassifierPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 6000
    batch: int = 128
    seed: int = 0
    rate: float = LEARNING_RATE
    resume: bool = False
    evaluate_every: int = 500  # steps; the checkpoint is written as often


@dataclass(frozen=True)
class Figures:
    """How well held-out drawings are told apart."""

    loss: float  # calibrated, mean over kinds of the mean over subjects
    temperature: float  # that the logits were divided by for that
    accuracy: dict[str, float]  # by kind: mean over subjects of the share that is told


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    torch.manual_seed(options.seed)
    examples = data.load(options.folder)
    held_out = data.load(options.folder, splits=("valid",))
    before = checkpoint.load(options.out, "classifier") if options.resume else None

    subjects = sorted({e.subject for e in examples})
    size = options.preset.size
    ink = Ink(examples, size, "reading drawings")
    truth = torch.tensor([subjects.index(e.subject) for e in examples])
    weight = weights(examples)
    valid = HeldOut([e for e in held_out if e.subject in subjects], subjects, size)

    model = Classifier(options.preset, subjects=len(subjects))
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY)
    best = Best.resumed(0, before, model, optimiser)
    data_hash = data.data_hash(examples)
    extras = {"subjects": subjects}
    budget = Budget(
        "classifier",
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
            index = torch.multinomial(weight, options.batch, replacement=True, generator=generator)
            images = ink.images(index, generator, Augmentation())
            # Separable convolutions are a third faster with channels last.
            logits = model(images.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, truth[index], label_smoothing=SMOOTHING)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, valid)
            model.temperature.fill_(figures.temperature)  # of what is kept
            best.offer(model, figures.loss, vars(figures))
            model.temperature.fill_(1.0)
            made = best.checkpoint(
                "classifier",
                options.preset,
                model,
                optimiser,
                budget,
                data_hash=data_hash,
                extras=extras,
            )
            checkpoint.save(options.out, made)
            told = "  ".join(f"{kind} {share:.3f}" for kind, share in figures.accuracy.items())
            budget.note(
                f"train {loss.item():.3f}  valid {figures.loss:.3f}  {told}  "
                f"{time.monotonic() - started:.0f} s"
            )
    return made


def load(path: Path) -> tuple[Classifier, tuple[str, ...]]:
    """The network of a checkpoint, ready to classify, and the subjects of its logits."""
    found = checkpoint.load(path, "classifier")
    return cast("Classifier", network(found)), tuple(found.extras["subjects"])


def schedule(fraction: float) -> float:
    """The share of the learning rate at a position of the schedule: up shortly, then a cosine."""
    return min(1.0, fraction / WARMUP) * (1 + math.cos(math.pi * fraction)) / 2


def weights(examples: Sequence[Example]) -> Tensor:
    """How often each drawing is seen, relative to others: (N,) float64."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault((example.subject, example.kind), []).append(index)
    total = dict.fromkeys((subject for subject, _ in groups), 0.0)
    for (subject, kind), members in groups.items():
        total[subject] += WORTH[kind] * len(members) ** 0.5
    found = torch.zeros(len(examples), dtype=torch.float64)
    for (subject, kind), members in groups.items():
        found[members] = WORTH[kind] * len(members) ** -0.5 / total[subject]
    return found


class HeldOut:
    """Held-out drawings as pictures, with what each weighs in the figures."""

    def __init__(self, examples: Sequence[Example], subjects: Sequence[str], size: int) -> None:
        self.images = pictures([e.drawing for e in examples], size)  # (N, 1, G, G)
        self.truth = torch.tensor([subjects.index(e.subject) for e in examples])
        self.kinds: dict[str, Tensor] = {
            kind: torch.tensor([e.kind == kind for e in examples])  # (N,) bool
            for kind in sorted({e.kind for e in examples})
        }

    def mean(self, values: Tensor, kind: str) -> Tensor:
        """The mean over a kind's subjects of the mean over their drawings of (N, …): (…)."""
        own = self.kinds[kind]
        found = [values[own & (self.truth == s)].mean(dim=0) for s in torch.unique(self.truth[own])]
        return torch.stack(found).mean(dim=0)


@torch.inference_mode()
def evaluate(model: Classifier, valid: HeldOut) -> Figures:
    """Measure a network whose temperature is 1, and find the temperature that fits it best."""
    logits = classify(model.eval(), valid.images)  # (N, subjects)
    right = (logits.argmax(dim=1) == valid.truth).float()
    losses = [
        functional.cross_entropy(logits / t, valid.truth, reduction="none") for t in TEMPERATURES
    ]
    by_temperature = torch.stack(losses, dim=1)  # (N, temperatures)
    mean = torch.stack([valid.mean(by_temperature, kind) for kind in valid.kinds]).mean(dim=0)
    least = int(mean.argmin())
    accuracy = {kind: float(valid.mean(right, kind)) for kind in valid.kinds}
    return Figures(float(mean[least]), float(TEMPERATURES[least]), accuracy)
