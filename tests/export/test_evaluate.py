"""Figures of a bundle: about the graphs, by the code that measures networks."""

import json

import pytest
import torch
from typer.testing import CliRunner

from bundles import tiny_bundle, tiny_checkpoints
from hitree_export import __main__ as cli
from hitree_export import evaluate
from hitree_training import data
from hitree_training import evaluate as measures
from hitree_training.explain import Explainer


@pytest.fixture(scope="module")
def examples():
    return data.load(None, kinds=("drawn",), splits=("test",))[:3]


def test_graphs_measure_like_their_networks(examples):
    sources = tiny_checkpoints()
    networks = Explainer.load(sources.generator, sources.scorer)
    graphs = evaluate.explainer_of(tiny_bundle())
    assert measures.describe(graphs, examples) == measures.describe(networks, examples)
    assert measures.trees(graphs, examples[:1]) == measures.trees(networks, examples[:1])


def test_subjects_are_told_by_the_scorer(examples):
    class Sage:
        """Knows the subject of whatever it is asked about."""

        def __init__(self):
            self.asked = iter(examples)

        def texts(self, tokens, _mask):
            return torch.eye(len(tokens))

        def segments(self, _strokes, _spans):
            at = sorted({e.subject for e in examples}).index(next(self.asked).subject)
            return torch.eye(len({e.subject for e in examples}))[at : at + 1]

    explainer = Explainer(None, None, Sage())
    subjects = sorted({e.subject for e in examples})
    assert evaluate.subject_accuracy(explainer, examples, subjects) == 1.0


def test_the_command_writes_figures(tmp_path, monkeypatch, examples):
    def few(folder, *, kinds, splits):
        if kinds == ("real",):
            raise data.DataError("none")
        assert (folder, splits) == (None, ("valid",))
        return examples[:2]

    monkeypatch.setattr(data, "load", few)
    out = tmp_path / "figures.json"
    words = [
        "evaluate",
        "--bundle",
        str(tiny_bundle().path),
        "--json",
        str(out),
        "--split",
        "valid",
    ]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())
    assert figures == json.loads(done.stdout)
    assert set(figures["kinds"]) == {"drawn"}
    assert figures["kinds"]["drawn"]["generator"]["steps"] > 0
    assert "cky" in figures["kinds"]["drawn"]["trees"]


def test_no_drawings_are_no_figures(tmp_path):
    with pytest.raises(data.DataError, match="nowhen"):
        evaluate.evaluate(
            evaluate.Options(tiny_bundle().path, tmp_path / "figures.json", split="nowhen")
        )
