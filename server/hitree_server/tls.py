"""The certificate of both doors, and whose certificates clients must show."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from hitree.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from hitree_server.settings import Settings


@dataclass(frozen=True)
class Tls:
    """PEM files that fit together."""

    certificate: Path  # the chain, the server's own first
    key: Path  # its private key
    client_ca: Path | None  # signs clients' certificates; None: clients need none

    @classmethod
    def of(cls, settings: Settings) -> Tls | None:
        """What the settings say; None: the doors speak in the clear.

        Raises:
            InvalidInput: a file is missing, or is not what it should be.
        """
        if settings.tls_cert is None or settings.tls_key is None:
            return None
        found = cls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(found.certificate, found.key)
            if found.client_ca is not None:
                context.load_verify_locations(found.client_ca)
        except OSError as exc:  # an SSLError is one
            raise InvalidInput(
                f"the certificate {found.certificate}, its key and the clients' authority cannot "
                f"be used: {exc}; give PEM files that belong together"
            ) from exc
        return found

    def grpc(self) -> grpc.ServerCredentials:
        """For the gRPC door."""
        authority = self.client_ca.read_bytes() if self.client_ca else None
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            root_certificates=authority,
            require_client_auth=authority is not None,
        )

    def uvicorn(self) -> dict[str, Any]:
        """For the HTTP door, as arguments of ``uvicorn.Config``; Any: they are of many types."""
        return {
            "ssl_certfile": str(self.certificate),
            "ssl_keyfile": str(self.key),
            "ssl_ca_certs": str(self.client_ca) if self.client_ca else None,
            "ssl_cert_reqs": ssl.CERT_REQUIRED if self.client_ca else ssl.CERT_NONE,
        }
