"""The one evaluation: what is measured, what is written, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundles import tiny_checkpoints
from hitree_training import checkpoint, evaluate, presets, train_judge
from hitree_training.evaluation import tables
from hitree_training.evaluation.tables import EvaluationError, Options
from hitree_training.models.judge import JudgePreset
from hitree_training.trained import Trained, digest

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {"decoder": {"step": 3}, "classifier": {"step": 4}, "generator": {"step": 5}}


def some(*models: str) -> Trained:
    sources = tiny_checkpoints()
    return Trained.load(**{model: getattr(sources, model) for model in models})


def options(folder: Path, out: Path) -> Options:
    return Options(out, folder, split="valid")


def test_what_can_be_measured_is_measured(small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures.json"
    trained = some("decoder", "classifier")
    found = evaluate.evaluate(trained, ABOUT, options(small_data, out))
    assert found["tables"].keys() == {"annotated", "classifier"}
    table = json.loads(out.read_text())["tables"]["annotated"]
    assert table["networks"] == {"decoder": {"step": 3, "weights": digest(trained.decoder)}}
    assert (table["split"], table["seed"]) == ("valid", 0)
    drawn = table["data"]["drawn"]
    assert drawn["annotated"] == drawn["drawings"] == table["figures"]["drawn"]["drawings"]
    assert len(drawn["data_hash"]) == 16
    assert 0 < table["figures"]["drawn"]["nll"] < 50
    assert [path.name for path in out.parent.iterdir()] == ["figures.json"]


def test_figures_are_the_same_again(small_data: Path, tmp_path: Path) -> None:
    asked = replace(options(small_data, tmp_path / "a.json"), tables=("annotated",))
    first = evaluate.evaluate(some("decoder"), ABOUT, asked)
    again = evaluate.evaluate(some("decoder"), ABOUT, replace(asked, out=tmp_path / "b.json"))
    assert first == again


def test_other_tables_of_the_file_are_kept(small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    evaluate.write(out, {"tables": {"trees": {"figures": 1}, "annotated": {"figures": 2}}})
    asked = replace(options(small_data, out), tables=("annotated",))
    found = evaluate.evaluate(some("decoder"), ABOUT, asked)
    assert found["tables"]["trees"] == {"figures": 1}
    assert "drawn" in found["tables"]["annotated"]["figures"]


def test_steering_needs_a_judge_and_names_it(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = presets.load(JudgePreset, "judge-tiny")
    judge = tmp_path / "judge.pt"
    made = train_judge.train(
        train_judge.Options(small_data, judge, preset, None, steps=2, batch=4, evaluate_every=1)
    )
    measure = tables.steering.measure
    monkeypatch.setattr(tables.steering, "measure", lambda *a, **k: measure(*a, **k, cases=4))
    asked = replace(
        options(small_data, tmp_path / "f.json"), judge=judge, tables=("steering",), guidance=2.0
    )
    found = evaluate.evaluate(some("decoder"), ABOUT, asked)["tables"]["steering"]
    assert found["judges"] == {"judge": evaluate.describe(made)}
    assert found["figures"]["cases"] == 4
    assert found["figures"]["sampling"]["guidance"] == found["guidance"] == 2.0


def test_runs_of_a_variant_are_told_apart(small_data: Path, tmp_path: Path) -> None:
    path = tiny_checkpoints().generator
    asked = replace(
        options(small_data, tmp_path / "f.json"), tables=("texts",), variants=(path, path)
    )
    found = evaluate.evaluate(some("generator"), ABOUT, asked)["tables"]["texts"]
    rows = found["figures"]["kinds"]["drawn"]
    assert list(rows)[:3] == ["strokes, run 1", "strokes, run 2", "served"]
    assert rows["strokes, run 1"] == rows["served"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("everything",), "there is no table everything; there are: annotated"),
        (("annotated", "steering"), "the table steering needs --judge as well"),
        (("google",), "needs --trees and reference/.*csv in --data as well"),
        (("texts",), "needs --generator as well"),
    ],
)
def test_tables_that_cannot_be_measured_are_refused(
    small_data: Path, tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    asked = replace(options(small_data, tmp_path / "f.json"), tables=names)
    with pytest.raises(EvaluationError, match=message):
        evaluate.evaluate(some("decoder"), ABOUT, asked)
    assert not (tmp_path / "f.json").exists()


def test_nothing_to_measure_is_an_error(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing can be measured"):
        evaluate.evaluate(Trained(), {}, options(small_data, tmp_path / "f.json"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tables": []}'])
def test_a_file_of_another_form_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match="holds no figures"):
        evaluate.read(path)
    assert path.read_text() == text


def test_figures_are_plain() -> None:
    figures = {"a": (1, float("nan")), "b": {"c": 1 / 3}, 4: True}
    assert evaluate.plain(figures) == {"a": [1, None], "b": {"c": 0.333333}, "4": True}


def test_a_checkpoint_says_where_it_comes_from() -> None:
    found = checkpoint.load(tiny_checkpoints().decoder, "decoder")
    assert evaluate.describe(found) == {
        "step": found.step, "data_hash": found.data_hash, "git_sha": found.git_sha,
    }  # fmt: skip
