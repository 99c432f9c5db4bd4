"""The wire's messages as JSON: snake_case, drawings in units, unknown fields refused.

A stroke is ``[[x, y], …]`` in units (floats) wherever it occurs; enum values are lower-case words
without their prefix ("cky"); a value that is unset is null ("parent" of the root), a message that
is unset is left out. Draw events are flat: ``{"index": 3, "kind": "points", …}`` with the fields
of the dataclasses in `hitree.events`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import (  # Any: JSON, and fields known only at run time
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
)

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from hitree.drawing import as_stroke
from hitree.errors import InvalidDrawing, InvalidInput, NotFinite, NotText, UnknownField
from hitree.stroke5 import GRID, to_grid
from hitree.v1 import hitree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor

_M = TypeVar("_M", bound=Message)

_STROKE = pb.Stroke.DESCRIPTOR.full_name
_COORDINATES = ("xs", "ys")  # of strokes and points, whose JSON are pairs
_NESTED = ("plan", "error")  # events whose message is a field of its own, not spread out
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_SURROGATES = re.compile("[\ud800-\udfff]")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def to_json(message: Message) -> dict[str, Any]:
    """Turn a message into a JSON object; `from_json` is the inverse."""
    if isinstance(message, pb.DrawEvent):
        return _event_to_json(message)
    values: dict[str, Any] = {"points": _pairs(message)} if isinstance(message, pb.Points) else {}
    for name, field in _fields(message.DESCRIPTOR).items():
        if name in _COORDINATES:
            continue
        if not field.optional or message.HasField(name):
            values[name] = field.write(getattr(message, name))
        elif not field.left_out:
            values[name] = None
    return values


def from_json(value: object, message_class: type[_M], *, ignore_unknown: bool = False) -> _M:
    """Build a message from a JSON object; null leaves a field unset that can be unset.

    ``ignore_unknown`` is for replies, which a newer server may have added fields to.

    Raises:
        UnknownField: the message has no such field; ``details`` holds "field" and "allowed".
        NotFinite: a number is NaN or infinite, or too large for its field.
        NotText, InvalidDrawing, InvalidInput: a value is of another type than its field.
    """
    message = message_class()
    _Reader(ignore_unknown).fill(message, value, "")
    return message


def _event_to_json(event: pb.DrawEvent) -> dict[str, Any]:
    kind = event.WhichOneof("event")
    if kind is None:
        raise InvalidInput("the draw event is empty or of a newer kind; install a newer hitree")
    body = to_json(getattr(event, kind))
    return {"index": event.index, "kind": kind, **({kind: body} if kind in _NESTED else body)}


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a message, and how it is written: looked up once, used for every message."""

    descriptor: FieldDescriptor
    shape: Literal["map", "list", "message", "value"]
    optional: bool  # it may be unset
    choice: str | None  # the oneof that it is a member of
    write: Callable[[Any], Any]  # its value as JSON

    @property
    def left_out(self) -> bool:
        """Whether it is left out when it is unset: messages and members of a choice."""
        return self.shape == "message" or self.choice is not None


@cache
def _fields(kind: Descriptor) -> dict[str, _Field]:
    """The fields of a message by name."""
    empty = GetMessageClass(kind)()
    found = cast("list[FieldDescriptor]", kind.fields)
    return {field.name: _field(field, getattr(empty, field.name)) for field in found}


def _field(field: FieldDescriptor, unset: object) -> _Field:
    """What there is to know of a field, whose value is ``unset`` in an empty message."""
    write, oneof = _writer(field), field.containing_oneof
    # Protobuf makes up a oneof of one for each ``optional``.
    choice = oneof.name if oneof is not None and len(oneof.fields) > 1 else None
    if isinstance(unset, MutableMapping):
        return _Field(field, "map", False, None, lambda value: dict(sorted(value.items())))
    if isinstance(unset, MutableSequence):
        plain = write is _same
        return _Field(field, "list", False, None, list if plain else lambda v: list(map(write, v)))
    shape: Literal["message", "value"] = "message" if isinstance(unset, Message) else "value"
    return _Field(field, shape, field.has_presence, choice, write)


