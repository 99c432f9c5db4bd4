"""Every `python` and `bash` block of the documents runs as it stands.

Blocks marked `sh` (installing, serving, training) are not run here; ``tests/test_docs.py`` checks
that their commands and options exist.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from end_to_end.processes import clean_environment

if TYPE_CHECKING:
    from end_to_end.processes import Served

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(language, text, id=f"{document.stem}-{index}")
    for document in DOCUMENTS
    for index, (language, text) in enumerate(BLOCK.findall(document.read_text()))
]
EXAMPLES = [
    text for language, text in BLOCK.findall(DOCUMENTS[0].read_text()) if language == "python"
]


def run(language: str, text: str, cwd: Path, **environment: str) -> str:
    """Run a block in an empty folder, with the environment's programs; its output."""
    env = clean_environment(**environment)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_block_runs(language: str, text: str, tmp_path: Path) -> None:
    run(language, text, tmp_path)


def test_example_prints_the_tree_and_saves_the_drawing(tmp_path: Path) -> None:
    printed = run("python", EXAMPLES[0], tmp_path)
    assert "─ " in printed
    assert "<path" in (tmp_path / "flamingo.svg").read_text()


@pytest.mark.full
@pytest.mark.parametrize("door", ["grpc", "http"])
@pytest.mark.parametrize("example", EXAMPLES, ids=["blocking", "asyncio"])
def test_example_against_a_server(served: Served, door: str, example: str, tmp_path: Path) -> None:
    run("python", example, tmp_path, HITREE_URL=getattr(served, door))
    assert list(tmp_path.glob("*.svg"))
