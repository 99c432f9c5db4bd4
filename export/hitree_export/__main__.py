"""``hitree-export``: from checkpoints to a bundle, and what a bundle is worth."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer
from rich.console import Console

from hitree.errors import HiTreeError
from hitree_export import bundle as bundles
from hitree_export import evaluate
from hitree_export.graphs import ExportError
from hitree_training.checkpoint import CheckpointError
from hitree_training.data import DataError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def bundle(
    decoder: Annotated[Path, typer.Option(help="Checkpoint of the sketch decoder.")],
    generator: Annotated[Path, typer.Option(help="Checkpoint of the instruction generator.")],
    scorer: Annotated[Path, typer.Option(help="Checkpoint of the tree scorer.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; replaced if it exists.")],
    version: Annotated[str, typer.Option(help="Version; by default the project's.")] = "",
    setting: Annotated[
        list[str] | None, typer.Option(help="A default of the service: NAME=NUMBER, repeatable.")
    ] = None,
) -> None:
    """Export checkpoints into a bundle; refused where a graph differs from its network."""
    console = Console(stderr=True)
    sources = bundles.Sources(decoder, generator, scorer)
    settings = dict(map(_number, setting or []))
    with console.status("…") as status:
        made = bundles.make(
            sources, out, label=version, settings=settings, note=lambda text: status.update(text)
        )
    console.print(f"{made.path}: {made.manifest.name} {made.manifest.version}")


@app.command("evaluate")
def measure(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    out: Annotated[Path, typer.Option("--json", help="The file of figures.")],
    data: Annotated[
        Path | None, typer.Option(help="Data folder; the built-in set by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
) -> None:
    """Measure what a bundle writes and how it parses, on held-out drawings."""
    found = evaluate.evaluate(evaluate.Options(bundle=bundle, out=out, folder=data, split=split))
    typer.echo(json.dumps(found, indent=1))


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
    except (CheckpointError, DataError, ExportError, HiTreeError) as exc:
        sys.stderr.write(f"hitree-export: {exc}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
