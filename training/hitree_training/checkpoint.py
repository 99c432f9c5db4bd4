"""Checkpoints that describe themselves: weights, preset, progress, and what they were made from."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint does not exist or cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to go on training, to export, or to tell where weights come from."""

    model: str  # "decoder", "generator", "scorer", "classifier"
    preset: dict[str, Any]  # as loaded, so that the network can be built again
    weights: dict[str, Any]  # state_dict of the network
    progress: float  # 0 to 1, how much of the schedule is done
    step: int  # optimiser steps taken
    data_hash: str
    extras: dict[str, Any] = field(default_factory=dict)  # plain data: vocabulary, scale, figures
    resume: dict[str, Any] = field(default_factory=dict)  # optimiser and random states
    git_sha: str = field(default_factory=lambda: git_sha())
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    versions: dict[str, str] = field(
        default_factory=lambda: {name: version(name) for name in ("torch", "numpy")}
    )
    format: int = FORMAT


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(vars(checkpoint), fresh)
    fresh.replace(path)


def load(path: Path, model: str) -> Checkpoint:
    """Read a checkpoint of ``model``; only tensors and plain data are ever unpickled.

    Raises:
        CheckpointError: it is missing, of another model or format, or unreadable.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; train one: hitree-train {model}")
    try:
        found = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as exc:  # torch.load raises many kinds
        raise CheckpointError(f"{path} cannot be read: {exc}") from exc
    if (found.model, found.format) != (model, FORMAT):
        raise CheckpointError(
            f"{path} holds a {found.model} in format {found.format}; expected a {model} in {FORMAT}"
        )
    return found


def git_sha() -> str:
    """The project's commit, with ``-dirty`` where files differ; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
