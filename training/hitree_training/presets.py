"""Presets: small typed TOML files, one for each model and size, in ``presets/``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

FOLDER = Path(__file__).parent / "presets"


class Preset(BaseModel):
    """Base of all presets: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=Preset)


class PresetError(Exception):
    """A preset does not exist or does not fit its model."""


def load(cls: type[P], name: str) -> P:
    """Read a preset by name ("decoder-small") or by path ("my.toml").

    Raises:
        PresetError: it does not exist, or has unknown or ill-typed keys.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise PresetError(f"there is no preset {name}; there are: {known}; or give a .toml file")
    try:
        return cls.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as exc:
        raise PresetError(f"{path} is no {cls.__name__}: {exc}") from exc
