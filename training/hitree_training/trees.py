"""Infer the instruction trees of a data set: ``hitree-train trees``.

One JSON object a line: ``key_id``, ``subject``, ``kind``, ``split`` and ``nodes`` in preorder. A
run that was cut short goes on after the last whole line. `CHUNK` drawings are explained together,
which is what makes it fast: all their segments are judged in one call, all their texts written in
another.
"""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any  # Any: JSON

import torch
from rich.console import Console
from rich.progress import track

from hitree_training import data
from hitree_training.explain import PARSING, Explainer, Parsing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hitree.tree import Node
    from hitree_training.data import Example

CHUNK = 64  # drawings explained together, and handed to a process at a time


@dataclass(frozen=True)
class Options:
    """What ``hitree-train trees`` was asked for."""

    folder: Path | None  # data; None: the built-in set
    out: Path  # the file of trees
    generator: Path  # checkpoints
    scorer: Path
    kinds: tuple[data.Kind, ...] = data.KINDS
    splits: tuple[str, ...] = ("train",)
    limit: int | None = None  # drawings
    processes: int = 1
    parsing: Parsing = PARSING


def infer(options: Options) -> int:
    """Write the trees that are still missing in ``options.out``; return how many those were."""
    examples = data.load(options.folder, kinds=options.kinds, splits=options.splits)
    done = finished(options.out)
    wanted = [e for e in examples[: options.limit] if e.key_id not in done]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    shown = track(
        _trees(wanted, options),
        "trees",
        total=len(wanted),
        console=Console(stderr=True),
    )
    with options.out.open("a", encoding="utf-8") as file:
        for line in shown:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
    return len(wanted)


def finished(path: Path) -> set[str]:
    """The keys of the trees in a file; half a last line, left by a crash, is cut off."""
    if not path.is_file():
        return set()
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return {json.loads(line)["key_id"] for line in whole.splitlines()}


def _trees(examples: Sequence[Example], options: Options) -> Iterator[dict[str, Any]]:
    arguments = (options.generator, options.scorer, options.parsing)
    chunks = [examples[at : at + CHUNK] for at in range(0, len(examples), CHUNK)]
    if options.processes == 1:
        _start(*arguments)
        yield from chain.from_iterable(map(_explain, chunks))
        return
    # Spawned, not forked: a fork of a process that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, _start, arguments) as pool:
        yield from chain.from_iterable(pool.imap(_explain, chunks))


_state: dict[str, Any] = {}  # of a worker process


def _start(generator: Path, scorer: Path, parsing: Parsing) -> None:
    torch.set_num_threads(1)  # processes share the cores already
    _state.update(explainer=Explainer.load(generator, scorer), parsing=parsing)


def _explain(examples: Sequence[Example]) -> list[dict[str, Any]]:
    explainer: Explainer = _state["explainer"]
    return [
        {
            "key_id": example.key_id,
            "subject": example.subject,
            "kind": example.kind,
            "split": example.split,
            "nodes": [_node(node) for node in tree.walk()],
        }
        for example, tree in zip(
            examples, explainer.trees(examples, _state["parsing"]), strict=True
        )
    ]


def _node(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "parent": node.parent,
        "text": node.text,
        "start": node.start,
        "end": node.end,
        "score": None if node.score is None else round(node.score, 4),
    }
