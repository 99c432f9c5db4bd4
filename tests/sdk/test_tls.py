"""TLS over both doors, with a certificate authority of one's own."""

from __future__ import annotations

import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from hitree.errors import Unavailable
from hitree.v1 import hitree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sdk.fakes import AsyncTwin, SyncTwin

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("localhost", "127.0.0.1")
OWN = AUTHORITY.issue_cert("client@here")
SUBJECTS = pb.SubjectsResponse(subjects=["cat"])


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with the subjects."""

    def do_GET(self) -> None:  # the framework's name
        body = b'{"subjects": ["cat"]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def cert_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.pem"
    OWN.private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture
def https() -> Iterator[str]:
    yield from serve_https(asks=False)


@pytest.fixture
def https_that_asks() -> Iterator[str]:
    yield from serve_https(asks=True)


def serve_https(*, asks: bool) -> Iterator[str]:
    """A server; where it ``asks``, clients must show a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    LEAF.configure_cert(context)
    if asks:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def grpcs() -> Iterator[str]:
    yield from serve_grpcs(asks=False)


@pytest.fixture
def grpcs_that_asks() -> Iterator[str]:
    yield from serve_grpcs(asks=True)


def serve_grpcs(*, asks: bool) -> Iterator[str]:
    """The same over gRPC."""
    answer = grpc.unary_unary_rpc_method_handler(
        lambda *_: SUBJECTS,
        request_deserializer=pb.SubjectsRequest.FromString,
        response_serializer=pb.SubjectsResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("hitree.v1.HiTree", {"Subjects": answer})
    chain = b"".join(blob.bytes() for blob in LEAF.cert_chain_pems)
    authority = AUTHORITY.cert_pem.bytes() if asks else None
    secret = grpc.ssl_server_credentials([(LEAF.private_key_pem.bytes(), chain)], authority, asks)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[service])
        port = server.add_secure_port("127.0.0.1:0", secret)
        server.start()
        yield f"grpcs://localhost:{port}"
        server.stop(None).wait()


@pytest.mark.parametrize("door", ["https", "grpcs"])
async def test_a_trusted_certificate(
    twin: SyncTwin | AsyncTwin, door: str, ca_file: Path, request: pytest.FixtureRequest
) -> None:
    client = twin.connect(request.getfixturevalue(door), ca_file=ca_file)
    assert await twin.call(client, "subjects") == ["cat"]
    await twin.call(client, "close")


@pytest.mark.parametrize("door", ["https", "grpcs"])
async def test_a_certificate_that_nobody_vouches_for(
    twin: SyncTwin | AsyncTwin, door: str, request: pytest.FixtureRequest
) -> None:
    client = twin.connect(request.getfixturevalue(door), retries=0)
    with pytest.raises(Unavailable, match="check HITREE_URL"):
        await twin.call(client, "subjects")
    await twin.call(client, "close")


@pytest.mark.parametrize("door", ["https_that_asks", "grpcs_that_asks"])
async def test_a_certificate_of_the_clients_own(
    twin: SyncTwin | AsyncTwin,
    door: str,
    ca_file: Path,
    cert_file: Path,
    request: pytest.FixtureRequest,
) -> None:
    url = request.getfixturevalue(door)
    client = twin.connect(url, ca_file=ca_file, cert_file=cert_file)
    assert await twin.call(client, "subjects") == ["cat"]
    await twin.call(client, "close")
    client = twin.connect(url, ca_file=ca_file, retries=0)
    with pytest.raises(Unavailable):
        await twin.call(client, "subjects")
    await twin.call(client, "close")
