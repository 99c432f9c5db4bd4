"""Assembling a bundle: graphs that passed the parity checks, words, and where it all comes from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from hitree import bundle
from hitree_export import networks, parity
from hitree_export.attribution import LICENCES
from hitree_export.graphs import ExportError, Graphs, export_all
from hitree_training import checkpoint, data, evaluate
from hitree_training.trained import MODELS, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from hitree_export.networks import Networks
    from hitree_export.parity import Report

MOST_BYTES = 40_000_000  # of all files, so that a package index takes the distribution
TEXT_FILES = ("tokens.npz", "tokenizer.json")  # of the built-in set
LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy")

# Figures that a manifest does not repeat: single subjects, and what networks are compared with.
DETAILS = frozenset({"subjects", "taken_for", "missing"})
BESIDE = frozenset({"talk", "frequent", "nearest", "oracle", "trivial", "at random"})

SETTINGS = {
    "temperature": 0.3,  # of the decoder, chosen by looking: above, lines shake
    "plan_temperature": 0.7,  # of the generator
    "subject_threshold": 0.64,  # cosine from which a word means a subject: lamb yes, horse no
    "prune": 0.0,  # log-odds of being a step below which an annotation leaves a segment out
    # Points after which a leaf is over whatever the decoder says: 997 of 1,000 annotated steps
    # of real and drawn drawings have 58 at most.
    "max_points_leaf": 60.0,
}


@dataclass(frozen=True)
class Sources:
    """The checkpoints that a bundle is made of."""

    decoder: Path
    generator: Path
    scorer: Path
    classifier: Path


def make(
    sources: Sources,
    out: Path,
    *,
    label: str = "",
    settings: Mapping[str, float] | None = None,
    figures: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> bundle.Bundle:
    """Export four checkpoints into the bundle ``out``, replacing what is there.

    ``label`` is the bundle's version, by default the project's with its commit; ``settings`` stand
    in for some of `SETTINGS`; ``figures`` is a file that `hitree_training.evaluate` wrote of these
    checkpoints, whose figures the manifest carries; ``note`` is told what is being done.

    Raises:
        hitree_training.checkpoint.CheckpointError: a checkpoint is missing or unreadable.
        ExportError: the checkpoints do not fit together, the bundle is too large, a graph does not
            do what its network does, or the figures are of other networks; nothing is written then.
        EvaluationError: ``figures`` is no file of figures.
    """
    unknown = sorted((settings or {}).keys() - SETTINGS.keys())
    if unknown:
        raise ExportError(
            f"there is no setting {', '.join(unknown)}; there are: {', '.join(SETTINGS)}"
        )
    note("reading checkpoints")
    found = networks.load(**vars(sources))
    measured = dict(_measured(found, figures) if figures else _claimed(found))
    note("exporting graphs")
    graphs = export_all(found.decoder, found.generator, found.scorer, found.classifier)
    note("checking graphs against networks")
    report = parity.check(found, graphs)
    files = graphs.files | _text_files(found) | _package_files(out)
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        raise ExportError(
            f"the bundle has {size} bytes, the limit is {MOST_BYTES}; nothing written"
        )
    note(f"writing {size / 1e6:.1f} MB")
    fields = _describe(found, graphs, report)
    fields["metrics"] |= measured
    fields["version"] = label or _version(fields["git_sha"])
    fields["settings"] = SETTINGS | dict(settings or {})
    return bundle.write(out, files, fields)


def _text_files(found: Networks) -> dict[str, bytes]:
    files = {name: (data.BUILTIN / name).read_bytes() for name in TEXT_FILES}
    if data.token_vectors().width != found.token_width:
        raise ExportError(
            f"the checkpoints read token vectors of width {found.token_width}, the built-in ones "
            f"have {data.token_vectors().width}; train again"
        )
    return files | {"vocabulary.json": found.vocabulary.to_json().encode()}


def _package_files(out: Path) -> dict[str, bytes]:
    """What makes a Python package of the folder that is replaced: it stays one."""
    marker = out / "__init__.py"
    return {marker.name: marker.read_bytes()} if marker.is_file() else {}


def _describe(found: Networks, graphs: Graphs, report: Report) -> dict[str, Any]:
    """The manifest's fields that follow from what is exported."""
    return {
        "name": "hitree",
        "git_sha": checkpoint.git_sha(),
        "data_hash": _data_hash(found),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "graphs": graphs.feed_forward,
        "decoder": graphs.decoder,
        "generator": graphs.generator,
        "subjects": found.subjects,
        "scale": float(found.decoder.scale),
        "presets": {model: one.preset for model, one in found.checkpoints.items()},
        "metrics": {f"{model}.steps": float(one.step) for model, one in found.checkpoints.items()}
        | dict(flatten("parity", asdict(report))),
        "licences": LICENCES,
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _version(sha: str) -> str:
    """The project's version with its commit."""
    try:
        project = version("hitree")
    except PackageNotFoundError:  # run from a checkout that is not installed
        project = "0.0.0"
    return f"{project}+{sha}" if sha else project


def _data_hash(found: Networks) -> str:
    """The hash of what all were trained on; one of theirs together where they differ."""
    hashes = sorted({one.data_hash for one in found.checkpoints.values()})
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _claimed(found: Networks) -> Iterator[tuple[str, float]]:
    """What the checkpoints say of themselves on held-out drawings."""
    for model, one in found.checkpoints.items():
        yield from flatten(f"{model}.valid", one.extras.get("valid", {}))


def _measured(found: Networks, path: Path) -> Iterator[tuple[str, float]]:
    """The figures of a file that are of these networks; not each subject's own.

    Raises:
        ExportError: a table was measured on other weights.
    """
    weights = {model: digest(getattr(found, model)) for model in MODELS}
    for name, table in evaluate.read(path)["tables"].items():
        for model, one in table["networks"].items():
            if one["weights"] != weights[model]:
                raise ExportError(
                    f"the table {name} of {path.name} was measured on another {model}; "
                    "measure these checkpoints, then export"
                )
        if table["networks"]:
            yield from flatten(name, table["figures"])


def flatten(prefix: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Nested figures under dotted names; left out is what is no number, `DETAILS` and `BESIDE`."""
    for name, value in figures.items():
        if name in DETAILS | BESIDE:
            continue
        if isinstance(value, dict):
            yield from flatten(f"{prefix}.{name}", value)
        elif isinstance(value, int | float):
            yield f"{prefix}.{name}", float(value)
