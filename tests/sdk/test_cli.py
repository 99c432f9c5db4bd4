"""The command line over a fake service."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hitree import codec, errors, events
from hitree.v1 import hitree_pb2 as pb
from hitree_sdk import Client, Sketch, _narrator, cli
from sdk.fakes import PLAN, STROKES, FakeTransport, Script, drawing_events, wired

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

TREE = pb.AnnotateResponse(tree=codec.plan_to_wire(PLAN.with_spans({1: (0, 2), 2: (2, 3)})))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """What the service behind the command answers."""
    script = Script([])

    def connect(**options: Any) -> Client:
        return Client("embedded", transport=FakeTransport(script), retries=0, **options)

    monkeypatch.setattr(cli, "Client", connect)
    return script


@pytest.fixture
def run() -> Run:
    return lambda *args: CliRunner().invoke(cli.app, [str(arg) for arg in args])


def test_plan_prints_the_tree(script: Script, run: Run) -> None:
    script.answers = [pb.PlanResponse(plan=codec.plan_to_wire(PLAN))]
    result = run("plan", "draw a flamingo", "--seed", 3, "--nearest")
    assert result.exit_code == 0
    assert result.stdout == "draw a flamingo\n├─ add the body\n└─ add two legs\n"
    assert "flamingo (confidence 0.75)" in result.stderr
    request = script.calls[0][1]
    assert (request.seed, request.options.nearest_subject) == (3, True)
    assert script.closed == 1


def test_plan_as_json(script: Script, run: Run) -> None:
    script.answers = [pb.PlanResponse(plan=codec.plan_to_wire(PLAN))]
    value = json.loads(run("plan", "draw a flamingo", "--json").stdout)
    assert value["subject"] == "flamingo"
    assert [(node["id"], node["parent"]) for node in value["nodes"]] == [(0, None), (1, 0), (2, 0)]


@pytest.mark.parametrize("name", ["a.svg", "a.ndjson", "a.png"])
def test_draw_writes_a_file(script: Script, run: Run, tmp_path: Path, name: str) -> None:
    script.answers = [wired(drawing_events())]
    path = tmp_path / "out" / name
    result = run("draw", "a flamingo", "-o", path, "--seed", 7, "--temperature", 0.5, "--by-leaf")
    assert result.exit_code == 0, result.output
    assert path.stat().st_size > 0
    assert result.stdout == f"{path}\n"
    request = script.calls[0][1]
    assert (request.seed, request.temperature) == (7, 0.5)


def test_draw_tells_what_happens(script: Script, run: Run, tmp_path: Path) -> None:
    script.answers = [wired(drawing_events())]
    result = run("draw", "a flamingo", "-o", tmp_path / "a.svg")
    told = [line.split(" s  ")[1] for line in result.stderr.splitlines()]
    assert told[:4] == ["flamingo, seed 7", "add the body", "first points (2)", "add two legs"]
    assert told[4].startswith("complete: 6 points in 3 strokes; the service had the first point")
    assert len(told) == 5


def test_draw_as_json(script: Script, run: Run, tmp_path: Path) -> None:
    script.answers = [wired(drawing_events())] * 2
    value = json.loads(run("draw", "a flamingo", "--json").stdout)
    assert (value["file"], value["subject"], value["seed"]) == (None, "flamingo", 7)
    assert value["strokes"] == [stroke.tolist() for stroke in STROKES]
    assert value["plan"]["nodes"][2]["start"] == 2
    result = run("draw", "a flamingo", "--json", "-o", tmp_path / "a.svg")
    assert json.loads(result.stdout)["file"] == str(tmp_path / "a.svg")
    assert len(Sketch.load(tmp_path / "a.svg").strokes) == 3


def test_draw_without_a_place_for_the_drawing(script: Script, run: Run) -> None:
    result = run("draw", "a flamingo")
    assert result.exit_code == 2
    assert "--json" in result.stderr
    assert script.calls == []


def test_a_wrong_ending_is_refused_before_drawing(script: Script, run: Run) -> None:
    result = run("draw", "a flamingo", "-o", "a.gif")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: INVALID_INPUT: a.gif ends in none of")
    assert script.calls == []


def test_a_drawing_that_breaks_off(script: Script, run: Run, tmp_path: Path) -> None:
    failed = events.Failed(errors.InternalError("the model\nbroke"))
    script.answers = [wired([*drawing_events()[:5], failed])]
    result = run("draw", "a flamingo", "-o", tmp_path / "a.svg")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: INTERNAL: the model broke"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(script: Script, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    script.answers = [wired(drawing_events())]
    result = run("draw", "a flamingo", "-o", tmp_path / "file" / "a.svg")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'file'}")


def test_errors_are_one_line(script: Script, run: Run) -> None:
    script.answers = [errors.UnknownSubject("no subject in 'blorp'; nearest are cat, lion")]
    result = run("plan", "blorp")
    assert result.exit_code == 1
    assert result.stderr == "error: UNKNOWN_SUBJECT: no subject in 'blorp'; nearest are cat, lion\n"
    assert result.stdout == ""


def test_wrong_usage(run: Run) -> None:
    for arguments in (["plan"], ["plan", "a cat", "--seed", "x"], ["dance"], ["plan", "a", "b"]):
        assert run(*arguments).exit_code == 2


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    path = tmp_path / "drawings.ndjson"
    line = {"drawing": [[[0, 5], [0, 5]]] * 3}
    lines = [{**line, "key_id": "1", "word": "flamingo"}, {**line, "key_id": "2"}]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def test_annotate_prints_an_object_a_line(script: Script, run: Run, drawings: Path) -> None:
    script.answers = [TREE, TREE]
    result = run("annotate", drawings, "--json")
    assert result.exit_code == 0
    values = [json.loads(line) for line in result.stdout.splitlines()]
    assert [value["key_id"] for value in values] == ["1", "2"]
    assert all(value.keys() == {"key_id", "nodes"} for value in values)
    assert values[0]["nodes"][1]["end"] == 2
    assert [request.subject for _, request, _ in script.calls] == ["flamingo", ""]


def test_annotate_prints_trees(script: Script, run: Run, drawings: Path) -> None:
    script.answers = [TREE, TREE]
    result = run("annotate", drawings, "--subject", "swan")
    assert result.stdout.startswith("1: flamingo\ndraw a flamingo  [0, 3)\n├─ add the body  [0, 2)")
    assert [request.subject for _, request, _ in script.calls] == ["swan", "swan"]


def test_annotate_goes_on_after_a_refusal(script: Script, run: Run, drawings: Path) -> None:
    script.answers = [errors.UnknownSubject("no such animal"), TREE]
    result = run("annotate", drawings, "--json")
    assert result.exit_code == 1
    assert result.stderr == "error: drawing 1: UNKNOWN_SUBJECT: no such animal\n"
    assert [json.loads(line)["key_id"] for line in result.stdout.splitlines()] == ["2"]


def test_annotate_stops_where_nobody_answers(script: Script, run: Run, drawings: Path) -> None:
    script.answers = [errors.Unavailable("nobody listens")]
    result = run("annotate", drawings)
    assert (result.exit_code, len(script.calls)) == (1, 1)
    assert result.stderr == "error: UNAVAILABLE: nobody listens\n"


def test_annotate_names_a_bad_line(script: Script, run: Run, drawings: Path) -> None:
    drawings.write_text("{}\n")
    for path, word in [(drawings, "line 1"), (drawings.with_name("none.ndjson"), "cannot be read")]:
        result = run("annotate", path)
        assert result.exit_code == 1
        assert word in result.stderr
        assert result.stderr.count("\n") == 1
    assert script.calls == []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Stderr as a terminal."""
    shown = io.StringIO()
    fake = Console(file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(_narrator, "console", lambda: fake)
    monkeypatch.setattr(cli, "console", lambda: fake)
    return shown


def test_terminals_see_progress(
    script: Script, run: Run, drawings: Path, terminal: io.StringIO
) -> None:
    script.answers = [wired(drawing_events()), TREE, TREE]
    assert json.loads(run("draw", "a flamingo", "--json").stdout)
    assert "parts, 6 points" in terminal.getvalue()
    assert len(run("annotate", drawings, "--json").stdout.splitlines()) == 2
    assert "annotating" in terminal.getvalue()
    assert "key_id" not in terminal.getvalue()


def test_model(script: Script, run: Run) -> None:
    info = pb.ModelInfoResponse(
        bundle="b", version="1.2", metrics={"decoder.nll": 0.5},
        bundles=[{"name": "b", "version": "1.2"}, {"name": "c", "version": "3"}],
    )  # fmt: skip
    script.answers = [info, info]
    told = run("model").stdout
    assert "b 1.2" in told
    assert "b@1.2, c@3" in told
    assert json.loads(run("model", "--json").stdout)["metrics"] == {"decoder.nll": 0.5}


def test_the_version(run: Run) -> None:
    assert run("--version").stdout == f"hitree {metadata.version('hitree')}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command", ["--version", "model", "model --json", "plan cat", "draw --json cat"]
)
def test_output_that_cannot_be_written_is_one_line(command: str) -> None:
    code = (
        "import sys; from sdk.test_cli import answering; from hitree_sdk import cli;"
        f"cli.Client = answering({command!r}); sys.argv[1:] = {command.split()}; cli.main()"
    )
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""},
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "error: output: No space left on device"
    assert "Traceback" not in ended.stderr


