"""Figures of a bundle: of the networks in its graphs, by the code that measures checkpoints."""

import json

import pytest
from typer.testing import CliRunner

from bundles import tiny_bundle, tiny_checkpoints
from hitree_export import __main__ as cli
from hitree_export import evaluate
from hitree_training import evaluate as measures
from hitree_training.data import DataError
from hitree_training.evaluation.tables import EvaluationError, Options
from hitree_training.trained import Trained

TABLES = ("annotated", "classifier")


def test_a_bundle_measures_like_its_checkpoints(tmp_path):
    asked = Options(tmp_path / "bundle.json", split="valid", tables=TABLES)
    ours = evaluate.evaluate(tiny_bundle().path, asked)["tables"]
    trained = Trained.load(**vars(tiny_checkpoints()))
    other = Options(tmp_path / "checkpoints.json", split="valid", tables=TABLES)
    about = {"decoder": {"step": 1}, "classifier": {"step": 1}}
    theirs = measures.evaluate(trained, about, other)["tables"]
    for name in TABLES:
        assert ours[name]["figures"] == theirs[name]["figures"]
        assert ours[name]["data"] == theirs[name]["data"]
    weights = [table["annotated"]["networks"]["decoder"]["weights"] for table in (ours, theirs)]
    assert weights[0] == weights[1]
    manifest = tiny_bundle().manifest
    assert ours["annotated"]["networks"]["decoder"]["bundle"] == manifest.version


def test_the_command_writes_figures(tmp_path):
    out = tmp_path / "figures.json"
    words = ["--bundle", str(tiny_bundle().path), "--json", str(out), "--split", "valid"]
    done = CliRunner().invoke(cli.app, ["evaluate", *words, "--table", "classifier"])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["tables"].keys() == {"classifier"}


def test_no_drawings_are_no_figures(tmp_path):
    asked = Options(tmp_path / "figures.json", split="nowhen", tables=("classifier",))
    with pytest.raises(DataError, match="nowhen"):
        evaluate.evaluate(tiny_bundle().path, asked)


def test_a_table_that_needs_more_than_a_bundle_says_so(tmp_path):
    asked = Options(tmp_path / "figures.json", tables=("steering",))
    with pytest.raises(EvaluationError, match="--judge"):
        evaluate.evaluate(tiny_bundle().path, asked)
