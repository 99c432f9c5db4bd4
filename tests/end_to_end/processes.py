"""What tests of whole processes share."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Served:
    """Where a running service answers."""

    grpc: str  # "grpc://127.0.0.1:…"
    http: str  # "http://127.0.0.1:…"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of ours, which tests must not inherit."""
    ours = {name for name in os.environ if name.startswith("HITREE_")}
    return {name: value for name, value in os.environ.items() if name not in ours} | more
