"""HiTree's SDK: plans, drawings as streams of events, and the trees behind drawings.

::

    import hitree_sdk

    client = hitree_sdk.Client()
    plan = client.plan("draw a flamingo")
    with client.draw(plan, seed=7) as stream:
        for event in stream:
            ...
    stream.result().save("flamingo.svg")

`AsyncClient` is the asyncio twin of `Client`. Everything raises `HiTreeError` (see
`hitree.errors` for the tree); the events of a stream are those of `hitree.events`.
"""

from hitree.drawing import Drawing
from hitree.errors import (
    BundleError,
    Cancelled,
    ClientClosed,
    DeadlineExceeded,
    EmptyDrawing,
    EmptyPrompt,
    HiTreeError,
    InternalError,
    InvalidDrawing,
    InvalidInput,
    InvalidPlan,
    MissingPackage,
    NotFinite,
    NotText,
    OutOfFrame,
    Overloaded,
    PromptTooLong,
    SinglePoint,
    TooManyPoints,
    TooManyStrokes,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnknownBundle,
    UnknownField,
    UnknownSubject,
)
from hitree.events import (
    DrawEvent,
    Finished,
    NodeFinished,
    NodeStarted,
    PlanMade,
    Points,
    Started,
    StrokeFinished,
)
from hitree.tree import Node, Plan
from hitree_sdk._async_client import AsyncClient
from hitree_sdk._client import Client
from hitree_sdk._info import Description, EngineInfo, ModelEntry, ModelInfo, ScoreItem
from hitree_sdk._sketch import Sketch
from hitree_sdk._stream import AsyncDrawStream, DrawStream

__all__ = [
    "AsyncClient",
    "AsyncDrawStream",
    "BundleError",
    "Cancelled",
    "Client",
    "ClientClosed",
    "DeadlineExceeded",
    "Description",
    "DrawEvent",
    "DrawStream",
    "Drawing",
    "EmptyDrawing",
    "EmptyPrompt",
    "EngineInfo",
    "Finished",
    "HiTreeError",
    "InternalError",
    "InvalidDrawing",
    "InvalidInput",
    "InvalidPlan",
    "MissingPackage",
    "ModelEntry",
    "ModelInfo",
    "Node",
    "NodeFinished",
    "NodeStarted",
    "NotFinite",
    "NotText",
    "OutOfFrame",
    "Overloaded",
    "Plan",
    "PlanMade",
    "Points",
    "PromptTooLong",
    "ScoreItem",
    "SinglePoint",
    "Sketch",
    "Started",
    "StrokeFinished",
    "TooManyPoints",
    "TooManyStrokes",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownBundle",
    "UnknownField",
    "UnknownSubject",
]
