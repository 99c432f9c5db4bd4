"""``hitree-export``: from checkpoints to a bundle, and what a bundle is worth."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from hitree.bundle import load
from hitree.errors import HiTreeError
from hitree_export import bundle as bundles
from hitree_export import evaluate, networks, precision
from hitree_export.graphs import ExportError
from hitree_training import checkpoint
from hitree_training.checkpoint import CheckpointError
from hitree_training.data import DataError
from hitree_training.evaluation import cli as measuring
from hitree_training.evaluation import tables
from hitree_training.evaluation.tables import EvaluationError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def bundle(
    decoder: Annotated[Path, typer.Option(help="Checkpoint of the sketch decoder.")],
    generator: Annotated[Path, typer.Option(help="Checkpoint of the instruction generator.")],
    scorer: Annotated[Path, typer.Option(help="Checkpoint of the tree scorer.")],
    classifier: Annotated[Path, typer.Option(help="Checkpoint of the classifier.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; replaced if it exists.")],
    version: Annotated[str, typer.Option(help="Version; by default the project's.")] = "",
    setting: Annotated[
        list[str] | None, typer.Option(help="A default of the service: NAME=NUMBER, repeatable.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="What `evaluate` wrote of these checkpoints.")
    ] = None,
) -> None:
    """Export checkpoints into a bundle; refused where a graph differs from its network."""
    console = Console(stderr=True)
    sources = bundles.Sources(decoder, generator, scorer, classifier)
    settings = dict(map(_number, setting or []))
    with console.status("…") as status:
        made = bundles.make(
            sources,
            out,
            label=version,
            settings=settings,
            figures=figures,
            note=lambda text: status.update(text),
        )
    console.print(f"{made.path}: {made.manifest.name} {made.manifest.version}")


@app.command("evaluate")
def measure(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    out: Annotated[Path, typer.Option("--json", help="The file of figures; it is added to.")],
    data: measuring.Data = None,
    names: measuring.Names = None,
    split: measuring.Split = "test",
    seed: measuring.Seed = 0,
    trees: measuring.Trees = None,
    runs: measuring.Runs = None,
    variants: measuring.Variants = None,
    judge: measuring.Judge = None,
    recogniser: measuring.Recogniser = None,
    guidance: measuring.Guidance = 1.0,
) -> None:
    """Measure what ships on held-out drawings: every table, or those that are named."""
    options = tables.Options(
        out=out,
        folder=data,
        split=split,
        tables=tuple(names or ()),
        seed=seed,
        trees=trees,
        runs=tuple(runs or ()),
        variants=tuple(variants or ()),
        judge=judge,
        recogniser=recogniser,
        guidance=guidance,
    )
    evaluate.evaluate(bundle, options)
    typer.echo(str(out))


@app.command("precisions")
def precisions(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    data: measuring.Data = None,
    split: measuring.Split = "test",
) -> None:
    """Measure what each precision of the decoder's step costs, in nats a point."""
    with Console(stderr=True).status("…") as status:
        found = precision.measure(load(bundle), data, split, note=lambda text: status.update(text))
    table = Table("drawings", *next(iter(found.values())), box=box.MARKDOWN)
    for kind, nll in found.items():
        table.add_row(kind, *(f"{value:.4f}" for value in nll.values()))
    Console().print(table)


@app.command("checkpoints")
def restore(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.")],
) -> None:
    """Write a bundle's networks as checkpoints, to train on: `hitree-train decoder --from`."""
    for model, found in networks.checkpoints(load(bundle)).items():
        checkpoint.save(out / f"{model}.pt", found)
        typer.echo(str(out / f"{model}.pt"))


def _number(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as exc:
        raise ExportError(f"{text!r} is no setting; write NAME=NUMBER") from exc


def main() -> None:
    """Run the command line; a failure is one line on stderr and exit code 1."""
    try:
        app()
    except (CheckpointError, DataError, EvaluationError, ExportError, HiTreeError) as exc:
        sys.stderr.write(f"hitree-export: {exc}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
