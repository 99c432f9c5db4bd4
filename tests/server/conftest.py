"""A server without a bundle: real planner, annotator, engine and doors over fake models."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
import pytest_asyncio

from hitree.bundle import Manifest, StateTensor, StepGraph, Tensor
from hitree.errors import UnknownSubject
from hitree.stroke5 import DOWN, UP
from hitree.text import words
from hitree.v1.hitree_pb2_grpc import HiTreeStub
from hitree_server import backend as backends
from hitree_server.annotator import Annotator
from hitree_server.app import App, run
from hitree_server.backend import Backend
from hitree_server.engine import Engine, EngineSettings
from hitree_server.local import EmbeddedTransport, Home
from hitree_server.metrics import Metrics
from hitree_server.models import Described, Expansion
from hitree_server.planner import Planner
from hitree_server.raw import RawModel, RawModels
from hitree_server.service import Service
from hitree_server.settings import Settings
from hitree_server.subjects import Recognition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SUBJECTS = ("cat", "flamingo", "sea turtle")
STROKE, LEAF = 5, 10  # points of a stroke, and of a leaf, that the fake decoder draws

DECODER = StepGraph(
    file="decoder_step.onnx",
    inputs=(
        Tensor("noise", (2, 1, 5)),
        Tensor("temperature", (1,)),
        Tensor("condition", (2, 2)),
        Tensor("forced", (1, 5)),
        Tensor("force", (1,)),
        Tensor("last", (2,)),
        Tensor("begun", (1,)),
        Tensor("limit", (2,)),
    ),
    outputs=(Tensor("points", (1, 3)), Tensor("made", (2,))),
    state=(
        StateTensor("row", (5,), output="row_out", initial=(0, 0, 0, 1, 0)),
        StateTensor("position", (2,), output="position_out", initial=(128, 128)),
        StateTensor("count", (1,), output="count_out"),
    ),
    noise=5,
)
GRAPHS = (
    "condition",
    "scorer_segments",
    "scorer_texts",
    "scorer_unity",
    "generator_describe",
    "generator_expand",
    "classifier",
)
FILES = {name: f"{name}.onnx" for name in (*GRAPHS, "decoder_step", "generator_step")}
MANIFEST = Manifest(
    name="hitree",
    version="0.0.0+fake",
    format=1,
    git_sha="0" * 40,
    data_hash="fake",
    created="2026-01-01T00:00:00Z",
    sha256=dict.fromkeys(FILES.values(), "0" * 64),
    graphs={name: FILES[name] for name in GRAPHS},
    decoder=DECODER,
    generator=StepGraph(FILES["generator_step"], (), (), (), 0),
    subjects=SUBJECTS,
    scale=1.0,
    settings={"temperature": 0.5},
    metrics={"decoder.nll": 1.5},
)


@dataclass
class Doubling:
    """A graph that doubles numbers and counts rows."""

    factor: int = 2

    def get_inputs(self) -> list[Any]:
        return [Argument("x", "tensor(float)", ["rows", 2]), Argument("n", "tensor(int64)", [1])]

    def get_outputs(self) -> list[Any]:
        return [Argument("y", "tensor(float)", ["rows", 2]), Argument("m", "tensor(int64)", [1])]

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if feed["n"][0] < 0:
            raise RuntimeError("n is below 0")
        made = {"y": self.factor * feed["x"], "m": feed["n"] + len(feed["x"])}
        return [made[name] for name in names]


@dataclass
class Argument:
    """How ONNX Runtime tells of a tensor."""

    name: str
    type: str
    shape: list[str | int]


@dataclass
class FakeDevice:
    """Draws strokes of 5 points and leaves of 10, by noise and condition alone."""

    provider: str = "fake"
    gate: threading.Event = field(default_factory=threading.Event)  # clear it to hold the engine
    held: threading.Event = field(default_factory=threading.Event)  # set while it is held
    after: int = 0  # steps that pass while the gate is closed
    broken: bool = False  # fail the next steps

    def __post_init__(self) -> None:
        self.gate.set()

    def store(self, _graph: StepGraph, _rows: int, /) -> None:
        return None

    def bind(
        self, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]
    ) -> Callable[[], None]:
        def call() -> None:
            self._wait()
            if self.broken:
                raise RuntimeError("the fake device is broken")
            _step(inputs, outputs)

        return call

    def hold(self, after: int = 0) -> None:
        """Let ``after`` more steps pass, then hold the engine's thread."""
        self.after = after
        self.held.clear()
        self.gate.clear()

    def _wait(self) -> None:
        if not self.gate.is_set() and self.after > 0:
            self.after -= 1
            return
        if not self.gate.is_set():
            self.held.set()
            assert self.gate.wait(20), "nobody opened the gate"


