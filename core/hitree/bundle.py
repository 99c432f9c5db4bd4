"""Bundles: a folder with the exported models, what they need, and a manifest that describes it.

The manifest names every file with its sha256; loading checks them all, so that what is served is
what was exported and measured. Nothing in a bundle is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar  # Any: parsed JSON

from hitree.errors import BundleCorrupt, BundleIncomplete, InvalidInput

_T = TypeVar("_T", bound="Tensor")

MANIFEST = "manifest.json"
FORMAT = 1
FP32 = "fp32"


@dataclass(frozen=True)
class Tensor:
    """A per-row tensor of a step graph."""

    name: str  # name of the graph's input
    shape: tuple[int, ...]  # without the leading row axis
    dtype: str = "float32"


@dataclass(frozen=True)
class StateTensor(Tensor):
    """A tensor that the graph hands from one step to the next."""

    output: str = ""  # name of the graph's output that is the next step's input
    initial: tuple[float, ...] = (0.0,)  # one value for all elements, or one for each


@dataclass(frozen=True)
class StepGraph:
    """One step of a recurrent model: rows in, rows out, state carried by the caller.

    The sketch decoder's step draws up to S = ``stride`` stroke-5 rows of every sequence, one after
    the other. Where a segment ends, it goes on with the next leaf. Its inputs, a row of the batch
    each; an axis of 2 is the leaf at hand and the one after it:

    * ``noise`` (2, S, ``noise``): uniforms of the next rows under the leaf, and of the first ones;
    * ``temperature`` (1,) and ``condition`` (2, C), made by the graph of that name;
    * ``forced`` (S, 5) and ``force`` (S,): a row to be made as it is given, where 1;
    * ``last`` (2,): 1 for the leaf that may end the drawing, which it may after its first row;
    * ``begun`` (1,): 0 where the leaf at hand has no row; the pen is lifted then;
    * ``limit`` (2,): rows to draw at most; 0 keeps the batch's row as it is, or the leaf unbegun.

    Its outputs: ``made`` (2,), the rows that were drawn under either leaf, and ``points`` (S, 3):
    the position after each in units, and what ends with it, as in `hitree.stroke5`.
    """

    file: str  # in float32
    inputs: tuple[Tensor, ...]  # per-row inputs beside the state
    outputs: tuple[Tensor, ...]  # per-row outputs beside the state
    state: tuple[StateTensor, ...]
    noise: int  # uniforms that a drawn row takes, the width of the input "noise"
    precisions: dict[str, str] = field(default_factory=dict)  # others, "int8", … -> file
    best: dict[str, str] = field(default_factory=dict)  # provider -> the precision to use there
    dense: tuple[str, ...] = ()  # precisions that do the same work in every step
    rows: str = ""  # file of the graph that puts rows of the state in another order
    stride: int = 1  # rows that a step draws of a sequence at most

    def choose(self, provider: str, precision: str = "auto") -> tuple[str, str]:
        """The precision to use on ``provider``, and its file.

        Raises:
            InvalidInput: the bundle has no graph of the ``precision`` that is asked for.
        """
        files = {FP32: self.file, **self.precisions}
        chosen = self.best.get(provider, FP32) if precision == "auto" else precision
        if chosen not in files:
            raise InvalidInput(
                f"the bundle has no {chosen} graph of the decoder; it has {', '.join(files)}"
            )
        return chosen, files[chosen]


@dataclass(frozen=True)
class Manifest:
    """What a bundle is and where it comes from."""

    name: str  # "hitree"
    version: str  # of the bundle, for instance "0.1.0+3f2a91c"
    format: int  # of this manifest
    git_sha: str  # of the project when it was exported
    data_hash: str  # of the training data
    created: str  # ISO 8601, UTC
    sha256: dict[str, str]  # file -> hash, every file of the bundle but the manifest
    graphs: dict[str, str]  # name of a feed-forward graph -> file
    decoder: StepGraph  # the sketch decoder's step
    generator: StepGraph  # the instruction generator's step
    subjects: tuple[str, ...]  # with spaces, sorted
    scale: float  # units that one unit of the decoder's offsets stands for
    presets: dict[str, dict[str, str | float]] = field(default_factory=dict)  # of each network
    settings: dict[str, float] = field(default_factory=dict)  # defaults: temperature, thresholds
    metrics: dict[str, float] = field(default_factory=dict)  # quality figures at export
    licences: dict[str, str] = field(default_factory=dict)  # source -> licence
    versions: dict[str, str] = field(default_factory=dict)  # libraries at export

    @property
    def label(self) -> str:
        """Name and version as one word, "hitree@0.1.0+3f2a91c"."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files were checked."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of one of the bundle's files."""
        return self.path / name


