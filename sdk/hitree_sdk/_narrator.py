"""A drawing told on stderr while it streams: log lines, and on a terminal a progress bar."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hitree import events


def console() -> Console:
    """Stderr as it is now, one line a message however long, no markup in what users wrote."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True, emoji=False)


class Narrator:
    """Logs what happens, with the seconds since the call began."""

    def __init__(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._console = console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("parts, {task.fields[points]} points"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            redirect_stdout=False,  # results stay on stdout
        )
        self._task = self._progress.add_task("drawing", total=None, points=0)
        self._points = 0

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._progress.stop()

    def tell(self, event: events.DrawEvent) -> None:
        """Log an event that users care about and move the bar."""
        match event:
            case events.Started():
                self._log(f"{event.subject}, seed {event.seed}")
            case events.PlanMade():
                self._progress.update(self._task, total=len(event.plan.leaves))
            case events.NodeStarted():
                self._log(event.text)
            case events.Points():
                self._count(len(event.points))
            case events.NodeFinished():
                self._progress.advance(self._task)
            case events.Finished():
                self._log(_summary(event))
            case _:
                pass  # the ends of strokes; errors are raised

    def _count(self, points: int) -> None:
        if not self._points:
            self._log(f"first points ({points})")
        self._points += points
        self._progress.update(self._task, points=self._points)

    def _log(self, text: str) -> None:
        self._console.print(f"{time.monotonic() - self._began:8.3f} s  {text}")


def _summary(event: events.Finished) -> str:
    return (
        f"{event.reason}: {event.points} points in {event.strokes} strokes; the service had the "
        f"first point after {event.timings.first_point_ms:.0f} ms and the last after "
        f"{event.timings.total_ms:.0f} ms"
    )
