"""A data folder small enough to train on in a second: three subjects of the built-in set."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from hitree_training import data

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = ("cat", "flamingo", "spider")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # sums are added up in one order, so that runs can be compared


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "drawn").mkdir()
    for subject in SUBJECTS:
        shutil.copy(data.BUILTIN / "drawn" / f"{subject}.ndjson", folder / "drawn")
    lines = (data.BUILTIN / "annotations.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["word"] in SUBJECTS]
    (folder / "annotations.jsonl").write_text("\n".join(kept) + "\n")
    return folder