def answering(command: str) -> Callable[..., Client]:
    """Makes clients of a service that answers ``command``."""
    answers = {
        "plan": pb.PlanResponse(plan=codec.plan_to_wire(PLAN)),
        "draw": wired(drawing_events()),
    }
    script = Script([answers.get(command.split()[0], pb.ModelInfoResponse())])
    return lambda **_: Client("embedded", transport=FakeTransport(script))


def test_commands_ask_for_a_bundle(script: Script, run: Run, drawings: Path) -> None:
    plan = pb.PlanResponse(plan=codec.plan_to_wire(PLAN))
    script.answers = [plan, wired(drawing_events()), TREE, TREE, pb.ModelInfoResponse()]
    for command in (
        ("plan", "a flamingo"), ("draw", "a flamingo", "--json"), ("annotate", drawings), ("model",)
    ):  # fmt: skip
        result = run(*command, "--bundle", "birds@2")
        assert result.exit_code == 0, result.output
    choice = pb.BundleChoice(name="birds", version="2")
    assert [request.bundle for _, request, _ in script.calls] == [choice] * 5


class Entry:
    """An entry point of an installed distribution."""

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def load(self) -> Any:
        if isinstance(self.loaded, ImportError):
            raise self.loaded
        return self.loaded


def test_serve_calls_what_the_server_registers(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    called: list[dict[str, Any]] = []
    asked: list[dict[str, str]] = []

    def entry_points(**selection: str) -> list[Entry]:
        asked.append(selection)
        return [Entry(lambda **settings: called.append(settings))]

    monkeypatch.setattr(cli, "entry_points", entry_points)
    assert run("serve", "--port", 1, "--http-port", 2, "--bundle", "b").exit_code == 0
    assert run("serve", "--also", "c", "--also", "d").exit_code == 0
    first = {"host": None, "port": 1, "http_port": 2, "bundle": Path("b"), "also": None}
    second = dict.fromkeys(first) | {"also": [Path("c"), Path("d")]}
    assert called == [first, second]
    assert asked == [{"group": "hitree.serve", "name": "serve"}] * 2


@pytest.mark.parametrize("entries", [[], [Entry(ImportError("No module named 'bentoml'"))]])
def test_serve_without_the_server(
    monkeypatch: pytest.MonkeyPatch, run: Run, entries: list[Entry]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda **_: entries)
    result = run("serve")
    assert result.exit_code == 1
    assert "MISSING_PACKAGE" in result.stderr
    assert "pip install 'hitree[server]'" in result.stderr


def test_bench_prints_the_lines_that_the_server_measures(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    called: list[dict[str, Any]] = []

    def bench(**settings: Any) -> list[str]:
        called.append(settings)
        return ["| rows |", "| 3 |"]

    monkeypatch.setattr(cli, "entry_points", lambda **_: [Entry(bench)])
    result = run("bench", "--rows", "1,3", "--precision", "fp16", "--seconds", 2)
    assert (result.exit_code, result.stdout) == (0, "| rows |\n| 3 |\n")
    assert called == [
        {"bundle": None, "provider": None, "precision": "fp16", "rows": [1, 3], "seconds": 2.0}
    ]


@pytest.mark.parametrize("rows", ["many", "1,", "0", "-8"])
def test_bench_of_no_rows_is_wrong_usage(run: Run, rows: str) -> None:
    assert run("bench", "--rows", rows).exit_code == 2


def test_serve_reports_a_busy_port(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def serve(**_: object) -> None:
        raise errors.PortBusy("port 50051 is taken; stop the other server or choose another")

    monkeypatch.setattr(cli, "entry_points", lambda **_: [Entry(serve)])
    result = run("serve")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: PORT_BUSY: port 50051 is taken")
