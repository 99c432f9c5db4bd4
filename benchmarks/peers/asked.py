"""The requests of a measurement on disk, and the sum by which their points are checked.

Needs nothing but numpy: the client reads it in whichever environment it runs.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """Requests, in the order they are sent."""

    wire: list[bytes]  # for the service: `DrawRequest` messages
    peers: list[dict[str, Any]]  # for the peers: JSON
    sums: list[int]  # of the points that must come, see `checksum`
    points: list[int]  # how many they are

    def save(self, path: Path) -> None:
        """Write a file."""
        wire = [base64.b64encode(message).decode() for message in self.wire]
        path.write_text(json.dumps(vars(self) | {"wire": wire}))

    @classmethod
    def load(cls, path: Path) -> Asked:
        """Read one."""
        found = json.loads(path.read_text())
        return cls(**found | {"wire": [base64.b64decode(message) for message in found["wire"]]})


def checksum(points: Any) -> int:
    """CRC-32 of points, (N, 4) or flat: x, y in quarters of a unit, index of the stroke, node."""
    return zlib.crc32(np.ascontiguousarray(points, np.int32).tobytes())
