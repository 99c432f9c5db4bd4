"""The engine's thread and its face to the rest of the process.

One thread owns scheduler, slots and session. Others reach it through an inbox of commands that it
empties between steps; when there is nothing to do it waits on a condition and costs nothing.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from threading import Condition, Thread
from typing import TYPE_CHECKING

from hitree.errors import BundleCorrupt, Cancelled, HiTreeError, InvalidInput, Unavailable
from hitree_server.engine.runner import Device, Runner, StepError
from hitree_server.engine.scheduler import EngineSettings, Scheduler
from hitree_server.engine.sequence import Sequence, SequenceSpec
from hitree_server.engine.slots import Slots
from hitree_server.engine.stats import Stats
from hitree_server.engine.streams import Stream, Streams
from hitree_server.niceness import ENGINE, give_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hitree.bundle import StepGraph

FAILURES = 3  # failed steps in a row that make the engine unready
PROBE_SECONDS = 1.0  # how often an idle engine that is unready tries a step

log = logging.getLogger(__name__)


class Engine:
    """Draws many sequences at once; `submit` belongs to an event loop, the rest to any thread."""

    def __init__(
        self,
        graph: StepGraph,
        device: Device,
        settings: EngineSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or EngineSettings()
        self.stats = Stats()
        self.provider = device.provider
        self._clock = clock
        self._streams = Streams()
        self._condition = next(t.shape[-1] for t in graph.inputs if t.name == "condition")
        rows = self.settings.max_rows
        self._slots = Slots(graph, rows, device.store(graph, rows))
        self._runner = Runner(graph, device, clock, self._streams.send)
        self._scheduler = Scheduler(self.settings, self.stats)
        self._numbers = count()
        self._failures = 0  # steps in a row
        self._changed = Condition()  # over the five below
        self._inbox: list[Callable[[], None]] = []
        self._coming = 0  # submissions in the inbox
        self._kept = 0  # rows that room is kept for
        self._stop_at: float | None = None  # when the draining ends; None while serving
        self._started = False
        self._warm: Future[None] = Future()
        self._thread: Thread | None = None

    @property
    def ready(self) -> bool:
        """Whether drawings can be made: started, not stopping, the last steps did not all fail."""
        return self.stats.ready

    def start(self) -> None:
        """Start the thread, and wait until it is warm.

        Raises:
            BundleCorrupt: the graph cannot compute a step.
        """
        self._launch()
        try:
            self._warm.result()
        except StepError as exc:
            raise BundleCorrupt(
                f"the sketch decoder cannot compute a step: {exc}; export the bundle again"
            ) from exc
        self.stats.ready = self._started = True

    @contextmanager
    def room(self, rows: int, *, begun: bool = False) -> Iterator[None]:
        """Keep room for ``rows`` while what shall be drawn in them is prepared.

        So a drawing that cannot be accepted costs no model call; ``begun`` as for the scheduler.

        Raises:
            InvalidInput: there is never so much room.
            Overloaded: too much waits already.
            Unavailable: the engine is not running or stops.
        """
        most = self.settings.most_rows
        if rows > most:
            raise InvalidInput(
                f"{rows} candidates are more than the {most} that this server draws at a time; "
                "ask for fewer"
            )
        with self._changed:
            self._check_room(rows, begun)
            self._kept += rows
        try:
            yield
        finally:
            with self._changed:
                self._kept -= rows

    def submit(self, spec: SequenceSpec) -> Stream:
        """Have a sequence drawn; its events come to the running event loop.

        Raises:
            Overloaded: too much waits already.
            Unavailable: the engine is not running or stops.
            InvalidInput: the sequence cannot be drawn: see `SequenceSpec.check`.
        """
        spec.check(self._condition)
        with self._changed:
            self._check_room(1, begun=spec.known > 0)
            sequence = Sequence(spec, next(self._numbers), self._clock())
            stream = Stream(sequence, self.settings.buffer_events, self._cancel, self._resume)
            self._coming += 1
            self._streams.open(stream)
            self._post(lambda: self._scheduler.accept(sequence))
        return stream

    def stop(self, drain: float = 0.0) -> None:
        """Take on nothing more, finish what runs for up to ``drain`` seconds, then break it off.

        Blocks until the thread has ended; idempotent. From an event loop call it as
        ``await asyncio.to_thread(engine.stop, drain)``, so that readers go on reading.
        """
        with self._changed:
            until = self._clock() + drain
            self._stop_at = until if self._stop_at is None else min(until, self._stop_at)
            self.stats.ready = False
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _check_room(self, rows: int, begun: bool) -> None:
        refusal = self._refusal(rows, begun)
        if refusal is not None:
            self.stats.rejected[refusal.reason.lower()] += 1
            raise refusal

    def _refusal(self, rows: int, begun: bool) -> HiTreeError | None:
        if self._stop_at is not None or not self._started:
            return Unavailable("the engine is not running, or stops; try another replica")
        coming = self._coming + self._kept
        return self._scheduler.refusal(rows, coming, self._clock(), begun=begun)

    def _cancel(self, sequence: Sequence) -> None:
        error = Cancelled("the drawing was cancelled")
        with self._changed:
            self._post(lambda: self._scheduler.end(sequence, error))

    def _resume(self, sequence: Sequence) -> None:
        with self._changed:
            self._post(lambda: self._scheduler.resume(sequence))

    def _post(self, command: Callable[[], None]) -> None:
        self._inbox.append(command)
        self._changed.notify_all()

    def _launch(self) -> None:
        self._thread = Thread(target=self._serve, name="hitree-engine", daemon=True)
        self._thread.start()

    # The engine's thread

    def _warm_up(self) -> None:
        """Done by the thread that computes: what a GPU records belongs to one thread."""
        try:
            self._runner.warm_up(self._slots)
        except Exception as exc:  # is raised where the engine is started
            self._warm.set_exception(exc)
        else:
            self._warm.set_result(None)

    def _serve(self) -> None:
        give_way(ENGINE)
        self._warm_up()
        if self._warm.exception() is not None:
            return
        try:
            while not self._stopped():
                if not self.tick():
                    self._wait()
            error: HiTreeError = Unavailable("the server stops; send the request again")
        except Exception:
            log.exception("the engine broke down")
            error = Unavailable("the engine broke down; try another replica")
        self._close(error)

    def tick(self) -> bool:
        """One step; says whether there was anything to do."""
        self._drain_commands()
        step = self._scheduler.next_step(self._clock())
        try:
            result = self._runner.run(step, self._slots)
        except StepError as exc:
            self._failed(exc)
            emissions = self._scheduler.fail(step, str(exc))
        else:
            self._drain_commands()  # cancellations that came meanwhile
            emissions = self._scheduler.commit(step, result, self._clock())
            if step.running:
                self._worked()
        ahead = step.running if step.ahead else ()
        for sequence in self._streams.publish(emissions, ahead):
            self._scheduler.pause(sequence)
        if not step.running:
            self._streams.send()
        return bool(step.running or emissions)

    def _drain_commands(self) -> None:
        if not self._inbox:
            return
        with self._changed:
            commands, self._inbox = self._inbox, []
            for command in commands:
                command()
            self._coming = 0

    def _failed(self, error: StepError) -> None:
        log.error("a step failed: %s", error)
        self._failures += 1
        if self._failures >= FAILURES:
            self.stats.ready = False

    def _worked(self) -> None:
        self._failures = 0
        self.stats.ready = self._stop_at is None

    def _wait(self) -> None:
        with self._changed:
            stop_at = self._stop_at
            if stop_at is not None and self._scheduler.active == 0:
                return
            told = self._changed.wait_for(
                lambda: bool(self._inbox) or self._stop_at != stop_at, self._patience(stop_at)
            )
        if not told and self._failures >= FAILURES:
            self._probe()

    def _patience(self, stop_at: float | None) -> float | None:
        """How many seconds to wait for a command; None is for ever."""
        until = [t for t in (self._scheduler.next_deadline(), stop_at) if t is not None]
        waits = [max(0.0, t - self._clock()) for t in until]
        if self._failures >= FAILURES:
            waits.append(PROBE_SECONDS)
        return min(waits, default=None)

    def _probe(self) -> None:
        """Try padding: an unready engine is sent no work that could show that it is well again."""
        if self._slots.rows:
            return
        try:
            self._runner.warm_up(self._slots)
        except StepError as exc:
            self._failed(exc)
        else:
            self._worked()

    def _stopped(self) -> bool:
        if self._stop_at is None:
            return False
        with self._changed:
            idle = not self._inbox and self._scheduler.active == 0
        return idle or self._clock() >= self._stop_at

    def _close(self, error: HiTreeError) -> None:
        with self._changed:
            self._stop_at = self._clock()  # refuses from here on
            self.stats.ready = False
        self._drain_commands()
        self._scheduler.end_all(error)
        self._streams.publish(self._scheduler.collect())
        self._streams.send()
