"""What hypothesis draws of HTTP requests: JSON bodies with something wrong, and odd headers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = "\ue000"  # stands for what is put in
_ODD = [
    "null", "true", "[]", "{}", '""', "0", "-0", "-1", "1.0", "1.5", "1e-400", "1e39", "1e999",
    "NaN", "-Infinity", "18446744073709551616", "9" * 400, "9" * 5000, '"\\ud800"', '"\\u0000"',
    '"\\u202e"', '"draw a cat"', '"' + "x" * 501 + '"', '"' + "\\ud83e\\udda9" * 20_000 + '"',
    "[" * 60 + "]" * 60, "[" * 900 + "]" * 900, "[" * 100_000, '{"a":' * 200 + "1" + "}" * 200,
    "[[0, 0], [1]]", "[[[0, 0], [9, 9]]]", '[["0", "0"]]', "[[true, 0], [9, 9]]", "[[1e38, 0]]",
    "[[[0, 0]]" + ", [[9, 9]]" * 600 + "]", "[" + "0, " * 30_000 + "0]", "", "'a'", "0x10", "1 2",
    "\x00", "\xff", "/**/1",
]  # fmt: skip
"""JSON that may not stand there, and what is no JSON."""

_KEYS = ["", "a", "\ud800", "__class__", "prompt", "plan", "x" * 5000]
_HEADERS = {
    "x-hitree-timeout-ms": ["", "0", "1", "-1", "1e3", "9" * 18, "9" * 400, "9" * 5000, "\xb2"],
    "last-event-id": ["", "0-0-0", "3-1-0", "999999-999999-999999", "1-1", "\xb2-1-1"],
    "inference-header-content-length": ["", "0", "2", "-1", "9" * 5000, "1_0"],
    "content-type": ["", "text/plain", "application/json; charset=utf-16", "multipart/form-data"],
    "content-encoding": ["gzip", "deflate", "nonsense"],
    "authorization": ["Bearer", "Bearer \xff", "\xff"],
    "x-request-id": ["", "\xff", "x" * 5000],
    "traceparent": ["", "\xff", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"],
}


@st.composite
def bodies(draw: st.DrawFn, good: Any) -> bytes:
    """The JSON of ``good`` with one or two values replaced, or fields added, by odd ones."""
    changed = {"body": json.loads(json.dumps(good))}
    odd = []
    for _ in range(draw(st.integers(1, 2))):
        holder, key = draw(st.sampled_from(list(_places(changed))))
        if isinstance(holder[key], dict) and draw(st.booleans()):
            holder, key = holder[key], draw(st.sampled_from(_KEYS))
        holder[key] = _MARK
        odd.append(draw(st.sampled_from(_ODD)))
    text = json.dumps(changed["body"])
    for one in odd:
        text = text.replace(json.dumps(_MARK), one, 1)
    return text.encode("latin-1")


headers = st.fixed_dictionaries(
    {},
    optional={
        name: (st.sampled_from(odd) | st.text(st.characters(codec="latin-1"), max_size=9)).map(
            lambda value: "".join(c for c in value if c > " " and c != "\x7f").encode("latin-1")
        )
        for name, odd in _HEADERS.items()
    },
)
"""Headers that the doors read, with whatever value."""


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where there is a value in JSON: what holds it, and by which key or index."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