def _writer(field: FieldDescriptor) -> Callable[[Any], Any]:
    """How one value of a field is written."""
    if field.message_type is not None:
        return _pairs if field.message_type.full_name == _STROKE else to_json
    if field.enum_type is not None:
        return _enum_words(field.enum_type).get
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return lambda value: float(str(np.float32(value)))  # the shortest that gives the float32
    return _same


def _same(value: Any) -> Any:
    return value


def _pairs(message: pb.Stroke | pb.Points) -> list[list[float]]:
    """The [x, y] pairs, in units, of a message that carries xs and ys."""
    pairs = zip(message.xs, message.ys, strict=True)
    return [[x / GRID, y / GRID] for x, y in pairs]


def _enum_words(enum: EnumDescriptor) -> dict[int, str]:
    """The JSON word of each value: 2 -> "cky" for PARSER_CKY."""
    prefix = str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


class _Reader:
    """Fills messages from JSON; paths in errors look like ``canvas.strokes[2]``."""

    def __init__(self, ignore_unknown: bool) -> None:
        self.ignore_unknown = ignore_unknown

    def fill(self, message: Message, value: object, path: str) -> None:
        if isinstance(message, pb.Stroke):
            _fill_points(message, value, path)
            return
        if not isinstance(value, dict | Mapping):  # a dict is told sooner
            raise _wrong(path, "an object", value)
        if isinstance(message, pb.DrawEvent):
            self._fill_event(message, dict(value), path)
        else:
            self._fill_fields(message, value, path)

    def _fill_event(self, message: pb.DrawEvent, body: dict[str, Any], path: str) -> None:
        fields = _fields(message.DESCRIPTOR)
        kinds = [name for name in fields if name != "index"]
        kind = body.pop("kind", None)
        if kind not in kinds:
            raise InvalidInput(f"the event's kind is {kind!r}; expected one of {', '.join(kinds)}")
        index = body.pop("index", 0)
        message.index = _integer(index, fields["index"].descriptor, _join(path, "index"))
        getattr(message, kind).SetInParent()
        if kind in _NESTED:
            self._fill_fields(message, body, path)
        else:
            self.fill(getattr(message, kind), body, path)

    def _fill_fields(self, message: Message, value: Mapping[str, Any], path: str) -> None:
        fields = _fields(message.DESCRIPTOR)
        points = isinstance(message, pb.Points)
        allowed = fields.keys() ^ {"xs", "ys", "points"} if points else fields.keys()
        for name, item in value.items():
            inner = _join(path, str(name))
            if name not in allowed:
                self._refuse(inner, sorted(allowed))
            elif points and name == "points":
                _fill_points(message, item, inner)
            else:
                self._fill_field(message, fields[name], item, inner)

    def _refuse(self, path: str, allowed: list[str]) -> None:
        if not self.ignore_unknown:
            names = ", ".join(allowed)
            raise UnknownField(
                f"there is no field {path}; fields here are {names}",
                details={"field": path, "allowed": names},
            )

    def _fill_field(self, message: Message, field: _Field, value: Any, path: str) -> None:
        if value is None and field.optional:
            return
        name = field.descriptor.name
        if field.choice is not None:
            _check_choice(message, field.choice, name)
        if field.shape == "value":
            setattr(message, name, _scalar(value, field.descriptor, path))
        elif field.shape == "map":
            _fill_map(getattr(message, name), field.descriptor, value, path)
        elif field.shape == "list":
            self._fill_list(getattr(message, name), field.descriptor, value, path)
        else:
            getattr(message, name).SetInParent()
            self.fill(getattr(message, name), value, path)

    def _fill_list(
        self, items: MutableSequence[Any], field: FieldDescriptor, value: object, path: str
    ) -> None:
        if not isinstance(value, list | tuple):
            raise _wrong(path, "a list", value)
        for index, item in enumerate(value):
            inner = f"{path}[{index}]"
            if field.message_type is None:
                items.append(_scalar(item, field, inner))
            else:
                self.fill(items.add(), item, inner)  # type: ignore[attr-defined]  # protobuf's


def _fill_points(message: Any, value: object, path: str) -> None:
    """Set xs and ys of a `Stroke` or `Points` message from [x, y] pairs in units."""
    noun = path or "the stroke"
    numbers = np.array(_numbers(value, noun))
    steps = to_grid(as_stroke(numbers.reshape(-1, 2), noun), noun)
    message.xs.extend(steps[:, 0].tolist())
    message.ys.extend(steps[:, 1].tolist())


