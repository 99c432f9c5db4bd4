"""``hitree-train``: train, measure and feed the models.

Without ``--data`` every command works on the built-in set, the project's own drawings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console

from hitree.errors import HiTreeError
from hitree.parse import PARSER
from hitree_training import (
    fetch,
    presets,
    sample,
    train_classifier,
    train_decoder,
    train_generator,
    train_scorer,
    trees,
    tuning,
)
from hitree_training.checkpoint import CheckpointError
from hitree_training.data import DataError, Kind
from hitree_training.evaluation import cli as measuring
from hitree_training.evaluation.report import ReportError
from hitree_training.evaluation.tables import EvaluationError
from hitree_training.explain import Parsing
from hitree_training.fetch import FetchError
from hitree_training.models.classifier import ClassifierPreset
from hitree_training.models.decoder import DecoderPreset
from hitree_training.models.generator import GeneratorPreset
from hitree_training.models.scorer import ScorerPreset
from hitree_training.presets import PresetError
from hitree_training.sequences import Condition

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.registered_commands += measuring.app.registered_commands

Data = Annotated[
    Path | None, typer.Option("--data", help="Data folder; the built-in set by default.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for checkpoints.")]
Preset = Annotated[str, typer.Option(help="Name of a preset, or a .toml file.")]
Minutes = Annotated[
    float | None, typer.Option(help="Wall-clock budget; instead of a number of steps.")
]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps; the model's own by default.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is random.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the checkpoint in --out.")]

CHECKPOINTS = Path("checkpoints")
ERRORS = (
    CheckpointError,
    DataError,
    EvaluationError,
    FetchError,
    HiTreeError,
    PresetError,
    ReportError,
)


@app.command()
def generator(
    data: Data = None,
    out: Out = CHECKPOINTS,
    preset: Preset = "generator-small",
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = False,
    text_from: Annotated[
        Path | None,
        typer.Option(help="A generator whose text decoder and plan mode are begun with."),
    ] = None,
) -> None:
    """Train the instruction generator, both describing and planning."""
    _train_generator(data, out, preset, minutes, steps, seed, resume, text_from=text_from)


@app.command()
def planner(
    inferred: Annotated[Path, typer.Option("--trees", help="What `hitree-train trees` wrote.")],
    data: Data = None,
    out: Out = CHECKPOINTS,
    preset: Preset = "generator-small",
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Train the instruction generator on inferred trees beside the annotated ones."""
    _train_generator(data, out, preset, minutes, steps, seed, resume, inferred=inferred)


def _train_generator(
    data: Path | None,
    out: Path,
    preset: str,
    minutes: float | None,
    steps: int | None,
    seed: int,
    resume: bool,
    inferred: Path | None = None,
    text_from: Path | None = None,
) -> None:
    train_generator.train(
        train_generator.Options(
            folder=data,
            out=out / "generator.pt",
            preset=presets.load(GeneratorPreset, preset),
            minutes=minutes,
            steps=steps or train_generator.Options.steps,
            seed=seed,
            resume=resume,
            trees=inferred,
            text_from=text_from,
        )
    )


@app.command()
def scorer(
    data: Data = None,
    out: Out = CHECKPOINTS,
    preset: Preset = "scorer-small",
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = False,
    towers: Annotated[
        Path | None, typer.Option(help="A scorer whose towers are kept; unity alone is trained.")
    ] = None,
) -> None:
    """Train the tree scorer."""
    chosen = presets.load(ScorerPreset, preset)
    train_scorer.train(
        train_scorer.Options(
            folder=data,
            out=out / "scorer.pt",
            preset=chosen,
            minutes=minutes,
            steps=steps or train_scorer.Options.steps,
            seed=seed,
            resume=resume,
            towers=towers,
        )
    )


