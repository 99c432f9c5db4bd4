"""The command ``hitree``: plan, draw, annotate, serve, bench, model.

Results go to stdout, progress and errors to stderr. An error is one line and exit code 1, wrong
usage exit code 2. Where the service is, is told by HITREE_URL (see `hitree_sdk._config`).
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import entry_points, version
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.progress import Progress

from hitree import codec, quickdraw
from hitree.errors import HiTreeError, InvalidInput, MissingPackage, UnknownSubject
from hitree_sdk._client import Client
from hitree_sdk._narrator import Narrator, console
from hitree_sdk._sketch import Sketch, checked_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hitree.tree import Plan
    from hitree_sdk._info import ModelInfo

SERVE_GROUP = "hitree.serve"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Prompt = Annotated[str, typer.Argument(help="What to draw, in English.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a result.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same result.")]
Bundle = Annotated[
    str | None, typer.Option(help="Which of the served bundles answers: name, name@version.")
]
Nearest = Annotated[
    bool, typer.Option("--nearest", help="Take the nearest subject where none is recognised.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        with _reported():
            print(f"hitree {version('hitree')}")
        raise typer.Exit


@app.callback()
def begin(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Tell the version and exit."
        ),
    ] = False,
) -> None:
    """Plan sketches as instruction trees and draw them stroke by stroke."""


@app.command()
def plan(
    prompt: Prompt,
    seed: Seed = None,
    nearest: Nearest = False,
    bundle: Bundle = None,
    as_json: AsJson = False,
) -> None:
    """Write the plan for a prompt: the tree of instructions."""
    with _reported(), Client(bundle=bundle) as client:
        made = client.plan(prompt, seed=seed, nearest_subject=nearest)
        if as_json:
            _print_json(_plan_json(made))
        else:
            console().print(f"{made.subject} (confidence {made.confidence:.2f})")
            print(made)


@app.command()
def draw(
    prompt: Prompt,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: .svg, .png or .ndjson."),
    ] = None,
    seed: Seed = None,
    temperature: Annotated[
        float | None, typer.Option(help="Above 0, up to 2: low is tidy, high is wild.")
    ] = None,
    nearest: Nearest = False,
    by_leaf: Annotated[
        bool, typer.Option("--by-leaf", help="Give the strokes of each leaf a colour.")
    ] = False,
    bundle: Bundle = None,
    as_json: AsJson = False,
) -> None:
    """Draw a prompt and write the drawing to a file; without -o, --json prints the strokes."""
    if output is None and not as_json:
        raise typer.BadParameter("name a file to write, or ask for --json", param_hint="-o")
    with _reported(), Client(bundle=bundle) as client:
        if output is not None:
            checked_format(output)
        stream = client.draw(prompt, seed=seed, temperature=temperature, nearest_subject=nearest)
        with stream, Narrator() as narrator:
            for event in stream:
                narrator.tell(event)
        sketch = stream.result()
        if output is not None:
            sketch.save(output, by_leaf=by_leaf)
        if as_json:
            _print_json(_sketch_json(sketch, output))
        else:
            print(output)


@app.command()
def annotate(
    file: Annotated[Path, typer.Argument(help="Drawings, one a line: Quick, Draw! ndjson.")],
    subject: Annotated[
        str | None,
        typer.Option(help='What the drawings show; default: their word; "": recognise it.'),
    ] = None,
    bundle: Bundle = None,
    as_json: AsJson = False,
) -> None:
    """Infer the instruction tree behind each drawing of a file.

    A drawing that the service refuses is reported, the next one follows, the exit code is 1.
    """
    refused = 0
    with _reported(), Client(bundle=bundle) as client, _counted(file) as progress:
        for number, record in enumerate(quickdraw.read_simplified(file), 1):
            sketch = Sketch(list(record.drawing.strokes), subject=record.word)
            try:
                tree = client.annotate(sketch, subject=subject)
            except (InvalidInput, UnknownSubject) as exc:
                refused += 1
                _print_error(exc, f"drawing {number}: ")
            else:
                _print_tree(tree, record.key_id, as_json)
            progress.advance(progress.task_ids[0])
    if refused:
        raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC port; default 50051.")] = None,
    http_port: Annotated[int | None, typer.Option(help="HTTP port; default 3000.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle to serve.")] = None,
    also: Annotated[
        list[Path] | None, typer.Option(help="Folder of a further bundle; may be given again.")
    ] = None,
) -> None:
    """Serve gRPC and HTTP until interrupted."""
    with _reported():
        _find("serve")(host=host, port=port, http_port=http_port, bundle=bundle, also=also or None)


@app.command()
def bench(
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle to measure.")] = None,
    provider: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, int8 or fp16.")] = None,
    rows: Annotated[str, typer.Option(help="Numbers of rows, by commas.")] = "1,8,64,256",
    seconds: Annotated[float, typer.Option(min=0.01, help="For each figure.")] = 5.0,
) -> None:
    """Measure the engine against a bare loop around the decoder's step."""
    sizes = rows.split(",")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise typer.BadParameter(f"{rows!r} is no list of numbers", param_hint="--rows")
    with _reported():
        lines = _find("bench")(
            bundle=bundle,
            provider=provider,
            precision=precision,
            rows=[int(size) for size in sizes],
            seconds=seconds,
        )
        for line in lines:
            print(line, flush=True)


