"""A progress bar over a wall-clock or step budget, shared by all training scripts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from hitree_training.checkpoint import Checkpoint


class Budget:
    """How long training goes on: minutes of wall clock, or a number of steps.

    Iterating yields step numbers, starting after those of ``before``; `fraction` is the position
    in the whole schedule, 0 to 1, from which learning rate and data mix follow, so that a resumed
    run goes on where it stopped.
    """

    def __init__(
        self, label: str, *, minutes: float | None, steps: int, before: Checkpoint | None = None
    ) -> None:
        """``before`` is the checkpoint that a run goes on from."""
        self.step = before.step if before else 0
        self.fraction = before.progress if before else 0.0
        self._done = self.fraction
        self._minutes = minutes
        self._steps = steps
        self._bar = Progress(
            TextColumn(f"[bold]{label}"),
            BarColumn(),
            TextColumn("{task.percentage:5.1f} %  step {task.fields[step]}  {task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(label, total=1.0, step=self.step, note="")

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._bar.update(self._task, completed=self.fraction)
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        if self.fraction >= 1:
            raise StopIteration
        self.step += 1
        if self._minutes is None:
            self.fraction = self.step / self._steps
        else:
            spent = (time.monotonic() - self._start) / 60 / self._minutes
            self.fraction = min(1.0, self._done + (1 - self._done) * spent)
        self._bar.update(self._task, completed=self.fraction, step=self.step)
        return self.step

    def note(self, text: str) -> None:
        """Show the latest figures beside the bar, and as a line where there is no terminal."""
        self._bar.update(self._task, note=text)
        if not self._bar.console.is_terminal:
            self._bar.console.print(f"{100 * self.fraction:5.1f} %  step {self.step}  {text}")


def seeded(seed: int, step: int) -> torch.Generator:
    """Randomness of one step alone, dropout's too: a run that goes on makes the same batches."""
    torch.manual_seed(seed * 1_000_003 + step)
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
