"""Tables of a document from the file of figures: no figure in ``docs`` is typed by hand.

Between ``<!-- table: steering -->`` and ``<!-- end -->`` lies the table of that name; what lay
there before is replaced.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any  # Any: JSON

from hitree_training import evaluate
from hitree_training.evaluation.shown import SHOWN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Figures = Mapping[str, Any]

MARKED = re.compile(r"(<!-- table: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class ReportError(Exception):
    """A document names a table that the figures do not have; the message says which."""


def fill(figures: Path, into: Path) -> list[str]:
    """Put the tables of ``figures`` into the document ``into``; return their names.

    Raises:
        ReportError: the document names a table that there is none of.
        EvaluationError: ``figures`` is no file of figures.
    """
    found = evaluate.read(figures)["tables"]
    text = into.read_text(encoding="utf-8")
    made = filled(text, found)
    fresh = into.with_suffix(".part")
    fresh.write_text(made, encoding="utf-8")
    fresh.replace(into)
    return [name for _, name, _, _ in MARKED.findall(made)]


def filled(text: str, tables: Mapping[str, Figures]) -> str:
    """A document with its tables made from figures.

    Raises:
        ReportError: it names a table that there is none of.
    """

    def replace(match: re.Match[str]) -> str:
        opening, name, _, end = match.groups()
        return f"{opening}\n{table(name, tables)}\n\n{end}"

    return MARKED.sub(replace, text)


def table(name: str, tables: Mapping[str, Figures]) -> str:
    """One table as markdown, and a line that says what it was measured on.

    Raises:
        ReportError: there is none of that name.
    """
    measured = name.split()[0]  # "google subjects" shows figures of the table "google"
    if name not in SHOWN or measured not in tables:
        there = ", ".join(one for one in SHOWN if one.split()[0] in tables) or "none"
        raise ReportError(f"there are no figures for the table {name!r}; there are: {there}")
    return f"{SHOWN[name](tables[measured]['figures'])}\n\n{caption(tables[measured])}"


def caption(measured: Figures) -> str:
    """Which drawings, networks and seed a table is of."""
    drawings = ", ".join(
        f"{one['drawings']:,} {kind} ({one['data_hash'][:8]})"
        for kind, one in measured["data"].items()
    )
    networks = {**measured["networks"], **measured["judges"]}
    made = {_version(name, one) for name, one in networks.items()}
    guided = f", guidance {measured['guidance']:g}" if measured["guidance"] != 1 else ""
    return (
        f"*{measured['split']} split: {drawings}; seed {measured['seed']}{guided}; "
        f"{'; '.join([*sorted(made), 'code ' + measured['git_sha']])}*"
    )


def _version(name: str, network: Figures) -> str:
    if "bundle" in network:
        return f"bundle {network['bundle']}"
    return f"{name} of {network['step']:,} steps"