@app.command()
def model(bundle: Bundle = None, as_json: AsJson = False) -> None:
    """Tell what is served: bundle, models, providers, engine, limits."""
    with _reported(), Client(bundle=bundle) as client:
        info = client.model_info()
        if as_json:
            _print_json(asdict(info))
        else:
            _print_info(info)


def main() -> None:
    """Run the command line."""
    app()


def _find(name: str) -> Any:
    """What the server registers to be run; Any: its settings are the server's."""
    for entry in entry_points(group=SERVE_GROUP, name=name):
        try:
            return entry.load()
        except ImportError as exc:
            raise MissingPackage(
                f"the server cannot start: {exc}; pip install 'hitree[server]'"
            ) from exc
    raise MissingPackage("the server is not installed; pip install 'hitree[server]'")


@contextmanager
def _reported() -> Iterator[None]:
    """Turn errors into one line and exit code 1."""
    try:
        yield
        sys.stdout.flush()
    except HiTreeError as exc:
        _print_error(exc)
        raise typer.Exit(1) from exc
    except BrokenPipeError:
        raise  # the reader of our output has left: click ends quietly
    except OSError as exc:
        _drop_output()
        _fail(f"{exc.filename or 'output'}: {exc.strerror or exc}", exc)


def _drop_output() -> None:
    """Forget what could not be written to stdout, which Python tries once more at its end."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:  # an OSError: it is no file
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _fail(text: str, exc: Exception) -> NoReturn:
    console().print(f"error: {text}")
    raise typer.Exit(1) from exc


def _print_error(exc: HiTreeError, where: str = "") -> None:
    console().print(f"error: {where}{exc.reason}: {' '.join(exc.message.split())}")


@contextmanager
def _counted(file: Path) -> Iterator[Progress]:
    """A progress bar over the drawings of a file, on a terminal only."""
    err = console()
    total = None
    if err.is_terminal and file.is_file():
        with file.open("rb") as lines:
            total = sum(1 for line in lines if line.strip())
    # Rich would print results to stderr while its bar shows, also where stdout is a file.
    to_screen = sys.stdout.isatty()
    with Progress(
        console=err, disable=not err.is_terminal, transient=True, redirect_stdout=to_screen
    ) as progress:
        progress.add_task("annotating", total=total)
        yield progress


def _print_tree(tree: Plan, key_id: str, as_json: bool) -> None:
    if as_json:
        _print_json({"key_id": key_id, "nodes": _plan_json(tree)["nodes"]})
    else:
        print(f"{key_id or 'drawing'}: {tree.subject}\n{tree}")


def _print_info(info: ModelInfo) -> None:
    print(f"bundle    {info.bundle} {info.version} ({info.created}, git {info.git_sha[:12]})")
    print(f"served    {', '.join(info.bundles)}")
    engine = info.engine
    print(f"engine    {engine.provider}, {engine.precision}, {engine.max_rows} rows")
    print(f"models    {', '.join(entry.name for entry in info.models)}")
    for name, value in sorted(info.metrics.items()):
        print(f"{name:<40} {value:.4f}")


def _plan_json(made: Plan) -> dict[str, Any]:
    return codec.to_json(codec.plan_to_wire(made))


def _sketch_json(sketch: Sketch, output: Path | None) -> dict[str, Any]:
    return {
        "file": None if output is None else str(output),
        "subject": sketch.subject,
        "seed": sketch.seed,
        "plan": _plan_json(sketch.plan) if sketch.plan else None,
        "strokes": [stroke.tolist() for stroke in sketch.strokes],
    }


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))