def _step(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    noise, condition = inputs["noise"][:, 0, 0], inputs["condition"][:, 0]
    live, force = inputs["limit"][:, :1] > 0, inputs["force"][:, 0] > 0
    count = inputs["count"][:, 0] + 1
    row = np.zeros_like(inputs["row"])
    row[:, :2] = np.rint((noise[:, :2] - 0.5) * 40 + condition * 8) / 4
    lifts = count % STROKE == 0
    row[:, DOWN], row[:, UP] = ~lifts, lifts
    row[force] = inputs["forced"][force, 0]
    position = np.where(live, inputs["position"] + row[:, :2], inputs["position"])
    closes = noise[:, 4] < (count % LEAF == 0)
    ends = (row[:, UP] > 0) * (1 + closes)
    outputs["row_out"][:] = np.where(live, row, inputs["row"])
    outputs["position_out"][:] = position
    outputs["count_out"][:] = inputs["count"] + live
    outputs["points"][:, 0] = np.column_stack([position, ends])
    outputs["made"][:] = live * (1, 0)


class FakeModels:
    """Two steps a plan; what a text means is its letters, what a segment means is its place."""

    subjects = SUBJECTS
    settings = MANIFEST.settings

    def __init__(self) -> None:
        self.gate = threading.Event()  # clear it to hold recognition
        self.gate.set()
        self.asked = threading.Event()  # set by recognition
        self.fault: Exception | None = None  # raised by recognition

    def recognise(self, prompt: str, nearest: bool = False) -> Recognition:
        self.asked.set()
        assert self.gate.wait(20), "nobody opened the gate"
        if self.fault is not None:
            raise self.fault
        named = [subject for subject in SUBJECTS if subject in " ".join(words(prompt))]
        if not named and not nearest:
            raise UnknownSubject(
                f"no subject was recognised in {prompt!r}", details={"nearest": ", ".join(SUBJECTS)}
            )
        return Recognition(named[0], 1.0) if named else Recognition(SUBJECTS[0], 0.1)

    def conditions(self, stacks: list[tuple[str, ...]], subject: str) -> np.ndarray:
        return np.stack([_letters(" ".join((*stack, subject))) for stack in stacks])

    def expand(self, stacks: list[tuple[str, ...]], *_: Any, **__: Any) -> list[list[Expansion]]:
        steps = ("draw the body", "draw the head", "draw the legs")
        return [[Expansion(steps if len(stack) == 1 else (), -0.5)] * 2 for stack in stacks]

    def describe(
        self, _: Any, spans: np.ndarray, *__: Any, n_best: int = 1, **___: Any
    ) -> list[list[Described]]:
        return [
            [Described(f"draw part {start} to {end}", -1.0 - rank) for rank in range(n_best)]
            for start, end in spans.tolist()
        ]

    def classify(self, drawing: Any) -> np.ndarray:
        odds = 1 + np.arange(len(SUBJECTS), dtype=np.float32) * len(drawing.strokes)
        return odds / odds.sum()

    def embed_segments(self, drawing: Any, spans: np.ndarray) -> np.ndarray:
        points = [np.concatenate(drawing.strokes[s:e]).mean(axis=0) for s, e in spans.tolist()]
        return _unit(np.array(points, np.float32))

    def unity(self, drawing: Any, spans: np.ndarray) -> np.ndarray:  # noqa: ARG002
        return (1 / (1 + np.diff(spans)[:, 0])).astype(np.float32)  # single strokes are steps

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return _unit(np.stack([_letters(text) for text in texts]))


def _letters(text: str) -> np.ndarray:
    codes = np.array([ord(letter) for letter in text], np.float32)
    return np.array([np.sin(codes.sum()), np.cos(codes[::2].sum())], np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


@dataclass
class Fakes:
    """What a test can turn."""

    models: FakeModels = field(default_factory=FakeModels)
    device: FakeDevice = field(default_factory=FakeDevice)
    further: dict[str, FakeDevice] = field(default_factory=dict)  # of other bundles, by label
    opened: list[Backend] = field(default_factory=list)

    def open(self, settings: Settings) -> Backend:
        """In place of `hitree_server.backend.load`; a folder is named like the bundle in it."""
        if settings.bundle is None:
            return self._open(settings, MANIFEST, self.models, self.device, Doubling())
        name, version = settings.bundle.name.split("@")
        manifest, models = replace(MANIFEST, name=name, version=version), FakeModels()
        models.subjects = (*SUBJECTS, name)
        device = self.further[manifest.label] = FakeDevice()
        return self._open(settings, manifest, models, device, Doubling(3))

    def _open(
        self, settings: Settings, manifest: Manifest, models: Any, device: FakeDevice, raw: Doubling
    ) -> Backend:
        limits = EngineSettings(max_rows=settings.max_rows, queue_limit=settings.queue_limit)
        engine = Engine(DECODER, device, limits)
        engine.start()
        info = backends.info(settings, engine.provider, "fp32")
        raws = RawModels([RawModel.of("doubling", raw)], manifest.version)
        self.opened.append(
            Backend(manifest, models, Planner(models), Annotator(models), engine, raws, info)
        )
        return self.opened[-1]

    def let_go(self) -> None:
        """Let everything that is held go."""
        for device in (self.device, *self.further.values()):
            device.gate.set()
        self.models.gate.set()

    def release(self) -> None:
        """Let everything go and stop, so that nothing outlives the test."""
        self.let_go()
        for backend in self.opened:
            backend.engine.stop()


def settings_of(**arguments: Any) -> Settings:
    """Settings for a test: few rows, any free port, no long drain."""
    given = {"grpc_port": 0, "http_port": 0, "max_rows": 4, "queue_limit": 8, "drain_seconds": 5}
    return Settings(**{**given, **arguments})


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    made = Fakes()
    yield made
    made.release()


@pytest.fixture
def settings() -> Settings:
    return settings_of()


@pytest.fixture
async def service(fakes: Fakes, settings: Settings) -> AsyncIterator[Service]:
    """An open service, without a door."""
    made = Service(settings, Metrics())
    made.open(fakes.open(settings))
    yield made
    fakes.release()
    made.stop()


@contextlib.contextmanager
def _home(fakes: Fakes, settings: Settings) -> Iterator[Home]:
    made = Home([fakes.open(settings)], settings)
    yield made
    fakes.release()
    made.close()


@pytest.fixture(scope="session")
def new_home() -> Callable[[], contextlib.AbstractContextManager[Home]]:
    """Makes an embedded service of its own."""
    return lambda: _home(Fakes(), settings_of())


@pytest.fixture
def embedded(fakes: Fakes, settings: Settings) -> Iterator[EmbeddedTransport]:
    with _home(fakes, settings) as home:
        yield EmbeddedTransport(lambda: home)


@dataclass
class Serving:
    """A running server and clients of its doors."""

    app: App
    fakes: Fakes
    task: asyncio.Task[Any]
    http_port: int
    channel: grpc.aio.Channel
    rpc: Any  # HiTreeStub: its asyncio methods have no types of their own
    http: Any  # an httpx.AsyncClient, where HTTP is served


@contextlib.asynccontextmanager
async def serving(fakes: Fakes, settings: Settings) -> AsyncIterator[Serving]:
    """Both doors, on this event loop."""
    app = App(settings, fakes.open)
    up = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(app, up.set_result))
    await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{up.result()}", timeout=20)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}")
    try:
        async with http, channel:
            yield Serving(app, fakes, task, up.result(), channel, HiTreeStub(channel), http)
    finally:
        fakes.let_go()
        app.stopping.set()
        await task


@pytest.fixture
async def rpc_door(fakes: Fakes, settings: Settings) -> AsyncIterator[Serving]:
    """The gRPC door alone, which opens faster; it has no HTTP client."""
    app = App(settings, fakes.open)
    await app.start()
    running = asyncio.create_task(app.stopping.wait())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        yield Serving(app, fakes, running, 0, channel, HiTreeStub(channel), None)
    fakes.let_go()
    app.stopping.set()
    await app.stop()


@pytest.fixture
async def server(fakes: Fakes, settings: Settings) -> AsyncIterator[Serving]:
    async with serving(fakes, settings) as made:
        yield made


@pytest.fixture(scope="session")
def new_server() -> Callable[..., contextlib.AbstractAsyncContextManager[Serving]]:
    """Runs a server of its own; see `serving`."""
    return serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server() -> AsyncIterator[Serving]:
    """One server for the tests of a module that leave it as it was."""
    made = Fakes()
    async with serving(made, settings_of()) as running:
        yield running
    made.release()
