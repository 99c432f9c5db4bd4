"""Settings of the server: the only reader of the environment in this room.

An argument beats the environment (``HITREE_…``), which beats the default; empty variables count as
unset. Arguments that do not exist are refused; variables that do not exist are left alone, since
``HITREE_URL`` belongs to the SDK and Kubernetes adds ``HITREE_…`` variables of its own to every pod
beside a service "hitree" (one is ``HITREE_PORT``, which is why the gRPC port is
``HITREE_GRPC_PORT``).
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hitree.errors import InvalidInput, MissingPackage

MOST_ROWS = 4096  # of a running batch

LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """What one serving process runs with."""

    model_config = SettingsConfigDict(
        env_prefix="HITREE_", env_ignore_empty=True, extra="forbid", frozen=True
    )

    bundle: Path | None = None  # folder of the bundle; None: the installed hitree-bundle
    more_bundles: Annotated[tuple[Path, ...], NoDecode] = ()  # folders of others, served beside it
    host: str = "127.0.0.1"  # address that both doors listen on
    grpc_port: int = Field(50051, ge=0, le=65535)  # 0: any free port
    http_port: int = Field(3000, ge=0, le=65535)  # 0: any free port
    provider: Literal["auto", "cpu", "cuda"] = "auto"  # where the models run
    precision: Literal["auto", "fp32", "int8", "fp16"] = "auto"  # auto: the bundle's best there
    threads: int = Field(1, ge=0, le=256)  # of one model call or step; 0: the runtime chooses
    model_workers: int = Field(2, ge=1, le=64)  # model calls (plan, annotate, …) at a time
    model_queue: int = Field(64, ge=1)  # model calls that may wait
    max_rows: int = Field(64, ge=1, le=MOST_ROWS)  # rows of the running batch
    queue_limit: int = Field(256, ge=1)  # drawings that may wait
    longest_wait: float = Field(1, ge=0)  # seconds that a drawing may be expected to wait
    drain_seconds: float = Field(30, ge=0)  # how long running drawings may go on after SIGTERM
    tls_cert: Path | None = None  # PEM chain of both doors; None: they speak in the clear
    tls_key: Path | None = None  # PEM private key that goes with it
    tls_client_ca: Path | None = None  # PEM authority of clients' certificates; None: none needed
    api_keys_file: Path | None = None  # file of API keys, "name key" a line; None: anybody may call
    key_calls: int = Field(0, ge=0)  # calls of one key at a time; 0: no limit
    key_rate: float = Field(0, ge=0, allow_inf_nan=False)  # calls of one key a second; 0: no limit
    cors_origins: str = ""  # origins whose pages may call over HTTP, by commas; "*": any
    log_level: LogLevel = "info"
    log_format: Literal["auto", "text", "json"] = "auto"  # auto: text on a terminal, else JSON

    @field_validator("more_bundles", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        """From the environment folders come as those of ``PATH`` do."""
        return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        return self

    @classmethod
    def of(cls, **arguments: object) -> Settings:
        """Settings from arguments and the environment; an argument that is None is not given.

        Raises:
            InvalidInput: an argument does not exist, or a value is not allowed.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            return cls.model_validate(cls(**given))  # type: ignore[arg-type]  # checked inside
        except ValidationError as exc:
            raise InvalidInput(_explain(exc)) from exc


def bundle_path(settings: Settings) -> Path:
    """The folder of the bundle to serve: the setting, else the installed ``hitree-bundle``.

    Raises:
        MissingPackage: there is no setting and no ``hitree-bundle`` is installed.
    """
    if settings.bundle is not None:
        return settings.bundle
    try:
        return Path(str(resources.files("hitree_bundle")))
    except ModuleNotFoundError as exc:
        raise MissingPackage(
            "no bundle to serve: the package hitree-bundle is not installed; run "
            "pip install hitree-bundle, or name a bundle with --bundle or HITREE_BUNDLE"
        ) from exc


def _explain(exc: ValidationError) -> str:
    errors = [
        (".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, "))
        for error in exc.errors()
    ]
    known = ", ".join(Settings.model_fields)
    return (
        "; ".join(f"setting {name}: {message}" if name else message for name, message in errors)
        + f" (known: {known})"
    )
