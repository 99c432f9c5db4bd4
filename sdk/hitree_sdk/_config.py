"""Where a client connects to and how; the only reader of the environment in the SDK.

An argument wins over the environment, the environment over the default:

=============  =================  ==========================
argument       environment        default
=============  =================  ==========================
``url``        HITREE_URL         the engine in this process
``api_key``    HITREE_API_KEY     none
``timeout``    HITREE_TIMEOUT     60 seconds
=============  =================  ==========================
"""

from __future__ import annotations

import math
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args
from urllib.parse import SplitResult, urlsplit

from hitree.errors import InvalidInput
from hitree.limits import LIMITS
from hitree.transport import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 60.0  # seconds
GRPC_PORT = 50051
MOST_RETRIES = 10

Scheme = Literal["embedded", "grpc", "grpcs", "http", "https"]


@dataclass(frozen=True)
class Config:
    """What a client was told, checked."""

    scheme: Scheme
    address: str  # "host:port" for gRPC, the base URL for HTTP, "" embedded
    timeout: float  # seconds that a call may take when it names no timeout of its own
    retries: int  # how often a call is tried again
    api_key: str | None = None  # sent as a bearer token
    ca: str | None = None  # PEM certificates to trust instead of the system's
    cert: Path | None = None  # PEM file of the client's own certificate and private key
    bundle: str = ""  # that answers: "name", "name@version" or "@version"; "": the service's choice


def resolve(
    url: str | None = None,
    *,
    api_key: str | None = None,
    timeout: float | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    retries: int = 2,
    bundle: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Put arguments, environment and defaults together; empty variables count as unset.

    Raises:
        InvalidInput: a URL of another scheme or without a host, a timeout that is no positive
            number of seconds, retries outside 0 to 10, a CA or certificate file that cannot be
            read, a bundle that is not named, an API key that no header could carry.
    """
    env = os.environ if environ is None else environ
    scheme, address = _address(url or env.get("HITREE_URL") or EMBEDDED)
    if (
        isinstance(retries, bool)
        or not isinstance(retries, int)
        or not 0 <= retries <= MOST_RETRIES
    ):
        raise InvalidInput(f"retries is {retries!r}; give a whole number from 0 to {MOST_RETRIES}")
    return Config(
        scheme=scheme,
        address=address,
        timeout=_timeout(timeout, env.get("HITREE_TIMEOUT")),
        retries=retries,
        api_key=_api_key(api_key, env.get("HITREE_API_KEY")),
        ca=None if ca_file is None else _ca(Path(ca_file), scheme),
        cert=None if cert_file is None else _cert(Path(cert_file), scheme),
        bundle="" if bundle is None else _bundle(bundle),
    )


def seconds(value: object, name: str = "timeout") -> float:
    """Check a number of seconds.

    Raises:
        InvalidInput: it is no number, not above 0, or not finite.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < cast("float", value) < math.inf:
        raise InvalidInput(f"{name} is {value!r}; give a number of seconds above 0")
    return float(cast("float", value))


def _api_key(argument: object, variable: str | None) -> str | None:
    """The key; what is wrong with it is told without it."""
    name, key = ("api_key", argument) if argument else ("HITREE_API_KEY", variable)
    if not key:
        return None
    if not isinstance(key, str) or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            f"{name} is no text of printable ASCII characters, which a key has to be to be sent; "
            "look for a line's end or another character that does not belong to it"
        )
    return key


def _bundle(value: object) -> str:
    if not isinstance(value, str) or not value.strip("@") or len(value) > LIMITS.text_characters:
        raise InvalidInput(f"bundle is {value!r}; give a name, name@version or @version")
    return value


def _timeout(argument: float | None, variable: str | None) -> float:
    if argument is not None:
        return seconds(argument)
    if not variable:
        return TIMEOUT
    try:
        return seconds(float(variable), "HITREE_TIMEOUT")
    except ValueError as exc:
        raise InvalidInput(
            f"HITREE_TIMEOUT is {variable!r}; give a number of seconds above 0"
        ) from exc


def _address(url: str) -> tuple[Scheme, str]:
    if url == EMBEDDED:
        return "embedded", ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise InvalidInput(f"the URL {url!r} cannot be read: {exc}") from exc
    if parts.scheme not in get_args(Scheme) or parts.scheme == EMBEDDED or not parts.hostname:
        raise InvalidInput(
            f"the URL {url!r} is none that a client can use; give grpc://host:{GRPC_PORT}, "
            "grpcs://, http://host:3000 or https://"
        )
    scheme = cast("Scheme", parts.scheme)
    if scheme in ("http", "https"):
        return scheme, url.rstrip("/")
    return scheme, _target(parts, port or GRPC_PORT)


def _target(parts: SplitResult, port: int) -> str:
    if parts.path.strip("/") or parts.query:
        raise InvalidInput(f"the URL {parts.geturl()!r} has a path; gRPC takes a host and a port")
    host = parts.hostname or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cert(path: Path, scheme: Scheme) -> Path:
    _check_secure(scheme, "cert_file")
    try:
        ssl.create_default_context().load_cert_chain(path)
    except OSError as exc:  # an SSLError is one
        raise InvalidInput(
            f"the file {path} is no PEM file of a certificate and its private key: {exc}"
        ) from exc
    return path


def _check_secure(scheme: Scheme, name: str) -> None:
    if scheme not in ("grpcs", "https"):
        raise InvalidInput(f"{name} is for grpcs:// and https://, the URL is of {scheme}")


def _ca(path: Path, scheme: Scheme) -> str:
    _check_secure(scheme, "ca_file")
    try:
        text = path.read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        raise InvalidInput(f"the CA file {path} is no PEM file of certificates: {exc}") from exc
    return text