def load(path: Path) -> Bundle:
    """Read a bundle and check every file against the manifest.

    Raises:
        BundleIncomplete: the folder, its manifest or one of its files is missing.
        BundleCorrupt: the manifest cannot be read, or a file is not what it says.
    """
    manifest = _read_manifest(path / MANIFEST)
    for name, expected in manifest.sha256.items():
        if Path(name).name != name or name in ("", ".."):  # would read outside the folder
            raise BundleCorrupt(f"{path / MANIFEST} names {name!r}, which is no plain file name")
        _check_file(path / name, expected)
    steps = (manifest.decoder, manifest.generator)
    files = [file for step in steps for file in (step.file, *step.precisions.values())]
    files += [step.rows for step in steps if step.rows]
    for name in (*manifest.graphs.values(), *files):
        if name not in manifest.sha256:
            raise BundleCorrupt(f"{path / MANIFEST} names {name} without a hash; export it again")
    return Bundle(path, manifest)


def write(path: Path, files: dict[str, bytes], describe: dict[str, Any]) -> Bundle:
    """Write a bundle beside ``path`` and rename it there when it is whole.

    ``describe`` holds the manifest's fields but ``sha256`` and ``format``. A bundle that is there
    already is replaced; nothing is touched where the new one cannot be written.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = Manifest(**describe, sha256=hashes, format=FORMAT)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        fresh, old = Path(scratch, "new"), Path(scratch, "old")
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        (fresh / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    return Bundle(path, manifest)


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BundleIncomplete(f"the bundle lacks {path}; copy or export it again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise BundleCorrupt(
            f"{path} has sha256 {found[:12]}…, the manifest says {expected[:12]}…; "
            "copy or export the bundle again"
        )


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise BundleIncomplete(f"there is no bundle at {path.parent}: it has no {MANIFEST}")
    try:
        raw = json.loads(path.read_bytes())
        if raw.get("format") != FORMAT:
            raise BundleCorrupt(
                f"{path} has format {raw.get('format')}, this version reads {FORMAT}; "
                "install the matching hitree-bundle"
            )
        for name in ("decoder", "generator"):
            raw[name] = _step_graph(raw[name])
        raw["subjects"] = tuple(raw["subjects"])
        manifest = Manifest(**raw)
        _check_tables(manifest)
        return manifest
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleCorrupt(f"{path} is no manifest: {exc}; export the bundle again") from exc


def _check_tables(manifest: Manifest) -> None:
    """Refuse tables that are none, and values of the wrong type in them."""
    for name in ("sha256", "graphs", "licences", "versions", "settings", "metrics"):
        table = getattr(manifest, name)
        expected: tuple[type, ...] = (int, float) if name in ("settings", "metrics") else (str,)
        if not isinstance(table, dict):
            raise TypeError(f"{name} is no table")
        _check_values(name, table, expected)
    for model, preset in manifest.presets.items():
        _check_values(f"the preset of the {model}", preset, (str, int, float))


def _check_values(name: str, table: dict[str, Any], expected: tuple[type, ...]) -> None:
    wrong = [key for key, value in table.items() if not isinstance(value, expected)]
    if wrong:
        raise TypeError(f"{name} has a value of the wrong type for {', '.join(wrong)}")


def _step_graph(raw: dict[str, Any]) -> StepGraph:
    unknown = raw.keys() - {f.name for f in fields(StepGraph)}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    graph = StepGraph(
        file=raw["file"],
        inputs=tuple(_tensor(Tensor, t) for t in raw["inputs"]),
        outputs=tuple(_tensor(Tensor, t) for t in raw["outputs"]),
        state=tuple(_tensor(StateTensor, t) for t in raw["state"]),
        noise=raw["noise"],
        precisions=dict(raw.get("precisions", {})),
        best=dict(raw.get("best", {})),
        dense=tuple(raw.get("dense", ())),
        rows=raw.get("rows", ""),
        stride=raw.get("stride", 1),
    )
    if not (isinstance(graph.stride, int) and graph.stride >= 1):
        raise ValueError(f"a step draws 1 row of a sequence or more, not {graph.stride!r}")
    for provider, precision in graph.best.items():
        if precision not in {FP32, *graph.precisions}:
            raise ValueError(f"the best precision on {provider}, {precision!r}, is not there")
    return graph


def _tensor(cls: type[_T], raw: dict[str, Any]) -> _T:
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return cls(**lists)