@app.command()
def classifier(
    data: Data = None,
    out: Out = CHECKPOINTS,
    preset: Preset = "classifier-small",
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Train the classifier, which tells the subject of a drawing."""
    chosen = presets.load(ClassifierPreset, preset)
    train_classifier.train(
        train_classifier.Options(
            folder=data,
            out=out / "classifier.pt",
            preset=chosen,
            minutes=minutes,
            steps=steps or train_classifier.Options.steps,
            seed=seed,
            resume=resume,
        )
    )


@app.command()
def decoder(
    data: Data = None,
    out: Out = CHECKPOINTS,
    preset: Preset = "decoder-small",
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = False,
    condition: Annotated[str, typer.Option(help="none, root or stack: what it is told.")] = "stack",
    matching: Annotated[
        bool, typer.Option("--matching", help="Add the talk's matching loss.")
    ] = False,
    inferred: Annotated[
        Path | None, typer.Option("--trees", help="What `hitree-train trees` wrote.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A subject to hold out; repeatable.")
    ] = None,
    begin: Annotated[
        Path | None, typer.Option("--from", help="A checkpoint to take the first weights from.")
    ] = None,
    rate: Annotated[
        float, typer.Option(help="Highest learning rate.")
    ] = train_decoder.Options.rate,
) -> None:
    """Train the sketch decoder."""
    if condition not in get_args(Condition):
        raise typer.BadParameter(f"--condition is {condition}; choose none, root or stack")
    chosen = presets.load(DecoderPreset, preset)
    train_decoder.train(
        train_decoder.Options(
            folder=data,
            out=out / "decoder.pt",
            preset=chosen,
            minutes=minutes,
            steps=steps or train_decoder.Options.steps,
            seed=seed,
            rate=rate,
            resume=resume,
            begin=begin,
            condition=cast("Condition", condition),
            matching=matching,
            trees=inferred,
            without=frozenset(without or ()),
        )
    )


@app.command("trees")
def infer_trees(
    generator: Annotated[Path, typer.Option(help="Checkpoint of the generator.")],
    scorer: Annotated[Path, typer.Option(help="Checkpoint of the scorer.")],
    out: Annotated[Path, typer.Option("--out", help="The file of trees; it is gone on with.")],
    data: Data = None,
    kind: Annotated[list[str], typer.Option(help="real, drawn or sampled; repeatable.")] = [  # noqa: B006 (typer copies it)
        "real",
        "drawn",
        "sampled",
    ],
    split: Annotated[list[str], typer.Option(help="train, valid or test; repeatable.")] = ["train"],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="At most so many drawings.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes to share the work.")] = 1,
    parser: Annotated[str, typer.Option(help="greedy, cky or bottom_up.")] = PARSER,
    max_nodes: Annotated[int, typer.Option(min=1, help="Nodes of a tree at most.")] = 16,
) -> None:
    """Infer the instruction trees of a data set."""
    written = trees.infer(
        trees.Options(
            folder=data,
            out=out,
            generator=generator,
            scorer=scorer,
            kinds=cast("tuple[Kind, ...]", tuple(kind)),
            splits=tuple(split),
            limit=limit,
            processes=processes,
            parsing=Parsing(parser=parser, max_nodes=max_nodes),
        )
    )
    typer.echo(f"{written} trees written to {out}")


@app.command("tune")
def choose(
    generator: Annotated[Path, typer.Option(help="Checkpoint of the generator.")],
    scorer: Annotated[Path, typer.Option(help="Checkpoint of the scorer.")],
    data: Data = None,
) -> None:
    """Show which parsing weights and pruning threshold agree best with held-out annotations."""
    weights, thresholds = tuning.tune(generator, scorer, data)
    plain = [setting for setting in weights[5:] if not setting.weights.reads_text]
    for setting in [*weights[:5], *plain, *thresholds[:5]]:
        typer.echo(
            f"f1 {setting.f1:.4f}  {setting.weights}  threshold {setting.threshold}  "
            f"{setting.nodes:.2f} nodes, {setting.wanted:.2f} annotated"
        )


@app.command("samples")
def show(
    decoder: Annotated[Path, typer.Option(help="Checkpoint of the decoder.")],
    out: Annotated[Path, typer.Option("--out", help="The picture.")],
    data: Data = None,
    subject: Annotated[list[str] | None, typer.Option(help="Repeatable; all by default.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, max=2.0)] = 0.4,
    seed: Seed = 0,
) -> None:
    """Draw held-out instructions with a decoder, on one picture."""
    requests = sample.held_out(data, subject)
    by = sample.Sampling(temperature=temperature, seed=seed)
    drawn = sample.draw(sample.load(decoder), requests, by)
    sample.picture(drawn).savefig(out)
    typer.echo(str(out))


@app.command("fetch")
def download(
    categories: Annotated[list[str], typer.Argument(help='For instance flamingo "sea turtle".')],
    out: Annotated[Path, typer.Option("--out", help="The data folder.")],
    limit: Annotated[int | None, typer.Option(help="Drawings of each that are kept.")] = None,
    url: Annotated[str, typer.Option(help="Where the categories lie.")] = fetch.URL,
) -> None:
    """Download categories of the public Quick, Draw! data set."""
    for path in fetch.fetch(categories, out, limit=limit, url=url):
        typer.echo(str(path))


def main() -> None:
    """Run ``hitree-train``; errors that tell what to do are shown without a traceback."""
    try:
        app()
    except ERRORS as exc:
        Console(stderr=True).print(f"[red]error:[/] {exc}", soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
