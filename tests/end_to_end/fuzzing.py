"""What tests share that send a service whatever hypothesis draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis import strategies as st

SECONDS = 20  # that no answer may take, on a busy machine

SHORT, LONG = 10, 300  # examples
AMOUNTS = [
    pytest.param(SHORT, id="short"),
    pytest.param(LONG, id="long", marks=pytest.mark.full),
]


def fuzz(amount: int, drawn: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Check so many examples; the few of the short tier are always the same."""
    chosen = settings(
        max_examples=amount,
        derandomize=amount == SHORT,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),  # messages are large on purpose
    )
    chosen(given(drawn)(check))()
