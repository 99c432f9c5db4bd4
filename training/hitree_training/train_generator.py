"""Train the instruction generator: ``hitree-train generator``, and ``planner``.

Both of its modes at once, since they share the text decoder: describing the annotated steps of
drawings, and expanding instructions into the steps below them. With inferred trees (``planner``)
there are more expansions to learn from; nothing else differs. What is kept is the network that
wrote the held-out annotations best.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from hitree.text import Vocabulary
from hitree_training import checkpoint, data, instructions, wording
from hitree_training.best import Best
from hitree_training.checkpoint import Checkpoint
from hitree_training.instructions import Expansion, listing, sentence
from hitree_training.models.generator import Generator, GeneratorPreset
from hitree_training.progress import Budget
from hitree_training.segment_batches import Strokes, subject_vectors, weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from hitree_training.data import Example

DESCRIBE_MIX = {"real": 0.45, "drawn": 0.35, "sampled": 0.2}
EXPAND_MIX = {"real": 0.25, "drawn": 0.5, "sampled": 0.25}  # drawn ones have the clearest steps

LEARNING_RATE = 2e-3
WARMUP = 0.04  # of the schedule
CLIP = 1.0  # norm of the gradient
WEIGHT_DECAY = 0.01
LEAF_WEIGHT = 0.2  # of "it is a leaf" in the loss: easily learnt
MIN_COUNT = 2  # times that a word must occur to be learnt
LEVELS = 4  # of a stack that are read: the root and the last three


@dataclass(frozen=True)
class Options:
    """What ``hitree-train generator`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the checkpoint
    preset: GeneratorPreset
    minutes: float | None  # wall clock; None: ``steps`` instead
    steps: int = 3000
    batch: int = 20  # drawings to describe, and as many expansions
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
    expand: float  # of the steps of a root, from the root

    @property
    def total(self) -> float:
        """What early stopping goes by."""
        return self.describe + self.expand


def train(options: Options) -> Checkpoint:
    """Train (or go on) and return the last checkpoint, which is also written to ``options.out``."""
    torch.manual_seed(options.seed)
    examples = annotated(options.folder, ("real", "drawn", "sampled"), "train")
    held_out = annotated(options.folder, ("real", "drawn"), "valid")
    trees = instructions.read_trees(options.trees) if options.trees else []
    before = checkpoint.load(options.out, "generator") if options.resume else None

    vocabulary = vocabulary_of(examples, trees)  # the same again where a run goes on
    train_set = Describing(examples, vocabulary, "reading drawings")
    valid_set = Describing(held_out, vocabulary, "reading held-out drawings")
    plans = Expanding(instructions.expansions(examples) + trees, vocabulary)
    valid_plans = Expanding(instructions.expansions(held_out), vocabulary)

    token_width = data.token_vectors().width
    model = Generator(options.preset, token_width=token_width, vocabulary=len(vocabulary))
    start_from_vectors(model, vocabulary)
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
            data_hash=hash_of_data,
            extras={
                "vocabulary": vocabulary.to_json(),
                "token_width": token_width,
                "subjects": sorted({e.subject for e in examples}),
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

    hash_of_data = data.data_hash(examples)
    budget = Budget(
        "planner" if trees else "generator",
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
            describe = train_set.loss(model, train_set.sample(options.batch, generator), generator)
            expand = plans.loss(model, plans.sample(options.batch, generator), generator)
            leaf = plans.loss(model, plans.sample_leaves(options.batch // 2, generator), generator)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(describe + expand + LEAF_WEIGHT * leaf)
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            if step % options.evaluate_every and budget.fraction < 1:
                continue
            figures = evaluate(model, valid_set, valid_plans)
            best.offer(model, figures.total, vars(figures))
            made = snapshot()
            budget.note(
                f"train {describe.item():.3f} {expand.item():.3f} {leaf.item():.3f}  valid "
                f"{figures.describe:.3f} {figures.expand:.3f}  {time.monotonic() - started:.0f} s"
            )
            if best.over:
                break
    return made


def schedule(fraction: float) -> float:
    """The share of the learning rate at a position of the schedule: up shortly, then down."""
    return min(1.0, fraction / WARMUP) * (1 - fraction)


def load(path: Path) -> tuple[Generator, Vocabulary]:
    """The network of a checkpoint, ready to write, and its vocabulary."""
    found = checkpoint.load(path, "generator")
    vocabulary = Vocabulary.from_json(found.extras["vocabulary"])
    model = Generator(
        GeneratorPreset(**found.preset),
        token_width=found.extras["token_width"],
        vocabulary=len(vocabulary),
    )
    model.load_state_dict(found.weights)
    return model.eval(), vocabulary


def annotated(folder: Path | None, kinds: tuple[data.Kind, ...], split: str) -> list[Example]:
    """The annotated drawings of a split."""
    found = [e for e in data.load(folder, kinds=kinds, splits=(split,)) if e.annotation]
    if not found:
        raise data.DataError(f"no {split} drawing in {folder or data.BUILTIN} is annotated")
    return found


def vocabulary_of(examples: Sequence[Example], trees: Sequence[Expansion]) -> Vocabulary:
    """The words of all steps and of their mirror images."""
    texts = [step.text for e in examples if e.annotation for step in e.annotation.steps]
    texts += [child for tree in trees for child in tree.children]
    return Vocabulary.of([*texts, *map(wording.mirror, texts)], MIN_COUNT)


def start_from_vectors(model: Generator, vocabulary: Vocabulary) -> None:
    """Let every word begin as its static token vector, so that rare words begin near their kin."""
    vectors = data.token_vectors()
    table = np.stack([vectors.sentence(word) for word in vocabulary.entries])
    with torch.no_grad():
        model.words.weight.mul_(0.1)
        model.words.weight[Vocabulary.FIRST :] = torch.from_numpy(table)


class Describing:
    """Annotated steps as strokes and words."""

    def __init__(self, examples: Sequence[Example], vocabulary: Vocabulary, label: str) -> None:
        self.strokes = Strokes(examples, label)
        self.subjects = subject_vectors(examples)
        self.steps = [e.annotation.steps for e in examples if e.annotation]
        self.weights = weights(examples, DESCRIBE_MIX)
        self.vocabulary = vocabulary

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` drawings, by weight."""
        return torch.multinomial(self.weights, size, replacement=True, generator=generator)

    def loss(self, model: Generator, index: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mean NLL of a word over all steps of the drawings at ``index``, augmented if seeded."""
        batch = self.strokes.batch(index, generator)
        spans, bounds, which, ids = [], [], [], []
        for b, i in enumerate(index.tolist()):
            first, mirrored = int(batch.first[b]), bool(batch.mirrored[b])
            for step in self.steps[i]:
                spans.append((first + step.start, first + step.end))
                bounds.append((first, first + int(batch.size[b])))
                text = wording.mirror(step.text) if mirrored else step.text
                ids.append(sentence(text, self.vocabulary))
                which.append(i)
        context = model.describe(
            batch.strokes, torch.tensor(spans), self.subjects[which], torch.tensor(bounds)
        )
        return word_loss(model, context, ids)


