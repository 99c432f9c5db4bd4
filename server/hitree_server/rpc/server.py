"""The gRPC server: HiTree, the raw models, the standard health service and reflection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no stubs
from grpc_health.v1._async import HealthServicer  # type: ignore[import-untyped]  # has no stubs
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # has no stubs

from hitree.errors import PortBusy
from hitree.limits import LIMITS
from hitree.oip import inference_pb2 as oip
from hitree.oip import inference_pb2_grpc as oip_grpc
from hitree.v1 import hitree_pb2 as pb
from hitree.v1 import hitree_pb2_grpc as pb_grpc
from hitree_server.rpc.inference import InferenceServicer
from hitree_server.rpc.reading import Reading
from hitree_server.rpc.service import HiTreeServicer

if TYPE_CHECKING:
    from hitree_server.service import Service
    from hitree_server.tls import Tls

HITREE = pb.DESCRIPTOR.services_by_name["HiTree"].full_name
INFERENCE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_OPTIONS = (
    # Twice the limit, so that a message just above it gets the service's own error.
    ("grpc.max_receive_message_length", 2 * LIMITS.message_bytes),
    ("grpc.max_send_message_length", LIMITS.message_bytes),
    ("grpc.so_reuseport", 0),  # else a second server shares the port without a word
    ("grpc.max_concurrent_streams", 1024),  # of a connection; its client holds the rest back
    ("grpc.keepalive_time_ms", 60_000),  # a client that vanished is found out within two minutes
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # as often as clients may ping
)


class RpcServer:
    """Listens on a port from its making; answers health checks from `start` on."""

    def __init__(self, service: Service, host: str, port: int, tls: Tls | None = None) -> None:
        """Bind ``host:port``; port 0 takes any free one, see ``port``.

        Raises:
            PortBusy: the port is taken.
        """
        self._server = grpc.aio.server(options=_OPTIONS)
        reading: Any = Reading(self._server)  # Any: the stubs know servers alone
        pb_grpc.add_HiTreeServicer_to_server(HiTreeServicer(service), reading)
        raw = InferenceServicer(service)
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(raw, reading)
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (HITREE, INFERENCE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, tls.grpc())
        except RuntimeError as exc:
            raise PortBusy(
                f"the gRPC port {port} on {host} cannot be opened, another process may listen "
                "there; stop it, or choose another with --port or HITREE_GRPC_PORT",
                details={"port": str(port), "door": "grpc"},
            ) from exc

    async def start(self) -> None:
        """Begin to answer, NOT_SERVING."""
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks, of the server and of the service, whether calls are welcome."""
        for name in ("", HITREE, INFERENCE):
            await self._health.set(name, _SERVING if ready else _NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Refuse new calls; give those that run ``grace`` seconds, then cancel them."""
        await self._server.stop(grace)
