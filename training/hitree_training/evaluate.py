"""The one evaluation: ``hitree-train evaluate`` for checkpoints, ``hitree-export evaluate`` for
what ships, on held-out drawings, real, drawn and sampled apart.

A table is measured where all that it needs is there. Every table in the file of figures says for
itself what was measured, on which drawings, with which seed; a later run replaces the tables that
it measures and leaves the others, so that the long ones need not be measured again.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any  # Any: JSON

from rich.console import Console

from hitree_training import checkpoint, data
from hitree_training.evaluation.tables import REFERENCE, TABLES, EvaluationError, Held
from hitree_training.trained import digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hitree_training.checkpoint import Checkpoint
    from hitree_training.evaluation.tables import Options
    from hitree_training.trained import Trained

SAID = {"reference": f"{REFERENCE} in --data"}  # needs that are no option


def evaluate(trained: Trained, about: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Measure tables, write each to ``options.out`` as it is done, and return all of the file.

    ``about`` says where each network comes from, by model: plain data without paths.

    Raises:
        EvaluationError: a table is unknown, or lacks what it needs.
        hitree_training.data.DataError: there are no drawings of the split.
    """
    held = Held(trained, options)
    names = wanted(held)
    found = read(options.out)
    with Console(stderr=True).status("…") as status:
        for name in names:
            status.update(name)
            figures = TABLES[name].measure(held)
            found["tables"][name] = {**origin(held, name, about), "figures": figures}
            write(options.out, found)
    return found


def wanted(held: Held) -> list[str]:
    """The tables to measure.

    Raises:
        EvaluationError: one that was asked for is unknown or lacks what it needs; or nothing can
            be measured.
    """
    lacks = {
        name: [need for need in table.needs if not held.has(need)] for name, table in TABLES.items()
    }
    for name in held.options.tables:
        if name not in TABLES:
            raise EvaluationError(f"there is no table {name}; there are: {', '.join(TABLES)}")
        if lacks[name]:
            needs = " and ".join(SAID.get(need, f"--{need}") for need in lacks[name])
            raise EvaluationError(f"the table {name} needs {needs} as well")
    names = [name for name in TABLES if name in held.options.tables or not held.options.tables]
    found = [name for name in names if not lacks[name]]
    if not found:
        raise EvaluationError("nothing can be measured; give checkpoints, for instance --decoder")
    return found


def origin(held: Held, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a table's figures are of."""
    return {
        "git_sha": checkpoint.git_sha(),
        "split": held.options.split,
        "seed": held.options.seed,
        "guidance": held.options.guidance,
        "networks": {
            model: {**one, "weights": digest(getattr(held.trained, model))}
            for model, one in about.items()
            if model in TABLES[name].needs
        },
        "judges": {
            option: describe(checkpoint.load(path, model))
            for option, model in (("judge", "judge"), ("recogniser", "classifier"))
            if option in TABLES[name].needs and (path := getattr(held.options, option))
        },
        "data": {
            kind: {
                "drawings": len(some),
                "annotated": sum(e.annotation is not None for e in some),
                "data_hash": data.data_hash(some),
            }
            for kind, some in held.examples.items()
        },
    }


def describe(found: Checkpoint) -> dict[str, Any]:
    """Where a checkpoint's network comes from."""
    return {"step": found.step, "data_hash": found.data_hash, "git_sha": found.git_sha}


def read(path: Path) -> dict[str, Any]:
    """A file of figures; an empty one where there is none.

    Raises:
        EvaluationError: it is of another form.
    """
    if not path.is_file():
        return {"tables": {}}
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found["tables"], dict):
            return dict(found)
    except (ValueError, KeyError, TypeError) as exc:
        raise EvaluationError(f"{path} holds no figures: {exc!r}; choose another file") from exc
    raise EvaluationError(f"{path} holds no figures; choose another file")


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures to a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(plain(figures), indent=1) + "\n")
    fresh.replace(path)


def plain(value: Any) -> Any:
    """Figures as JSON knows them: what is no number is null, floats keep six digits."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