class Expanding:
    """Instruction stacks and the steps below them."""

    def __init__(self, items: Sequence[Expansion], vocabulary: Vocabulary) -> None:
        self.items = items
        self.vocabulary = vocabulary
        self.vectors = data.token_vectors()
        groups = [(item.kind, item.subject) for item in items]
        counts = Counter(groups)
        share = [EXPAND_MIX[group[0]] / counts[group] for group in groups]
        inner = torch.tensor([bool(item.children) for item in items], dtype=torch.bool)
        self.inner, self.leaves = torch.tensor(share) * inner, torch.tensor(share) * ~inner

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` nodes with children, by weight."""
        return torch.multinomial(self.inner, size, replacement=True, generator=generator)

    def sample_leaves(self, size: int, generator: torch.Generator) -> Tensor:
        """Indices of ``size`` leaves, by weight."""
        return torch.multinomial(self.leaves, size, replacement=True, generator=generator)

    def loss(self, model: Generator, index: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mean NLL of a word over the expansions at ``index``; roots are varied if seeded."""
        chosen = [self.items[i] for i in index.tolist()]
        if generator is not None:
            chosen = [vary(item, generator) for item in chosen]
        stacks = [item.stack for item in chosen]
        context = model.expand(*self.read(stacks), self.subject([item.subject for item in chosen]))
        return word_loss(model, context, [listing(c.children, self.vocabulary) for c in chosen])

    def read(self, stacks: Sequence[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
        """Token vectors (B, L, T, E) and mask (B, L, T) of stacks."""
        stacks = [(stack[0], *stack[1:][-(LEVELS - 1) :]) for stack in stacks]
        levels = max(map(len, stacks))
        texts = [text for stack in stacks for text in stack]
        vectors, mask = self.vectors.batch(texts)
        tokens = torch.zeros(len(stacks), levels, *vectors.shape[1:])
        masks = torch.zeros(len(stacks), levels, mask.shape[1])
        at = 0
        for b, stack in enumerate(stacks):
            tokens[b, : len(stack)] = torch.from_numpy(vectors[at : at + len(stack)])
            masks[b, : len(stack)] = torch.from_numpy(mask[at : at + len(stack)])
            at += len(stack)
        return tokens, masks

    def subject(self, names: Sequence[str]) -> Tensor:
        """The subjects' sentence vectors (B, E)."""
        known = {name: self.vectors.sentence(name) for name in set(names)}
        return torch.from_numpy(np.stack([known[name] for name in names]))


def vary(item: Expansion, generator: torch.Generator) -> Expansion:
    """Another wording of the same: the root as somebody would ask, or all mirrored."""
    root = instructions.vary_root(item.stack[0], item.subject, generator)
    stack, children = (root, *item.stack[1:]), item.children
    if torch.rand((), generator=generator) < 0.5:
        stack = tuple(map(wording.mirror, stack))
        children = tuple(map(wording.mirror, children))
    return Expansion(item.subject, stack, children, item.kind)


def word_loss(model: Generator, context: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
    """Mean NLL of a word of ``ids`` (BOS … EOS each), given ``context`` (B, H)."""
    padded = torch.full((len(ids), max(map(len, ids))), Vocabulary.PAD)
    for row, sequence in zip(padded, ids, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    logits = model(context, padded[:, :-1])  # (B, T, V)
    target = padded[:, 1:]
    target = target.masked_fill(target == Vocabulary.UNK, Vocabulary.PAD)  # never to be written
    return functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=Vocabulary.PAD
    )


@torch.inference_mode()
def evaluate(model: Generator, drawings: Describing, plans: Expanding, size: int = 64) -> Figures:
    """Figures over held-out drawings, as annotated."""
    model.eval()
    index = torch.arange(len(drawings.steps))
    described = [float(drawings.loss(model, part, None)) for part in torch.split(index, size)]
    roots = plans.inner.nonzero()[:, 0]
    expanded = [float(plans.loss(model, part, None)) for part in torch.split(roots, size)]
    return Figures(float(np.mean(described)), float(np.mean(expanded)))