def _numbers(value: object, noun: str) -> list[float]:
    """The numbers of [x, y] pairs; what is none never gets into an array: text makes huge ones."""
    listed = isinstance(value, list | tuple) and set(map(type, value)) <= {list, tuple}
    pairs = cast("Sequence[Sequence[Any]]", value) if listed else None
    if pairs is None or not set(map(len, pairs)) <= {2}:
        raise InvalidDrawing(f"{noun} is not (N, 2) numbers; send a list of [x, y] pairs")
    numbers = list(chain.from_iterable(pairs))
    if not set(map(type, numbers)) <= {int, float}:  # a bool is an int, and so not told by class
        raise InvalidDrawing(f"{noun} is not made of numbers; send a list of [x, y] pairs")
    return numbers


def _fill_map(
    items: MutableMapping[str, Any], field: FieldDescriptor, value: object, path: str
) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(path, "an object", value)
    entry = cast("Descriptor", field.message_type)  # a map is a list of entries
    value_field = entry.fields_by_name["value"]
    for key, item in value.items():
        items[_text(key, value_field, path)] = _scalar(item, value_field, _join(path, str(key)))


def _check_choice(message: Message, choice: str, name: str) -> None:
    taken = message.WhichOneof(choice)
    if taken not in (None, name):
        raise InvalidInput(f"{taken} and {name} exclude each other; send one of them")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(path: str, expected: str, value: object) -> InvalidInput:
    return InvalidInput(
        f"{path or 'the body'} is of type {type(value).__name__}; send {expected}",
        details={"field": path},
    )


def _scalar(value: object, field: FieldDescriptor, path: str) -> Any:
    return _SCALARS[field.cpp_type](value, field, path)


def _integer(value: object, field: FieldDescriptor, path: str) -> int:
    low, high = _RANGES[field.cpp_type]
    if isinstance(value, float) and value.is_integer():  # JSON has one kind of number: 1.0 is 1
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(path, "an integer", value)
    if not low <= value <= high:
        raise InvalidInput(f"{path} is outside {low} to {high}", details={"field": path})
    return value


def _number(value: object, field: FieldDescriptor, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(path, "a number", value)
    single = field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT
    most = _FLOAT32_MAX if single else float(np.finfo(np.float64).max)
    if not -most <= value <= most:  # true of NaN
        raise NotFinite(f"{path} is NaN, infinite or too large; send a finite number")
    return float(value)


def _flag(value: object, field: FieldDescriptor, path: str) -> bool:  # noqa: ARG001  # one of _SCALARS
    if not isinstance(value, bool):
        raise _wrong(path, "true or false", value)
    return value


def _text(value: object, field: FieldDescriptor, path: str) -> str:  # noqa: ARG001  # one of _SCALARS
    if not isinstance(value, str):
        raise NotText(f"{path} is of type {type(value).__name__}; send text")
    if _SURROGATES.search(value):
        raise NotText(f"{path} holds half a surrogate pair; send valid Unicode")
    return value


def _word(value: object, field: FieldDescriptor, path: str) -> int:
    words = _enum_words(cast("EnumDescriptor", field.enum_type))
    numbers = {word: number for number, word in words.items()}
    if not isinstance(value, str):
        raise _wrong(path, f"one of {', '.join(numbers)}", value)
    if value not in numbers:
        raise InvalidInput(
            f"{path} is {value!r}; expected one of {', '.join(numbers)}", details={"field": path}
        )
    return numbers[value]


_SCALARS: dict[int, Callable[[object, FieldDescriptor, str], Any]] = {
    FieldDescriptor.CPPTYPE_INT32: _integer,
    FieldDescriptor.CPPTYPE_UINT32: _integer,
    FieldDescriptor.CPPTYPE_UINT64: _integer,
    FieldDescriptor.CPPTYPE_FLOAT: _number,
    FieldDescriptor.CPPTYPE_DOUBLE: _number,
    FieldDescriptor.CPPTYPE_BOOL: _flag,
    FieldDescriptor.CPPTYPE_STRING: _text,
    FieldDescriptor.CPPTYPE_ENUM: _word,
}
