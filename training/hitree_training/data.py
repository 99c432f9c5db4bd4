"""Drawings with their annotations, from a data folder or from the built-in set.

A data folder holds ``drawings/`` (real), ``sampled/``, ``drawn/`` (QuickDraw's simplified ndjson,
one file a subject) and ``annotations.jsonl``; whichever of them exist are read. The built-in set,
the project's own demonstrations and annotations, has the same layout.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from hitree import quickdraw
from hitree.embedding import TokenVectors
from hitree_training.annotations import read_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hitree.drawing import Drawing
    from hitree_training.annotations import Annotation

BUILTIN = Path(__file__).parent / "builtin"

Kind = Literal["real", "drawn", "sampled"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDERS: dict[Kind, str] = {"real": "drawings", "drawn": "drawn", "sampled": "sampled"}


class DataError(Exception):
    """The data folder holds nothing to train or test on."""


@dataclass(frozen=True)
class Example:
    """One drawing of the data set."""

    key_id: str
    subject: str  # with spaces: "sea turtle"
    split: str  # "train", "valid" or "test"
    kind: Kind
    drawing: Drawing
    parts: tuple[str, ...]  # a part label per stroke where the data set has them, else empty
    annotation: Annotation | None


def load(
    folder: Path | None = None,
    *,
    kinds: Iterable[Kind] = KINDS,
    splits: Iterable[str] = ("train",),
) -> list[Example]:
    """Read the drawings of some kinds and splits; ``folder`` None is the built-in set.

    Raises:
        DataError: the folder has no drawings of these kinds and splits.
    """
    folder, kinds, splits = folder or BUILTIN, tuple(kinds), tuple(splits)
    table = read_jsonl(folder / "annotations.jsonl")
    examples = [
        Example(
            key_id=record.key_id,
            subject=record.word,
            split=record.split,
            kind=kind,
            drawing=record.drawing,
            parts=record.parts,
            annotation=table.get(record.key_id),
        )
        for kind in kinds
        for file in sorted((folder / FOLDERS[kind]).glob("*.ndjson"))
        for record in quickdraw.read_simplified(file)
        if record.split in splits
    ]
    if not examples:
        raise DataError(
            f"{folder} has no {' or '.join(splits)} drawings of the kinds {', '.join(kinds)}; "
            f"expected ndjson files in {', '.join(FOLDERS[kind] + '/' for kind in kinds)}"
        )
    return examples


def data_hash(examples: Iterable[Example]) -> str:
    """A hash of which drawings were used, under which annotations, in any order."""
    digest = hashlib.sha256()
    for example in sorted(examples, key=lambda e: (e.kind, e.key_id)):
        root = example.annotation.root if example.annotation else ""
        digest.update(f"{example.kind} {example.key_id} {example.drawing.points} {root}\n".encode())
    return digest.hexdigest()[:16]


@cache
def token_vectors() -> TokenVectors:
    """The static token vectors of the built-in set."""
    return TokenVectors.load(BUILTIN)
