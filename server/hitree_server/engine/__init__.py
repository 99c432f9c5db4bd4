"""The engine: continuous batching of drawings, one step of the sketch decoder at a time.

The scheduler decides, slots hold, the runner translates, the device computes, the loop sequences,
streams deliver. Requests join and leave the running batch between any two steps.
"""

from hitree_server.engine.loop import Engine
from hitree_server.engine.runner import Device
from hitree_server.engine.scheduler import EngineSettings
from hitree_server.engine.sequence import (
    Broken,
    Ended,
    EngineEvent,
    Leaf,
    LeafEnded,
    LeafStarted,
    PointsMade,
    SequenceSpec,
    StrokeEnded,
)
from hitree_server.engine.stats import Histogram, Stats
from hitree_server.engine.streams import Stream

__all__ = [
    "Broken",
    "Device",
    "Ended",
    "Engine",
    "EngineEvent",
    "EngineSettings",
    "Histogram",
    "Leaf",
    "LeafEnded",
    "LeafStarted",
    "PointsMade",
    "SequenceSpec",
    "Stats",
    "Stream",
    "StrokeEnded",
]
