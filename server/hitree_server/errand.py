"""What a thread does for a call, and how it learns that the call is over.

Work in a thread cannot be stopped from outside. So it looks, between one graph and the next and
between the words of a text, whether anybody still waits for it: `go_on` raises where nobody does.
What the work is, need not know for whom it is done: the errand of a thread stands in its context.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from hitree.errors import Cancelled, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hitree_server.calls import Call


class Errand:
    """Work for a call; may be called off from any thread."""

    def __init__(self, name: str, call: Call) -> None:
        self.name = name
        self._call = call
        self._off = threading.Event()

    def call_off(self) -> None:
        """Have the work stop at its next look; nobody wants its result."""
        self._off.set()

    def look(self) -> None:
        """Return where the call goes on.

        Raises:
            DeadlineExceeded: its deadline passed.
            Cancelled: whoever waited for it has gone.
        """
        if self._call.remaining() == 0:
            raise self.late()
        if self._off.is_set():
            raise Cancelled(f"the call ended before the {self.name} was done")

    def late(self) -> DeadlineExceeded:
        """What a caller is told whose deadline passed."""
        return DeadlineExceeded(
            f"the deadline passed before the {self.name} was done; allow more time"
        )

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Make it the errand of this thread."""
        token = _ERRAND.set(self)
        try:
            self.look()
            yield
        finally:
            _ERRAND.reset(token)


_ERRAND: ContextVar[Errand | None] = ContextVar("errand", default=None)


def go_on() -> None:
    """Return where this thread's errand, if it has one, is still wanted.

    Raises:
        DeadlineExceeded, Cancelled: see `Errand.look`.
    """
    if (errand := _ERRAND.get()) is not None:
        errand.look()
