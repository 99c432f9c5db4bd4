"""Threads that compute give way to the doors where they share a core.

The event loop needs a core in short turns: to accept a call, to refuse one, to send a point. Where
a thread that computes all the time gets as much of the core, requests queue up unread, rows stay
empty, and a refusal takes as long as a drawing.
"""

from __future__ import annotations

import os
import sys

ENGINE, MODELS = 10, 15  # beyond the process; a drawing that has begun goes before a plan


def give_way(by: int) -> None:
    """Lower the priority of this thread, for good."""
    if sys.platform == "linux":  # where each thread has one of its own
        this = 0
        os.setpriority(os.PRIO_PROCESS, this, os.getpriority(os.PRIO_PROCESS, this) + by)
