"""The service, with a device that fails some steps: `hitree serve` for benchmarks of faults.

    python benchmarks/faulty.py AFTER COUNT

AFTER steps after the first drawing began COUNT steps fail, before anything was computed.
Settings come from the environment.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hitree_server import backend
from hitree_server.app import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hitree_server.engine.device import OnnxDevice
    from hitree_server.engine.slots import Array


class Faulty:
    """A device that breaks once, for some steps."""

    def __init__(self, device: OnnxDevice, after: int, count: int) -> None:
        self._device = device
        self._failing = range(after, after + count)
        self._steps = 0  # since the first drawing began: an engine is warmed up with padding
        self.provider, self.store = device.provider, device.store

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        compute = self._device.bind(inputs, outputs)

        def step() -> None:
            self._steps += bool(self._steps or inputs["limit"].any())
            if self._steps in self._failing:
                raise RuntimeError("the device failed, as it was told to")
            compute()

        return step


def main() -> None:
    after, count = map(int, sys.argv[1:])
    open_device = backend.open_device

    def open_faulty(*arguments: Any) -> Any:  # Any: whatever the device is opened with
        return Faulty(open_device(*arguments), after, count)

    backend.open_device = open_faulty  # type: ignore[assignment]
    serve()


if __name__ == "__main__":
    main()
