"""Quick, Draw! and sketch-rnn files: readers, the writer, and the official simplification.

Formats (https://github.com/googlecreativelab/quickdraw-dataset): *simplified* ndjson has
``drawing: [[xs, ys], …]`` in 0 to 255; *raw* ndjson has ``[[xs, ys, ts], …]`` in the pixels of
whatever screen it was drawn on; sketch-rnn's ``.npz`` has stroke-3 rows (see `hitree.stroke3`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: parsed JSON

import numpy as np

from hitree import stroke3
from hitree.drawing import Drawing, as_stroke, bounds
from hitree.errors import EmptyDrawing, InvalidDrawing, InvalidInput, NotFinite
from hitree.polyline import keep_shape, space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from hitree.drawing import Stroke

LARGEST = 255  # units; the larger side of a simplified drawing
SPACING = 1.0  # units between resampled points
EPSILON = 2.0  # units; tolerance of Ramer-Douglas-Peucker


@dataclass(frozen=True, eq=False)
class Record:
    """A drawing of a data set."""

    key_id: str
    word: str  # the subject, with spaces: "sea turtle"
    drawing: Drawing
    split: str = ""  # "train", "valid" or "test"; empty where the file does not say
    source: str = "quickdraw"
    parts: tuple[str, ...] = ()  # the part that each stroke is; empty where not annotated
    recognized: bool = True  # whether the game's classifier knew it
    temperature: float | None = None  # of sampled drawings


def simplify(strokes: Iterable[object]) -> Drawing:
    """Simplify raw strokes, each (N, 2), by the recipe of the Quick, Draw! data set.

    The drawing is moved to the top left corner, scaled so that its larger side is 255, resampled
    every unit, thinned by Ramer-Douglas-Peucker with epsilon 2 and rounded to whole units.

    Raises:
        InvalidDrawing: a stroke is not made of (N, 2) finite numbers, or there is none.
    """
    raw = Drawing.of(strokes).strokes
    if not raw:
        raise EmptyDrawing("the drawing has no strokes; send at least one")
    if not all(np.isfinite(stroke).all() for stroke in raw):
        raise NotFinite("a coordinate is NaN or infinite; send finite numbers")
    left, top, right, bottom = bounds(raw)
    side = max(right - left, bottom - top) or LARGEST
    moved = [(stroke.astype(np.float64) - (left, top)) * LARGEST / side for stroke in raw]
    dense = [space(stroke, SPACING) for stroke in moved]
    points, cuts = np.concatenate(dense), np.cumsum([len(stroke) for stroke in dense])
    kept = keep_shape(points, np.append(0, cuts[:-1]), EPSILON)
    rounded = np.rint(points).astype(np.float32)
    pairs = zip(np.split(rounded, cuts[:-1]), np.split(kept, cuts[:-1]), strict=True)
    return Drawing(tuple(stroke[mask] for stroke, mask in pairs))


def read_simplified(path: Path) -> Iterator[Record]:
    """Read *simplified* ndjson line by line; blank lines are skipped.

    Fields beyond Quick, Draw!'s (split, source, parts, temperature) are read where they stand.

    Raises:
        InvalidInput: the file cannot be read, or a line is malformed; InvalidDrawing (or a
            subclass) where it is the drawing. ``details`` holds "file" and "line".
    """
    return _read(path, raw=False)


def read_raw(path: Path) -> Iterator[Record]:
    """Read *raw* ndjson, simplified on the way; as `read_simplified` otherwise."""
    return _read(path, raw=True)


def read_stroke3(path: Path, word: str | None = None) -> Iterator[Record]:
    """Read a sketch-rnn ``.npz``; splits are its keys, the word is the file's name by default.

    Offsets are summed up, the drawing is moved to the top left corner, and scaled down to 255
    only where it is larger.

    Raises:
        InvalidInput: the file is damaged or holds anything but arrays of numbers.
    """
    name = path.name.split(".")[0].replace("_", " ") if word is None else word
    for split, sequences in stroke3.load(path).items():
        for index, rows in enumerate(sequences):
            strokes = _fit(stroke3.to_strokes(rows, f"{path}: {split} {index}"))
            yield Record(f"{path.stem}-{split}-{index}", name, strokes, split, "sketch-rnn")


def write_ndjson(path: Path, records: Iterable[Record]) -> int:
    """Write *simplified* ndjson beside ``path``, then rename it; return how many lines."""
    count = 0
    fresh = path.with_name(f".{path.name}.part")
    with fresh.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(_line(record), ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    fresh.replace(path)
    return count


def _fit(drawing: Drawing) -> Drawing:
    left, top, right, bottom = bounds(drawing.strokes)
    scale = min(1.0, LARGEST / (max(right - left, bottom - top) or LARGEST))
    corner = np.array([left, top], np.float32)
    return Drawing(tuple((stroke - corner) * np.float32(scale) for stroke in drawing.strokes))


def _read(path: Path, *, raw: bool) -> Iterator[Record]:
    try:
        file = path.open("rb")
    except OSError as exc:
        raise InvalidInput(
            f"{path} cannot be read: {exc.strerror}; give an ndjson file",
            details={"file": str(path)},
        ) from exc
    with file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _record_at(line, path, number, raw=raw)


def _record_at(line: bytes, path: Path, number: int, *, raw: bool) -> Record:
    try:
        return _record(json.loads(line), raw=raw)
    except InvalidInput as exc:
        raise type(exc)(
            f"{path}, line {number}: {exc.message}",
            details={"file": str(path), "line": str(number)},
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(
            f"{path}, line {number}: no JSON ({exc}); expected one object a line",
            details={"file": str(path), "line": str(number)},
        ) from exc


def _record(value: Any, *, raw: bool) -> Record:
    if not isinstance(value, dict):
        raise InvalidInput(f"{type(value).__name__} instead of an object with a drawing")
    strokes = value.get("drawing")
    if not isinstance(strokes, list) or not strokes:
        raise EmptyDrawing("no strokes; expected drawing: [[xs, ys], …]")
    pairs = [_stroke(stroke, f"stroke {index}", raw=raw) for index, stroke in enumerate(strokes)]
    temperature = _field(value, "temperature", (int, float), None)
    return Record(
        key_id=str(_field(value, "key_id", (str, int), "")),
        word=_field(value, "word", (str,), ""),
        drawing=simplify(pairs) if raw else Drawing(tuple(pairs)),
        split=_field(value, "split", (str,), ""),
        source=_field(value, "source", (str,), "quickdraw"),
        parts=_parts(value, len(pairs)),
        recognized=_field(value, "recognized", (bool,), True),
        temperature=None if temperature is None else float(temperature),
    )


def _stroke(value: Any, noun: str, *, raw: bool) -> Stroke:
    """The (N, 2) points of ``[xs, ys]``, or of ``[xs, ys, ts]`` in raw files."""
    width = 3 if raw else 2
    if not isinstance(value, list) or len(value) != width:
        raise InvalidDrawing(f"{noun} is not {'[xs, ys, ts]' if raw else '[xs, ys]'}")
    xs, ys = value[:2]
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise InvalidDrawing(f"{noun} has not as many ys as xs")
    points = as_stroke(list(zip(xs, ys, strict=True)), noun)
    if not np.isfinite(points).all():
        raise NotFinite(f"{noun} has a coordinate that is NaN or infinite")
    return points


def _parts(value: dict[str, Any], strokes: int) -> tuple[str, ...]:
    parts = _field(value, "parts", (list,), [])
    if not all(isinstance(part, str) for part in parts):
        raise InvalidInput("parts holds something else than text")
    if parts and len(parts) != strokes:
        raise InvalidInput(f"{len(parts)} parts for {strokes} strokes; expected one a stroke")
    return tuple(parts)


def _field(value: dict[str, Any], name: str, types: tuple[type, ...], default: Any) -> Any:
    found = value.get(name, default)
    if found is not default and not isinstance(found, types):
        names = " or ".join(each.__name__ for each in types)
        raise InvalidInput(f"{name} is of type {type(found).__name__}, expected {names}")
    return found


def _line(record: Record) -> dict[str, Any]:
    optional = {"parts": list(record.parts), "temperature": record.temperature}
    return {
        "key_id": record.key_id,
        "word": record.word,
        "recognized": record.recognized,
        "split": record.split,
        "source": record.source,
        **{name: value for name, value in optional.items() if value not in (None, [])},
        "drawing": [[_numbers(column) for column in s.T] for s in record.drawing.strokes],
    }


def _numbers(column: Iterable[float]) -> list[float]:
    """Whole numbers without a fraction, as in the data set."""
    return [int(value) if value == int(value) else float(value) for value in column]
