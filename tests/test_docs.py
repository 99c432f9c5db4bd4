"""The documents say what is so: links, commands, options, settings, errors, limits, metrics."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hitree.errors import BY_REASON
from hitree.limits import LIMITS
from hitree_server.engine.stats import Stats
from hitree_server.metrics import Metrics
from hitree_server.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "bundle", "benchmarks/load")
    for path in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]+)\)")
SHELL = re.compile(r"^```(?:sh|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = ("hitree", "hitree-train", "hitree-export")


def commands() -> list[str]:
    """Every line of every shell block, continued lines joined, comments and variables off."""
    found = set()
    for document in DOCUMENTS:
        for block in SHELL.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                bare = re.sub(r"^(\w+=\S+\s+)+|\s+#.*$|\s+&$|^#.*$", "", line.strip()).strip()
                found.update({bare} - {""})
    return sorted(found)


@cache
def help_of(*words: str) -> str:
    """The help text of one of our commands."""
    program = shutil.which(words[0], path=str(Path(sys.executable).parent))
    assert program, f"{words[0]} is not installed"
    done = subprocess.run(
        [program, *words[1:], "--help"],
        capture_output=True, text=True, timeout=120, env={"COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [
        to for to in LINK.findall(document.read_text()) if not (document.parent / to).exists()
    ]
    assert missing == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.mark.parametrize("command", commands())
def test_commands_exist(command: str) -> None:
    """Ours have the sub-command and the options; make has the target; scripts are there."""
    words = command.split()
    name = words[0].removeprefix(".venv/bin/")
    if name in OURS:
        path = [word for word in words[1:2] if re.fullmatch(r"[a-z-]+", word)]
        text = help_of(name, *path)
        options = re.findall(r"(?<=\s)--?[a-z][a-z-]*", command)
        assert [option for option in options if option not in text] == []
    elif name == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif "/" in name:
        assert (ROOT / name).exists()
    else:
        assert name in {"pip", "curl", "docker", "k6", "python", "export"}, f"unchecked: {command}"


@pytest.mark.parametrize("script", ["install", "check", "test", "generate", "demo"])
def test_scripts_are_short_and_executable(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111
    assert len(path.read_text().splitlines()) <= 30


def rows(document: str, pattern: str) -> dict[str, list[str]]:
    """Table rows whose first cell matches, by that cell."""
    lines = re.findall(
        rf"^\| `({pattern})` \| (.*) \|$", (ROOT / document).read_text(), re.MULTILINE
    )
    return {name: [cell.strip(" `") for cell in rest.split("|")] for name, rest in lines}


def test_settings_are_those_of_the_server() -> None:
    told = {name: cells[0] for name, cells in rows("docs/operations.md", "HITREE_[A-Z_]+").items()}
    fields = Settings.model_fields.items()
    defaults = {f"HITREE_{name.upper()}": field.default for name, field in fields}
    empty = (None, ())
    assert told == {n: "" if value in empty else str(value) for n, value in defaults.items()}


def test_errors_are_those_of_the_tree() -> None:
    told = rows("docs/api.md", "[A-Z_]+")
    assert told == {
        reason: [str(error.http_status), error.grpc_code] for reason, error in BY_REASON.items()
    }


def test_limits_are_those_of_the_table() -> None:
    told = {name: int(cells[0]) for name, cells in rows("docs/api.md", "[a-z_]+").items()
            if cells[0].isdigit()}  # fmt: skip
    assert told == LIMITS.as_dict()


def test_metrics_are_those_of_the_server() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    metrics = Metrics()
    metrics.watch({"hitree@1": Stats()})
    shown = re.findall(r"^# TYPE (\w+) ", metrics.render().decode(), re.MULTILINE)
    told = re.findall(r"`(hitree_[a-z_]+)[`{]", text)
    assert sorted(told) == sorted(name for name in shown if not name.endswith("_created"))
