"""The wire's messages as JSON: snake_case, drawings in units, unknown fields refused.

A stroke is ``[[x, y], …]`` in units (floats) wherever it occurs; enum values are lower-case words
without their prefix ("cky"); a value that is unset is null ("parent" of the root), a message that
is unset is left out. Draw events are flat: ``{"index": 3, "kind": "points", …}`` with the fields
of the dataclasses in `hitree.events`.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any, TypeVar, cast  # Any: JSON, and fields known only at run time

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from hitree.drawing import as_stroke
from hitree.errors import InvalidDrawing, InvalidInput, NotFinite, NotText, UnknownField
from hitree.stroke5 import GRID, to_grid
from hitree.v1 import hitree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, OneofDescriptor

_M = TypeVar("_M", bound=Message)

_NESTED = ("plan", "error")  # events whose message is a field of its own, not spread out
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def to_json(message: Message) -> dict[str, Any]:
    """Turn a message into a JSON object; `from_json` is the inverse."""
    if isinstance(message, pb.DrawEvent):
        return _event_to_json(message)
    values = {}
    if isinstance(message, pb.Points):
        values["points"] = _pairs(message)
    for field in _fields(message).values():
        if field.name not in ("xs", "ys") and not _left_out(message, field):
            values[field.name] = _field_to_json(message, field)
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


def _fields(message: Message) -> dict[str, FieldDescriptor]:
    """The fields of a message by name."""
    return {field.name: field for field in cast("list[FieldDescriptor]", message.DESCRIPTOR.fields)}


def _left_out(message: Message, field: FieldDescriptor) -> bool:
    """Whether an unset field is left out: messages and members of a choice."""
    if not field.has_presence or message.HasField(field.name):
        return False
    return field.message_type is not None or _choice(field) is not None


def _choice(field: FieldDescriptor) -> OneofDescriptor | None:
    """The oneof of a field; None for those that protobuf makes up for ``optional``."""
    oneof = field.containing_oneof
    return oneof if oneof is not None and len(oneof.fields) > 1 else None


def _field_to_json(message: Message, field: FieldDescriptor) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if isinstance(value, MutableMapping):
        return {key: value[key] for key in sorted(value)}
    if isinstance(value, MutableSequence):
        return [_value_to_json(item, field) for item in value]
    return _value_to_json(value, field)


def _value_to_json(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, pb.Stroke):
        return _pairs(value)
    if isinstance(value, Message):
        return to_json(value)
    if field.enum_type is not None:
        return _enum_words(field.enum_type).get(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return float(str(np.float32(value)))  # the shortest number that gives the same float32
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
        if not isinstance(value, Mapping):
            raise _wrong(path, "an object", value)
        if isinstance(message, pb.DrawEvent):
            self._fill_event(message, dict(value), path)
        else:
            self._fill_fields(message, value, path)

    def _fill_event(self, message: pb.DrawEvent, body: dict[str, Any], path: str) -> None:
        kinds = [name for name in _fields(message) if name != "index"]
        kind = body.pop("kind", None)
        if kind not in kinds:
            raise InvalidInput(f"the event's kind is {kind!r}; expected one of {', '.join(kinds)}")
        index = _fields(message)["index"]
        message.index = _integer(body.pop("index", 0), index, _join(path, "index"))
        getattr(message, kind).SetInParent()
        if kind in _NESTED:
            self._fill_fields(message, body, path)
        else:
            self.fill(getattr(message, kind), body, path)

    def _fill_fields(self, message: Message, value: Mapping[str, Any], path: str) -> None:
        fields = _fields(message)
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

    def _fill_field(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        if value is None and field.has_presence:
            return
        _check_choice(message, field)
        current = getattr(message, field.name)
        if isinstance(current, MutableMapping):
            _fill_map(current, field, value, path)
        elif isinstance(current, MutableSequence):
            self._fill_list(current, field, value, path)
        elif isinstance(current, Message):
            current.SetInParent()
            self.fill(current, value, path)
        else:
            setattr(message, field.name, _scalar(value, field, path))

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
    stroke = as_stroke(value, noun)
    if any(isinstance(number, bool) for pair in cast("Any", value) for number in pair):
        raise InvalidDrawing(f"{noun} is not made of numbers; send a list of [x, y] pairs")
    steps = to_grid(stroke, noun)
    message.xs.extend(steps[:, 0].tolist())
    message.ys.extend(steps[:, 1].tolist())


def _fill_map(
    items: MutableMapping[str, Any], field: FieldDescriptor, value: object, path: str
) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(path, "an object", value)
    entry = cast("Descriptor", field.message_type)  # a map is a list of entries
    value_field = entry.fields_by_name["value"]
    for key, item in value.items():
        items[_text(key, value_field, path)] = _scalar(item, value_field, _join(path, str(key)))


def _check_choice(message: Message, field: FieldDescriptor) -> None:
    choice = _choice(field)
    taken = message.WhichOneof(choice.name) if choice is not None else None
    if taken not in (None, field.name):
        raise InvalidInput(f"{taken} and {field.name} exclude each other; send one of them")


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
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise NotText(f"{path} holds half a surrogate pair; send valid Unicode")
    return value


def _word(value: object, field: FieldDescriptor, path: str) -> int:
    words = _enum_words(cast("EnumDescriptor", field.enum_type))
    numbers = {word: number for number, word in words.items()}
    if not isinstance(value, str) or value not in numbers:
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
