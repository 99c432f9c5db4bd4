"""``hitree-train``: the commands reach the code they name, errors are told without a traceback."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from hitree_training import __main__ as cli
from hitree_training import checkpoint
from hitree_training.evaluation import contrast, plans

if TYPE_CHECKING:
    from pathlib import Path

RUN = CliRunner()


def run(*arguments: object) -> str:
    result = RUN.invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exception is None, result.output
    return result.stdout


@pytest.fixture(scope="module")
def made(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints, trained by the commands themselves."""
    out = tmp_path_factory.mktemp("made")
    for model in ("generator", "scorer", "classifier", "decoder"):
        run(model, "--data", small_data, "--out", out, "--preset", f"{model}-tiny", "--steps", 2)
    return out


@pytest.mark.parametrize("model", ["generator", "scorer", "classifier", "decoder"])
def test_each_model_is_trained(made: Path, model: str) -> None:
    assert checkpoint.load(made / f"{model}.pt", model).step == 2


def test_samples_are_drawn_from_held_out_instructions(
    made: Path, small_data: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "samples.png"
    run("samples", "--data", small_data, "--decoder", made / "decoder.pt", "--out", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_contrasts_are_drawn(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "PAIRS", contrast.PAIRS[:2])
    picture = tmp_path / "contrast.png"
    run("contrast", "--decoder", made / "decoder.pt", "--out", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_wall_clock_budget_ends_a_run(small_data: Path, tmp_path: Path) -> None:
    run(
        *("scorer", "--data", small_data, "--out", tmp_path),
        *("--preset", "scorer-tiny", "--minutes", 0.01),
    )
    assert checkpoint.load(tmp_path / "scorer.pt", "scorer").progress == 1.0


def test_trees_then_planner(made: Path, small_data: Path, tmp_path: Path) -> None:
    shown = run(
        *("trees", "--data", small_data, "--out", tmp_path / "t.jsonl", "--kind", "drawn"),
        *("--generator", made / "generator.pt", "--scorer", made / "scorer.pt", "--limit", 3),
    )
    assert "3 trees" in shown
    run(
        *("planner", "--trees", tmp_path / "t.jsonl", "--data", small_data, "--out", tmp_path),
        *("--preset", "generator-tiny", "--steps", 1),
    )
    assert checkpoint.load(tmp_path / "generator.pt", "generator").extras["trees"] == "t.jsonl"


def test_evaluate_then_report(made: Path, small_data: Path, tmp_path: Path) -> None:
    figures, document = tmp_path / "f.json", tmp_path / "d.md"
    run(
        *("evaluate", "--data", small_data, "--out", figures, "--split", "valid"),
        *("--generator", made / "generator.pt", "--scorer", made / "scorer.pt"),
        *("--decoder", made / "decoder.pt"),
    )
    found = json.loads(figures.read_text())["tables"]
    assert found.keys() == {"annotated", "texts", "plans", "trees"}
    assert found["trees"]["figures"]["drawn"]["oracle"]["f1"] == 1.0
    assert 0 <= found["trees"]["figures"]["drawn"]["bracketing"]["unity"]["cky"]["f1"] <= 1
    assert found["plans"]["figures"]["sampled"]["plans"] == 3 * plans.SAMPLED
    assert found["texts"]["networks"]["generator"]["step"] == 2
    marks = [f"<!-- table: {name} -->\n<!-- end -->\n" for name in ("trees", "texts")]
    document.write_text("".join(marks))
    assert run("report", "--figures", figures, "--into", document).split() == ["trees", "texts"]
    assert "| oracle | 1.000 (1.000) |" in document.read_text()
    assert "| served |" in document.read_text()


def test_a_judge_is_trained(small_data: Path, tmp_path: Path) -> None:
    run(
        *("judge", "--data", small_data, "--out", tmp_path),
        *("--preset", "judge-tiny", "--steps", 1),
    )
    assert checkpoint.load(tmp_path / "judge.pt", "judge").step == 1


def test_tune(made: Path, small_data: Path) -> None:
    shown = run(
        *("tune", "--data", small_data),
        *("--generator", made / "generator.pt", "--scorer", made / "scorer.pt"),
    ).splitlines()
    figures = [float(line.split()[1]) for line in shown]
    assert figures[:5] == sorted(figures[:5], reverse=True)
    weights = [line for line in shown if "threshold None" in line]
    assert len(shown) - len(weights) == 5
    textless = "fit=0.0, likelihood=0.0, strokes=0.0, coherence=0.0"
    assert sum(textless in line for line in weights) == 1  # however good or bad it is


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scorer", "--preset", "nothing"], "there is no preset nothing"),
        (["generator", "--data", "/nowhere"], "/nowhere has no train drawings"),
        (["evaluate", "--out", "f.json", "--table", "mood"], "there is no table mood"),
        (["scorer", "--preset", "scorer-tiny", "--resume", "--out", "/nowhere"], "/nowhere"),
    ],
)
def test_errors_are_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["hitree-train", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
