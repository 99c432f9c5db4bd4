"""What a service answers with: a bundle's models, and the engine that draws."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import LRUCache

from hitree import bundle as bundles
from hitree.errors import BundleError
from hitree.v1 import hitree_pb2 as pb
from hitree_server.annotator import Annotator
from hitree_server.engine import Engine, EngineSettings
from hitree_server.engine.device import available, choose, open_device
from hitree_server.engine.runner import buckets
from hitree_server.models import Models
from hitree_server.planner import Planner
from hitree_server.settings import bundle_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from hitree.bundle import Bundle, Manifest
    from hitree_server.engine import Device
    from hitree_server.engine.sequence import Floats
    from hitree_server.raw import RawModels
    from hitree_server.settings import Settings

CONDITIONS = 16 << 20  # bytes of conditions that are kept of the plans drawn last


def _conditions() -> LRUCache[bytes, Floats]:
    return LRUCache(CONDITIONS, getsizeof=lambda conditions: conditions.nbytes)


@dataclass(frozen=True, eq=False)
class Backend:
    """One bundle, loaded; its engine runs."""

    manifest: Manifest
    models: Models
    planner: Planner
    annotator: Annotator
    engine: Engine
    raw: RawModels
    info: pb.EngineInfo  # how the engine was set up
    # By a digest of subject and stacks; of plans as a whole: alone, a leaf's would differ in the
    # last bits.
    conditions: LRUCache[bytes, Floats] = field(default_factory=_conditions)


def load(settings: Settings) -> Backend:
    """Check and load the default bundle, and start its engine. Takes seconds.

    Raises:
        MissingPackage: there is no bundle, or no runtime.
        BundleIncomplete, BundleCorrupt: the bundle is not what its manifest says.
        Unavailable: the provider that is asked for is not there.
        InvalidInput: the bundle has no decoder of the precision that is asked for.
    """
    bundle = bundles.load(bundle_path(settings))
    models = Models.load(bundle, settings.threads)
    precision, device = open_decoder(bundle, settings)
    limits = EngineSettings(
        max_rows=settings.max_rows,
        queue_limit=settings.queue_limit,
        longest_wait=settings.longest_wait,
    )
    engine = Engine(bundle.manifest.decoder, device, limits)
    told = info(settings, device.provider, precision)
    backend = Backend(
        bundle.manifest,
        models,
        Planner(models),
        Annotator(models),
        engine,
        models.raw(bundle, settings.threads),
        told,
    )
    engine.start()  # last, so that no thread is left where something else fails
    return backend


def load_all(
    settings: Settings, load_one: Callable[[Settings], Backend] = load
) -> tuple[Backend, ...]:
    """Load all bundles, each with an engine of its own, the default one first.

    Raises:
        BundleError: two of them have the same name and version.
        HiTreeError: what ``load_one`` raises; no engine is left running.
    """
    opened: dict[str, Backend] = {}
    with ExitStack() as undo:
        for folder in (settings.bundle, *settings.more_bundles):
            backend = load_one(settings.model_copy(update={"bundle": folder}))
            undo.callback(backend.engine.stop)
            if backend.manifest.label in opened:
                raise BundleError(
                    f"the bundle at {folder} is {backend.manifest.label}, as another one that is "
                    "served; leave one of them out"
                )
            opened[backend.manifest.label] = backend
        undo.pop_all()
    return tuple(opened.values())


def open_decoder(bundle: Bundle, settings: Settings) -> tuple[str, Device]:
    """The precision of the decoder's step, and the device that computes it.

    Raises:
        Unavailable, InvalidInput, BundleCorrupt, MissingPackage: see `load`.
    """
    graph = bundle.manifest.decoder
    provider = choose(settings.provider, available())
    precision, file = graph.choose(provider, settings.precision)
    rows = bundle.file(graph.rows) if graph.rows and precision in graph.dense else None
    return precision, open_device(bundle.file(file), provider, settings.threads, rows)


def info(settings: Settings, provider: str, precision: str) -> pb.EngineInfo:
    """What ``ModelInfo`` tells of an engine."""
    return pb.EngineInfo(
        provider=provider,
        available_providers=available(),
        precision=precision,
        max_rows=settings.max_rows,
        buckets=buckets(settings.max_rows),
        threads=settings.threads,
        queue_limit=settings.queue_limit,
    )
