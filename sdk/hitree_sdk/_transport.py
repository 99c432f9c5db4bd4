"""From a configuration to what carries the calls."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast

from hitree.errors import MissingPackage
from hitree.transport import EMBEDDED, ENTRY_POINT_GROUP
from hitree_sdk._grpc import AsyncGrpcTransport, GrpcTransport
from hitree_sdk._http import AsyncHttpTransport, HttpTransport

if TYPE_CHECKING:
    from hitree.transport import AsyncTransport, Transport
    from hitree_sdk._config import Config


class Embedded(Protocol):
    """What the server registers under the entry point: one engine, two faces."""

    @property
    def sync(self) -> Transport:
        """For blocking clients."""
        ...

    @property
    def aio(self) -> AsyncTransport:
        """For asyncio clients."""
        ...


def connect(config: Config) -> Transport:
    """Open the transport of a blocking client; remote ones connect with their first call.

    Raises:
        MissingPackage: the embedded engine is wanted and not installed.
    """
    match config.scheme:
        case "embedded":
            return open_embedded().sync
        case "grpc" | "grpcs":
            return GrpcTransport(config)
        case "http" | "https":
            return HttpTransport(config)


def connect_async(config: Config) -> AsyncTransport:
    """Open the transport of an asyncio client; see `connect`."""
    match config.scheme:
        case "embedded":
            return open_embedded().aio
        case "grpc" | "grpcs":
            return AsyncGrpcTransport(config)
        case "http" | "https":
            return AsyncHttpTransport(config)


def open_embedded() -> Embedded:
    """Find the engine of this process; the SDK itself never imports the server.

    Raises:
        MissingPackage: no server is installed, or something that it needs is not.
    """
    advice = (
        "pip install 'hitree[server]' (or 'hitree[server-gpu]'), or set HITREE_URL to a running "
        "service, for instance grpc://localhost:50051"
    )
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=EMBEDDED):
        try:
            return cast("Embedded", entry.load()())
        except ImportError as exc:
            raise MissingPackage(f"the embedded engine cannot start: {exc}; {advice}") from exc
    raise MissingPackage(f"the embedded engine is not installed; {advice}")
