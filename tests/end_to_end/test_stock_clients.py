"""Clients that know nothing of us: NVIDIA's, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from end_to_end.processes import clean_environment

if TYPE_CHECKING:
    from end_to_end.processes import Served


@pytest.mark.full
def test_tritonclient_infers_every_model(served: Served, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "tritonclient[grpc,http]"], check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    script = str(Path(__file__).with_name("triton_infers.py"))
    addresses = [served.grpc.removeprefix("grpc://"), served.http.removeprefix("http://")]
    done = subprocess.run(
        [python, script, *addresses], env=clean_environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 9
