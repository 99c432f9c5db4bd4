"""The import contracts hold, and each fails when it is violated."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "core": "hitree",
    "training": "hitree_training",
    "export": "hitree_export",
    "server": "hitree_server",
    "sdk": "hitree_sdk",
}
VIOLATIONS = [
    ("training/hitree_training/presets.py", "import hitree_export", "Rooms"),
    ("sdk/hitree_sdk/_config.py", "import hitree_server", "The server and the SDK"),
    ("core/hitree/limits.py", "import hitree_sdk", "Core imports no other room"),
    ("server/hitree_server/units.py", "import hitree_training", "Serving and training"),
    ("export/hitree_export/parity.py", "import hitree_server", "Training and export"),
    ("server/hitree_server/units.py", "import torch", "No torch"),
    ("server/hitree_server/units.py", "import onnxruntime", "onnxruntime only"),
    ("server/hitree_server/engine/scheduler.py", "import time", "The scheduler is pure"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The rooms' code, to be spoilt."""
    for room, package in ROOMS.items():
        shutil.copytree(
            ROOT / room / package,
            tmp_path / room / package,
            ignore=shutil.ignore_patterns("builtin", "__pycache__"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(root / room) for room in ROOMS)}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_contracts_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(("file", "line", "contract"), VIOLATIONS)
def test_violation_is_found(copy: Path, file: str, line: str, contract: str) -> None:
    target = copy / file
    target.write_text(f"{target.read_text()}\n{line}\n")
    done = lint(copy)
    assert done.returncode != 0
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), done.stdout
