"""Computes on ONNX Runtime: the only import of it in the engine.

On the CPU inputs and outputs are bound once for each batch size, straight onto the slots' arrays,
so that a step neither allocates nor copies. On a GPU the state that steps alone need stays there,
every tensor at one address, and a step is recorded as a CUDA graph and played back: `Resident`.
Where a graph cannot be recorded, a step on a GPU takes all state along, there and back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal  # Any: onnxruntime has no types

import numpy as np

from hitree.bundle import Tensor
from hitree.errors import BundleCorrupt, MissingPackage, Unavailable
from hitree_server.engine.store import DeviceStore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from hitree.bundle import StepGraph
    from hitree_server.engine.runner import Call, Device
    from hitree_server.engine.store import Array, Arrays, Block

Provider = Literal["auto", "cpu", "cuda"]

Known = Literal["cpu", "cuda"]

_NAMES: dict[Known, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_RECORDING = "gpu_graph_id"  # the run option that says which recording a run makes or plays
_BUSY = Lock()  # a step can be recorded only while no other thread uses the GPU


class OnnxDevice:
    """One session on one provider; all state lies on the host."""

    def __init__(self, session: Any, provider: str) -> None:
        self._session = session  # an InferenceSession, untyped
        self._provider = provider

    @property
    def provider(self) -> str:
        """Where it computes: "cpu" or "cuda"."""
        return self._provider

    def store(self, _graph: StepGraph, _rows: int, /) -> None:
        """Nothing: the host holds all."""
        return

    def bind(
        self, inputs: Mapping[str, Array | Block], outputs: Mapping[str, Array | Block]
    ) -> Call:
        """A call that reads ``inputs`` and writes ``outputs``, the arrays' current contents."""
        if self._provider != "cpu":
            # binding copies host arrays to the device, so it is done anew for every step
            return lambda: self._run(self._binding(inputs, outputs))
        binding = self._binding(inputs, outputs)
        return lambda: self._run(binding)

    def _binding(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        binding = self._session.io_binding()
        for name, a in inputs.items():
            binding.bind_input(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
        for name, a in outputs.items():
            binding.bind_output(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
        return binding

    def _run(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()


@dataclass(frozen=True, eq=False)
class Held:
    """Memory of a device, or its first rows."""

    value: Any  # an OrtValue, which owns it
    shape: tuple[int, ...]
    dtype: type[np.generic]

    def __getitem__(self, first: slice, /) -> Held:
        return replace(self, shape=(first.stop, *self.shape[1:]))

    @property
    def bound(self) -> tuple[type[np.generic], tuple[int, ...], int]:
        """Type, shape and address, as bindings take them."""
        return self.dtype, self.shape, self.value.data_ptr()


class Resident:
    """A device that holds the state; a step takes along what is new, and gives back what is read.

    Its parts are those of a GPU, but work with any provider: on the CPU nothing is recorded.
    """

    def __init__(self, session: Any, rows: Any, provider: Known) -> None:
        """``rows`` is the session of the graph that puts rows of state in another order."""
        self._session, self._rows = session, rows
        self._provider = provider
        self._recordings = count(1)
        self._staged: dict[tuple[str, tuple[int, ...]], Held] = {}

    @property
    def provider(self) -> str:
        """Where it computes: "cpu" or "cuda"."""
        return self._provider

    def store(self, graph: StepGraph, rows: int, /) -> DeviceStore:
        """A place for the state that steps alone need."""
        return DeviceStore(graph.state, rows, self)

    def bind(
        self, inputs: Mapping[str, Array | Block], outputs: Mapping[str, Array | Block]
    ) -> Call:
        """A call that reads ``inputs`` and writes ``outputs``; it is a recording of its own."""
        told = [(self._stage(n, a), a) for n, a in inputs.items() if isinstance(a, np.ndarray)]
        read = [(self._stage(n, a), a) for n, a in outputs.items() if isinstance(a, np.ndarray)]
        binding = self._session.io_binding()
        for name, place in inputs.items():
            binding.bind_input(name, self._provider, 0, *self._stage(name, place).bound)
        for name, place in outputs.items():
            binding.bind_output(name, self._provider, 0, *self._stage(name, place).bound)
        options = _runtime().RunOptions()
        options.add_run_config_entry(_RECORDING, str(next(self._recordings)))

        def call() -> None:
            with _BUSY:
                for held, a in told:
                    held.value.update_inplace(a)
                self._session.run_with_iobinding(binding, options)
                binding.synchronize_outputs()
                for held, a in read:
                    a[:] = held.value.numpy()

        return call

    # What the store needs

    def empty(self, tensor: Tensor, rows: int) -> Held:
        """Memory for rows of a tensor, which holds anything."""
        shape, dtype = (rows, *tensor.shape), np.dtype(tensor.dtype).type
        make = _runtime().OrtValue.ortvalue_from_shape_and_type
        return Held(make(shape, dtype, self._provider, 0), shape, dtype)

    def gather(
        self, index: Array, state: Mapping[str, Block], fresh: Arrays, to: Mapping[str, Block]
    ) -> None:
        """Write rows ``index`` of ``state`` followed by ``fresh`` to ``to``, by output names."""
        with _BUSY:
            binding = self._rearranged(index, state, fresh)
            for name, held in to.items():
                binding.bind_output(name, self._provider, 0, *_held(held).bound)
            self._rows.run_with_iobinding(binding)
            binding.synchronize_outputs()

    def fetch(self, index: Array, state: Mapping[str, Block], fresh: Arrays) -> Arrays:
        """The same rows, copied to the host, by output names."""
        names = [output.name for output in self._rows.get_outputs()]
        with _BUSY:
            binding = self._rearranged(index, state, fresh)
            for name in names:
                binding.bind_output(name, "cpu")
            self._rows.run_with_iobinding(binding)
            return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

    def _rearranged(self, index: Array, state: Mapping[str, Block], fresh: Arrays) -> Any:
        """The graph of rows with its inputs bound."""
        binding = self._rows.io_binding()
        binding.bind_cpu_input("index", index)
        for name, held in state.items():
            binding.bind_input(name, self._provider, 0, *_held(held).bound)
            binding.bind_cpu_input(f"{name}_fresh", fresh[name])
        return binding

    def _stage(self, name: str, place: Array | Block) -> Held:
        """Where a tensor lies on the device: what the host has is copied to one place."""
        if not isinstance(place, np.ndarray):
            return _held(place)
        key = (name, place.shape)
        if key not in self._staged:
            tensor = Tensor(name, place.shape[1:], place.dtype.name)
            self._staged[key] = self.empty(tensor, len(place))
        return self._staged[key]


def _held(block: Block) -> Held:
    assert isinstance(block, Held), "a store gives back what its device made"
    return block


def open_device(path: Path, provider: Known, threads: int = 0, rows: Path | None = None) -> Device:
    """Load a graph; ``threads`` 0 leaves their number to the runtime.

    ``rows``, for a graph that does the same work in every step, is the one that puts rows of its
    state in another order.

    Raises:
        MissingPackage: onnxruntime is not installed.
        BundleCorrupt: the file is no graph that the runtime can load.
        Unavailable: the provider cannot be started.
    """
    if provider == "cpu" or rows is None:
        return OnnxDevice(_session(path, provider, threads), provider)
    step = _session(path, provider, threads, enable_cuda_graph="1")
    return Resident(step, _session(rows, provider, threads), provider)


def _session(path: Path, provider: Known, threads: int, **settings: str) -> Any:
    """A session; ``settings`` are the provider's."""
    ort = _runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised and logged by who calls
    # Threads that spin for work between steps would burn CPU while the engine is idle.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [(_NAMES[provider], settings)]
    try:
        session = ort.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as exc:  # the runtime's classes share no base of their own
        raise BundleCorrupt(
            f"{path} cannot be loaded: {exc}; copy or export the bundle again"
        ) from exc
    if _NAMES[provider] not in session.get_providers():  # the runtime would take the CPU
        raise Unavailable(
            f"onnxruntime has the provider {provider} and cannot start it here; see what it "
            "wrote, or choose cpu"
        )
    return session


def available() -> tuple[Known, ...]:
    """The providers that the runtime has, of those we know.

    Raises:
        MissingPackage: onnxruntime is not installed.
    """
    theirs = _runtime().get_available_providers()
    return tuple(name for name, theirs_name in _NAMES.items() if theirs_name in theirs)


def choose(provider: Provider, there: Collection[str]) -> Known:
    """The provider to use out of those that are ``there``.

    Raises:
        Unavailable: CUDA was asked for and is not there.
    """
    if provider == "cpu" or (provider == "auto" and "cuda" not in there):
        return "cpu"
    if "cuda" not in there:
        raise Unavailable(
            "the provider cuda was asked for and onnxruntime has none; "
            "pip install 'hitree[server-gpu]' on a machine with a GPU, or choose cpu or auto"
        )
    return "cuda"


def _runtime() -> Any:
    try:
        import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no stubs
    except ImportError as exc:
        raise MissingPackage(
            "drawing in this process needs onnxruntime; pip install 'hitree[server]'"
        ) from exc
    return ort
