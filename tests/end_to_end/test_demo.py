"""The demo, from start to stop."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end.processes import clean_environment

DEMO = Path(__file__).parents[2] / "scripts/demo"


@pytest.mark.full
def test_demo_plans_draws_and_stops(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)], cwd=tmp_path, env=clean_environment(),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"[├└]─ ", done.stdout)) >= 3  # the root and these: at least 4 nodes
    came = [float(at) for at in re.findall(r"([\d.]+) s: \d+ points came", done.stdout)]
    assert came[0] < came[-1]
    made = re.search(r"first point made after (\d+) ms, last after (\d+) ms", done.stdout)
    assert made is not None
    assert int(made[1]) < int(made[2])
    assert "<path" in (tmp_path / "out/flamingo.svg").read_text()
