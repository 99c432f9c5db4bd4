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
def https() -> Iterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    LEAF.configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def grpcs() -> Iterator[str]:
    answer = grpc.unary_unary_rpc_method_handler(
        lambda *_: SUBJECTS,
        request_deserializer=pb.SubjectsRequest.FromString,
        response_serializer=pb.SubjectsResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("hitree.v1.HiTree", {"Subjects": answer})
    chain = b"".join(blob.bytes() for blob in LEAF.cert_chain_pems)
    secret = grpc.ssl_server_credentials([(LEAF.private_key_pem.bytes(), chain)])
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
