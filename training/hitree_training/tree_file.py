"""Files of instruction trees, as `hitree-train trees` writes them: one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hitree.errors import InvalidPlan
from hitree.tree import Node, build
from hitree_training.data import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_training.data import Kind


@dataclass(frozen=True)
class Inferred:
    """The tree behind a drawing."""

    key_id: str
    subject: str  # with spaces
    kind: Kind  # of the drawing
    root: Node


def read(path: Path) -> list[Inferred]:
    """The trees of a file, in its order.

    Raises:
        DataError: there is no such file, or a line is no tree; the message names it.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; infer trees first: hitree-train trees")
    found: list[Inferred] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                tree = json.loads(line)
                root = build([Node(**node) for node in tree["nodes"]])
                kind = cast("Kind", tree["kind"])
                found.append(Inferred(tree["key_id"], tree["subject"], kind, root))
            except (ValueError, KeyError, TypeError, InvalidPlan) as exc:
                raise DataError(f"{path}, line {number} is no tree: {exc!r}") from exc
    return found


def by_key(path: Path) -> dict[str, Node]:
    """The roots of a file's trees by ``key_id``; see `read`."""
    return {tree.key_id: tree.root for tree in read(path)}
