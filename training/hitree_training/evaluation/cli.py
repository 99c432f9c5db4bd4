"""The commands that measure: ``hitree-train evaluate``, ``judge``, ``contrast`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hitree_training import checkpoint, evaluate, presets, sample, train_judge
from hitree_training.evaluation import contrast, report, tables
from hitree_training.models.judge import JudgePreset
from hitree_training.sample import Sampling
from hitree_training.trained import Trained

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

# What ``hitree-export evaluate`` takes as well.
Data = Annotated[
    Path | None, typer.Option("--data", help="Data folder; the built-in set by default.")
]
Names = Annotated[
    list[str] | None,
    typer.Option("--table", help=f"Repeatable: {', '.join(tables.TABLES)}; by default all."),
]
Split = Annotated[str, typer.Option(help="valid or test.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is random.")]
Trees = Annotated[
    Path | None,
    typer.Option("--trees", help="Trees of the split's drawings, from `hitree-train trees`."),
]
Runs = Annotated[
    list[Path] | None,
    typer.Option("--runs", help="A decoder trained for the table of conditions; repeatable."),
]
Variants = Annotated[
    list[Path] | None,
    typer.Option("--variants", help="A generator for the table of texts; repeatable."),
]
Judge = Annotated[Path | None, typer.Option("--judge", help="From `hitree-train judge`.")]
Recogniser = Annotated[
    Path | None,
    typer.Option("--recogniser", help="A classifier that judges drawings and is not served."),
]
Guidance = Annotated[float, typer.Option(help="With which the decoder draws; 1: none.")]
Weights = Annotated[Path | None, typer.Option(help="Checkpoint; left out if not given.")]


@app.command("evaluate")
def measure(
    out: Annotated[Path, typer.Option("--out", help="The JSON file of figures; it is added to.")],
    data: Data = None,
    generator: Weights = None,
    scorer: Weights = None,
    decoder: Weights = None,
    classifier: Weights = None,
    names: Names = None,
    split: Split = "test",
    seed: Seed = 0,
    trees: Trees = None,
    runs: Runs = None,
    variants: Variants = None,
    judge: Judge = None,
    recogniser: Recogniser = None,
    guidance: Guidance = 1.0,
) -> None:
    """Measure trained models on held-out drawings: every table, or those that are named."""
    paths = {"decoder": decoder, "generator": generator, "scorer": scorer, "classifier": classifier}
    found = {model: checkpoint.load(path, model) for model, path in paths.items() if path}
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
    about = {model: evaluate.describe(one) for model, one in found.items()}
    evaluate.evaluate(Trained.of(found), about, options)
    typer.echo(str(out))


@app.command("judge")
def train(
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")] = Path(
        "checkpoints"
    ),
    preset: Annotated[str, typer.Option(help="Name of a preset, or a .toml file.")] = "judge",
    minutes: Annotated[
        float | None, typer.Option(help="Wall-clock budget; instead of a number of steps.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = train_judge.Options.steps,
    seed: Seed = train_judge.Options.seed,
) -> None:
    """Train the judge of drawn segments, which the table on steering needs."""
    chosen = presets.load(JudgePreset, preset)
    train_judge.train(
        train_judge.Options(data, out / "judge.pt", chosen, minutes, steps=steps, seed=seed)
    )


@app.command("contrast")
def show(
    decoder: Annotated[Path, typer.Option(help="Checkpoint of the decoder.")],
    out: Annotated[Path, typer.Option("--out", help="The picture.")],
    seed: Seed = 0,
    guidance: Guidance = 1.0,
) -> None:
    """Draw pairs of instructions that differ in one trait, on one picture."""
    by = Sampling(seed=seed, guidance=guidance)
    contrast.grid(sample.load(decoder), by).savefig(out, dpi=60)
    typer.echo(str(out))


@app.command("report")
def tell(
    figures: Annotated[Path, typer.Option(help="What `evaluate` wrote.")],
    into: Annotated[Path, typer.Option(help="A document with markers of tables.")],
) -> None:
    """Put tables of figures into a document, between its markers."""
    for name in report.fill(figures, into):
        typer.echo(name)
