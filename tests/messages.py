"""What hypothesis draws of protobuf messages: all that a descriptor allows, and bytes beyond it."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

DEPTH = 4  # of messages in messages
MANY = 3000  # elements: beyond every limit on a count
BRIEF = 200  # characters of an element that may come so often; messages have a limit of their own


def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    edges = {low, low + 1, -1, 0, 1, 2, 63, 64, 65, high - 1, high}
    inside = st.integers(max(low, -3), min(high, 600))
    return inside | st.sampled_from(sorted(e for e in edges if low <= e <= high))


def _floats(width: int, least: float, most: float) -> st.SearchStrategy[float]:
    edges = [0.0, -0.0, 0.5, 1.0, 2.0, least, most, -most, math.inf, -math.inf, math.nan]
    return st.sampled_from(edges) | st.floats(width=width)


_ODD = ["", " ", "draw a cat", "\0", "\x1b[2J", "\u202e", "\ufeff", "a\u0300" * 300, "\ufdfa" * 500]
_LONG = ["x" * 500, "x" * 501, "\U0001f9a9" * 500, "\U0001f9a9" * 100_000]
_TEXTS = st.text(max_size=20) | st.sampled_from(_ODD + _LONG)
_VALUES: dict[int, st.SearchStrategy[Any]] = {
    Field.CPPTYPE_INT32: _integers(-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: _integers(-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: _integers(0, 2**32 - 1),
    Field.CPPTYPE_UINT64: _integers(0, 2**64 - 1),
    Field.CPPTYPE_ENUM: _integers(-(2**31), 2**31 - 1),  # open: numbers that have no name, too
    Field.CPPTYPE_FLOAT: _floats(32, 1e-45, 3.4028234663852886e38),
    Field.CPPTYPE_DOUBLE: _floats(64, 5e-324, 1.7976931348623157e308),
    Field.CPPTYPE_BOOL: st.booleans(),
}


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, depth: int = DEPTH) -> Message:
    """Any message of a kind; fields are left out as often as they are set."""
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if draw(st.booleans()):
            _set(draw, message, field, depth)
    return message


@st.composite
def mutations(draw: st.DrawFn, message: Message, most: int = 2) -> Message:
    """A message that differs from ``message`` in up to ``most`` fields, however deep they are."""
    changed = type(message)()
    changed.CopyFrom(message)
    for _ in range(draw(st.integers(1, most))):
        inner = draw(st.sampled_from(list(_within(changed))))
        if not inner.DESCRIPTOR.fields:
            continue
        field = draw(st.sampled_from(list(inner.DESCRIPTOR.fields)))
        if draw(st.integers(0, 3)) == 0:
            inner.ClearField(field.name)
        else:
            _set(draw, inner, field, DEPTH)
    return changed


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes of a message that was cut, or in which some bytes are others."""
    bad = bytearray(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)
    for _ in range(draw(st.integers(0, 3))):
        if bad:
            bad[draw(st.integers(0, len(bad) - 1))] = draw(st.integers(0, 255))
    return bytes(bad) + draw(st.binary(max_size=8))


def _within(message: Message) -> Iterator[Message]:
    """A message and all that are set in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or isinstance(value, MutableMapping):
            continue
        for inner in value if field.is_repeated else (value,):
            yield from _within(inner)


def _set(draw: st.DrawFn, message: Message, field: Field, depth: int) -> None:
    current = getattr(message, field.name)
    if isinstance(current, MutableMapping):
        _set_map(draw, current, field, depth)
    elif field.is_repeated:
        _set_list(draw, current, field, depth)
    elif field.message_type is not None:
        current.SetInParent()
        if depth:
            current.CopyFrom(draw(messages(field.message_type, depth - 1)))
    else:
        setattr(message, field.name, draw(_values(field)))


def _set_list(draw: st.DrawFn, items: Any, field: Field, depth: int) -> None:
    """Replace the elements, add to them, or repeat one very often."""
    value = (
        _values(field) if field.message_type is None else messages(field.message_type, depth - 1)
    )
    found = draw(st.lists(value, max_size=4)) if depth else []
    if draw(st.booleans()):
        del items[:]
    many = found and draw(st.integers(0, 9)) == 0 and len(str(found[0])) < BRIEF
    items.extend(found[:1] * MANY if many else found)


def _set_map(draw: st.DrawFn, items: Any, field: Field, depth: int) -> None:
    value = field.message_type.fields_by_name["value"]
    for key in draw(st.lists(st.text(max_size=5), max_size=3)):
        if value.message_type is None:
            items[key] = draw(_values(value))
        elif depth:
            items[key].CopyFrom(draw(messages(value.message_type, depth - 1)))


def _values(field: Field) -> st.SearchStrategy[Any]:
    if field.type == Field.TYPE_BYTES:
        return st.binary(max_size=64)
    return _TEXTS if field.type == Field.TYPE_STRING else _VALUES[field.cpp_type]
