"""The measurement runs, as the command finds it; what it measures is not tested."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundles import VERSION, tiny_bundle
from hitree_sdk import cli

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_row_is_printed_for_every_size(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["hitree.serve"]
    entries = [EntryPoint(name, value, "hitree.serve") for name, value in declared.items()]
    monkeypatch.setattr(
        cli, "entry_points", lambda **asked: [e for e in entries if e.matches(**asked)]
    )
    told = ["bench", "--rows", "1,3", "--seconds", "0.1", "--provider", "cpu"]
    result = CliRunner().invoke(
        cli.app, [*told, "--precision", precision, "--bundle", str(tiny_bundle().path)]
    )
    assert result.exit_code == 0, result.output
    head, *table = result.stdout.splitlines()
    used = {"auto": "int8", "fp32": "fp32"}[precision]
    assert head == f"{VERSION}, cpu, {used}, threads: 1"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[0] for row in rows] == ["1", "3"]
    for _, bare, engine, ratio in rows:
        assert min(float(bare.replace(",", "")), float(engine.replace(",", ""))) > 0
        assert 0 < float(ratio) < 2


def test_an_unknown_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hitree_server.bench import bench

    monkeypatch.setattr(cli, "entry_points", lambda **_: [Known(bench)])
    result = CliRunner().invoke(cli.app, ["bench", "--provider", "abacus"])
    assert result.exit_code == 1
    assert "provider" in result.stderr


def test_more_rows_than_a_batch_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hitree_server.bench import bench

    monkeypatch.setattr(cli, "entry_points", lambda **_: [Known(bench)])
    result = CliRunner().invoke(cli.app, ["bench", "--rows", "1,9999999"])
    assert result.exit_code == 1
    assert result.stderr == "error: INVALID_INPUT: rows are 1, 9999999; give each from 1 to 4096\n"


class Known:
    """An entry point that is loaded already."""

    def __init__(self, target: object) -> None:
        self.load = lambda: target
