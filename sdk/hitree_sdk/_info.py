"""What the service tells about itself, and small results: frozen mirrors of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hitree.v1 import hitree_pb2 as pb


@dataclass(frozen=True)
class Description:
    """A text for a segment."""

    text: str
    score: float  # log-probability per token; higher is likelier


@dataclass(frozen=True)
class ScoreItem:
    """A text to score against the strokes ``[start, end)``; tree nodes serve as well."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class ModelEntry:
    """One exported model of the bundle."""

    name: str  # "decoder_step", "scorer_texts", …
    file: str  # inside the bundle
    sha256: str  # of the file


@dataclass(frozen=True)
class EngineInfo:
    """How the engine runs."""

    provider: str  # ONNX Runtime's execution provider
    available_providers: tuple[str, ...]
    precision: str  # of the decoder's step: "fp32", "int8" or "fp16"
    max_rows: int  # drawings that one step can carry
    buckets: tuple[int, ...]  # the batch sizes that steps are padded to
    threads: int
    queue_limit: int  # requests that may wait


@dataclass(frozen=True)
class ModelInfo:
    """What is served."""

    bundle: str
    version: str
    git_sha: str  # of the code that trained it
    data_hash: str  # of the data it was trained on
    created: str  # ISO 8601
    models: tuple[ModelEntry, ...]
    engine: EngineInfo
    metrics: Mapping[str, float]  # quality figures that the bundle shipped with
    limits: Mapping[str, int]  # see `hitree.limits`
    server_version: str
    bundles: tuple[str, ...] = ()  # that may be chosen, "name@version", the default one first


def model_info_of(reply: pb.ModelInfoResponse) -> ModelInfo:
    """Mirror the wire's message."""
    return ModelInfo(
        bundle=reply.bundle,
        version=reply.version,
        git_sha=reply.git_sha,
        data_hash=reply.data_hash,
        created=reply.created,
        models=tuple(ModelEntry(m.name, m.file, m.sha256) for m in reply.models),
        engine=_engine(reply.engine),
        metrics=dict(reply.metrics),
        limits=dict(reply.limits),
        server_version=reply.server_version,
        bundles=tuple(f"{one.name}@{one.version}" for one in reply.bundles),
    )


def _engine(engine: pb.EngineInfo) -> EngineInfo:
    return EngineInfo(
        provider=engine.provider,
        available_providers=tuple(engine.available_providers),
        precision=engine.precision,
        max_rows=engine.max_rows,
        buckets=tuple(engine.buckets),
        threads=engine.threads,
        queue_limit=engine.queue_limit,
    )
