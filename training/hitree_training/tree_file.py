"""Files of instruction trees, as `hitree-train trees` writes them: one JSON object a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hitree.errors import InvalidPlan
from hitree.tree import Node, build
from hitree_training.data import DataError

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> dict[str, Node]:
    """The trees of a file by ``key_id``; their nodes have spans.

    Raises:
        DataError: there is no such file, or a line is no tree; the message names it.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; infer trees first: hitree-train trees")
    found: dict[str, Node] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                tree = json.loads(line)
                found[tree["key_id"]] = build([Node(**node) for node in tree["nodes"]])
            except (ValueError, KeyError, TypeError, InvalidPlan) as exc:
                raise DataError(f"{path}, line {number} is no tree: {exc!r}") from exc
    return found
