"""Documents from figures: tables between markers, and nothing typed by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hitree_training import evaluate
from hitree_training.evaluation import report
from hitree_training.evaluation.report import ReportError
from hitree_training.evaluation.shown import SHOWN
from hitree_training.evaluation.tables import TABLES

DOCS = Path(__file__).parents[3] / "docs"

MEASURED = {
    "git_sha": "abc",
    "split": "test",
    "seed": 0,
    "guidance": 1.0,
    "networks": {"decoder": {"step": 1234, "weights": "f" * 16}},
    "judges": {},
    "data": {"real": {"drawings": 1604, "annotated": 2, "data_hash": "0123456789abcdef"}},
}
NLL = {"drawings": 1604, "nll": 1.0871, "placement": 4.0, "segment": 0.25}
TABLE = {"annotated": {**MEASURED, "figures": {"real": NLL}}}
DOCUMENT = """# Models

<!-- table: annotated -->
old
<!-- end -->

Text.
"""


def test_a_table_takes_the_place_between_its_markers() -> None:
    made = report.filled(DOCUMENT, TABLE)
    assert "old" not in made
    assert "| real, 1,604 | 1.087 | 4.000 | 0.250 |" in made
    assert "*test split: 1,604 real (01234567); seed 0; decoder of 1,234 steps; code abc*" in made
    assert made.startswith("# Models\n\n<!-- table: annotated -->\n\n|")
    assert made.endswith("*\n\n<!-- end -->\n\nText.\n")
    assert report.filled(made, TABLE) == made


def test_what_ships_is_named_by_its_bundle_and_guidance_is_told() -> None:
    networks = {"decoder": {"bundle": "0.1.0", "step": 9}}
    found = {"annotated": {**TABLE["annotated"], "networks": networks, "guidance": 2.0}}
    assert "guidance 2; bundle 0.1.0; code abc*" in report.filled(DOCUMENT, found)


@pytest.mark.parametrize("name", ["nothing", "steering", "trees sharing"])
def test_a_table_without_figures_is_an_error(name: str) -> None:
    with pytest.raises(ReportError, match=f"for the table '{name}'; there are: annotated"):
        report.filled(DOCUMENT.replace("annotated", name), TABLE)


def test_files_are_filled_and_named(tmp_path: Path) -> None:
    evaluate.write(tmp_path / "f.json", {"tables": TABLE})
    (tmp_path / "d.md").write_text(DOCUMENT)
    assert report.fill(tmp_path / "f.json", tmp_path / "d.md") == ["annotated"]
    assert "1.087" in (tmp_path / "d.md").read_text()
    assert len(list(tmp_path.iterdir())) == 2


def test_every_table_can_be_shown() -> None:
    assert {name.split()[0] for name in SHOWN} == set(TABLES)


# ---- the project's own ---------------------------------------------------------------------------


def test_the_documents_tables_are_what_the_committed_figures_give() -> None:
    text = (DOCS / "models.md").read_text()
    assert report.MARKED.search(text)
    assert report.filled(text, evaluate.read(DOCS / "figures.json")["tables"]) == text


def test_the_committed_figures_hold_no_path() -> None:
    assert not re.search(r'"[^"]*/[^"]*"', (DOCS / "figures.json").read_text())
