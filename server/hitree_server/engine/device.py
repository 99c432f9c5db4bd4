"""Computes on ONNX Runtime: the only import of it in the engine.

On the CPU inputs and outputs are bound once for each batch size, straight onto the slots' arrays,
so that a step neither allocates nor copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal  # Any: onnxruntime has no types

from hitree.errors import BundleCorrupt, MissingPackage, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from hitree_server.engine.runner import Call
    from hitree_server.engine.slots import Array

Provider = Literal["auto", "cpu", "cuda"]

Known = Literal["cpu", "cuda"]

_NAMES: dict[Known, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxDevice:
    """One session on one provider."""

    def __init__(self, session: Any, provider: str) -> None:
        self._session = session  # an InferenceSession, untyped
        self._provider = provider

    @property
    def provider(self) -> str:
        """Where it computes: "cpu" or "cuda"."""
        return self._provider

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Call:
        """A call that reads ``inputs`` and writes ``outputs``, the arrays' current contents."""
        if self._provider != "cpu":
            # binding copies host arrays to the device, so it is done anew for every step
            return lambda: self._run(self._binding(inputs, outputs))
        binding = self._binding(inputs, outputs)
        return lambda: self._run(binding)

    def _binding(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Any:
        binding = self._session.io_binding()
        for name, a in inputs.items():
            binding.bind_input(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
        for name, a in outputs.items():
            binding.bind_output(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
        return binding

    def _run(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()


def open_device(path: Path, provider: Known, threads: int = 0) -> OnnxDevice:
    """Load a graph; ``threads`` 0 leaves their number to the runtime.

    Raises:
        MissingPackage: onnxruntime is not installed.
        BundleCorrupt: the file is no graph that the runtime can load.
    """
    ort = _runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised and logged by who calls
    # Threads that spin for work between steps would burn CPU while the engine is idle.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(path.read_bytes(), options, providers=[_NAMES[provider]])
    except Exception as exc:  # the runtime's classes share no base of their own
        raise BundleCorrupt(
            f"{path} cannot be loaded: {exc}; copy or export the bundle again"
        ) from exc
    return OnnxDevice(session, provider)


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
