"""TLS over both doors, with and without certificates of clients."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
import trustme

from hitree.errors import InvalidInput
from hitree.v1 import hitree_pb2 as pb
from hitree.v1.hitree_pb2_grpc import HiTreeStub
from hitree_server.settings import Settings
from hitree_server.tls import Tls
from server.conftest import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from server.conftest import Fakes, Serving

    NewServer = Callable[..., AbstractAsyncContextManager[Serving]]

AUTHORITY, CLIENTS = trustme.CA(), trustme.CA()
LEAF, CLIENT = AUTHORITY.issue_cert("localhost", "127.0.0.1"), CLIENTS.issue_cert("client@here")
CA = AUTHORITY.cert_pem.bytes()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Settings that name the files of a certificate."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in LEAF.cert_chain_pems))
    LEAF.private_key_pem.write_to_path(key)
    return {"tls_cert": certificate, "tls_key": key}


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    path = tmp_path / "clients.pem"
    CLIENTS.cert_pem.write_to_path(path)
    return path


async def by_rpc(server: Serving, credentials: grpc.ChannelCredentials) -> list[str]:
    target = f"localhost:{server.app.grpc_port}"
    async with grpc.aio.secure_channel(target, credentials) as channel:
        reply = await HiTreeStub(channel).Subjects(pb.SubjectsRequest(), timeout=20)
    return list(reply.subjects)


async def by_http(server: Serving, context: ssl.SSLContext) -> list[str]:
    async with httpx.AsyncClient(verify=context, timeout=20) as client:
        reply = await client.get(f"https://localhost:{server.http_port}/v1/subjects")
    found: list[str] = reply.json()["subjects"]
    return found


async def test_both_doors_speak_tls_alone(
    fakes: Fakes, files: dict[str, Any], new_server: NewServer
) -> None:
    async with new_server(fakes, settings_of(**files)) as server:
        trusted = ssl.create_default_context(cadata=CA.decode())
        told = await by_rpc(server, grpc.ssl_channel_credentials(CA))
        assert "cat" in told
        assert await by_http(server, trusted) == told
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await server.rpc.Subjects(pb.SubjectsRequest(), timeout=20)  # in the clear
        with pytest.raises(httpx.HTTPError):
            await server.http.get("/v1/subjects")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await by_http(server, ssl.create_default_context())


async def test_clients_show_certificates_where_they_must(
    fakes: Fakes, files: dict[str, Any], clients: Path, new_server: NewServer
) -> None:
    async with new_server(fakes, settings_of(**files, tls_client_ca=clients)) as server:
        chain = b"".join(blob.bytes() for blob in CLIENT.cert_chain_pems)
        shown = grpc.ssl_channel_credentials(CA, CLIENT.private_key_pem.bytes(), chain)
        assert "cat" in await by_rpc(server, shown)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await by_rpc(server, grpc.ssl_channel_credentials(CA))

        context = ssl.create_default_context(cadata=CA.decode())
        with pytest.raises((httpx.HTTPError, ssl.SSLError)):
            await by_http(server, context)
        CLIENT.configure_cert(context)
        assert "cat" in await by_http(server, context)


def test_files_that_do_not_fit_are_refused(files: dict[str, Any], clients: Path) -> None:
    for wrong in ({"tls_key": clients}, {"tls_cert": clients}, {"tls_cert": clients / "none"}):
        with pytest.raises(InvalidInput, match="PEM files that belong together"):
            Tls.of(Settings(**{**files, **wrong}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert": "a"}, "tls_cert and tls_key go together"),
        ({"tls_key": "a"}, "tls_cert and tls_key go together"),
        ({"tls_client_ca": "a"}, "tls_client_ca needs tls_cert"),
    ],
)
def test_half_a_setting_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        Settings.of(**given)


def test_without_settings_the_doors_speak_in_the_clear() -> None:
    assert Tls.of(Settings()) is None
