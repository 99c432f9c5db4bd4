"""Annotations: what the parts of a drawing are, in people's words.

Two formats. The talk's crowd annotations are CSV with the columns in `COLUMNS`, a row for each
step. The richer JSON lines hold a drawing each: a sentence for the whole, a label for every stroke
and the steps.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn  # Any: parsed JSON

from hitree.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLUMNS = (
    "Input.id",
    "Input.category",
    "Input.start",
    "Input.end",
    "Input.n_segments",
    "Input.url",
    "Answer.annotation",
)
_KEYS = {"key_id", "word", "source", "split", "root", "parts", "steps"}


class InvalidAnnotation(InvalidInput):
    """A line of an annotation file cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Step:
    """One instruction and the strokes that it added: ``[start, end)``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Annotation:
    """What people wrote about one drawing."""

    root: str  # a sentence for the whole drawing; empty where none was asked for (CSV)
    parts: tuple[str, ...]  # a label for every stroke, or ()
    steps: tuple[Step, ...]  # contiguous, from the first stroke on


def read(path: Path) -> dict[str, Annotation]:
    """Read a file of either format, told by its suffix; return annotations by ``key_id``."""
    return read_csv(path) if path.suffix == ".csv" else read_jsonl(path)


def read_jsonl(path: Path) -> dict[str, Annotation]:
    """Read JSON lines; return annotations by ``key_id``, none where there is no such file.

    Raises:
        InvalidAnnotation: a line is no JSON object, lacks a key or has one too many, or its steps
            are not contiguous. The message names the line.
    """
    found: dict[str, Annotation] = {}
    if not path.exists():  # drawings need not be annotated: those that were just fetched are not
        return found
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                _add_line(found, line, path, number)
    return found


def _add_line(found: dict[str, Annotation], line: str, path: Path, number: int) -> None:
    try:
        raw = json.loads(line)
        unknown = raw.keys() - _KEYS
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}; allowed are {sorted(_KEYS)}")
        annotation = Annotation(
            root=str(raw["root"]),
            parts=tuple(map(str, raw.get("parts", ()))),
            steps=tuple(Step(int(s["start"]), int(s["end"]), str(s["text"])) for s in raw["steps"]),
        )
        _check(annotation, len(annotation.parts) or annotation.steps[-1].end)
        found[str(raw["key_id"])] = annotation
    except KeyError as exc:
        _refuse(path, number, f"the key {exc} is missing", exc)
    except (ValueError, TypeError, AttributeError, IndexError) as exc:
        _refuse(path, number, str(exc), exc)


def read_csv(path: Path) -> dict[str, Annotation]:
    """Read the talk's columns; return annotations, without roots and parts, by ``Input.id``.

    Several people may have described the same strokes; the first description is kept.

    Raises:
        InvalidAnnotation: a column is missing, a row does not parse, or the rows of a drawing do
            not cover it. The message names the line.
    """
    steps: dict[str, dict[tuple[int, int], Step]] = {}
    sizes: dict[str, tuple[int, int]] = {}  # id -> strokes, and the line that says so
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = set(COLUMNS) - set(rows.fieldnames or ())
        if missing:
            _refuse(path, 1, f"the columns {sorted(missing)} are missing")
        for row in rows:
            key, size, step = _row(row, path, rows.line_num)
            steps.setdefault(key, {}).setdefault((step.start, step.end), step)
            sizes[key] = (size, rows.line_num)
    return {key: _partition(list(spans.values()), sizes[key], path) for key, spans in steps.items()}


def _row(row: Mapping[str, Any], path: Path, number: int) -> tuple[str, int, Step]:
    try:
        text = row["Answer.annotation"].strip()
        if not text:
            raise ValueError("Answer.annotation is empty")
        step = Step(int(row["Input.start"]), int(row["Input.end"]), text)
        return str(row["Input.id"]), int(row["Input.n_segments"]), step
    except (ValueError, TypeError, AttributeError) as exc:
        _refuse(path, number, str(exc), exc)


def _partition(steps: list[Step], size: tuple[int, int], path: Path) -> Annotation:
    annotation = Annotation("", (), tuple(sorted(steps, key=lambda step: (step.start, step.end))))
    strokes, number = size
    try:
        _check(annotation, strokes)
    except ValueError as exc:
        _refuse(path, number, str(exc), exc)
    return annotation


def _check(annotation: Annotation, strokes: int) -> None:
    at = 0
    for step in annotation.steps:
        if step.start != at or step.end <= step.start:
            raise ValueError(
                f"the step [{step.start}, {step.end}) does not begin where the last one ended, "
                f"at stroke {at}; steps partition the strokes in order"
            )
        at = step.end
    if at != strokes:
        raise ValueError(f"the steps end at stroke {at}, the drawing has {strokes}")


def _refuse(path: Path, number: int, why: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidAnnotation(f"{path}, line {number}: {why}") from cause
