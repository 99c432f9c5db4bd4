"""Settings: argument > environment > default; what is wrong is refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hitree.errors import InvalidInput, MissingPackage
from hitree_server import settings as module
from hitree_server.settings import Settings, bundle_path


def test_argument_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.of().grpc_port == 50051
    monkeypatch.setenv("HITREE_GRPC_PORT", "1234")
    monkeypatch.setenv("HITREE_HTTP_PORT", "1235")
    assert (Settings.of().grpc_port, Settings.of().http_port) == (1234, 1235)
    assert Settings.of(grpc_port=77, http_port=None) == Settings(grpc_port=77, http_port=1235)


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"setting prot: .*known: bundle, more_bundles, host"):
        Settings.of(prot=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("grpc_port", "70000"), ("threads", "many"), ("provider", "tpu"), ("drain_seconds", "-1")],
)
def test_wrong_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"HITREE_{name.upper()}", value)
    with pytest.raises(InvalidInput, match=f"setting {name}"):
        Settings.of()


def test_foreign_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITREE_URL", "grpc://elsewhere")  # the SDK's
    monkeypatch.setenv("HITREE_PORT", "tcp://10.0.0.1:50051")  # Kubernetes'
    Settings.of()


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"HITREE_{name.upper()}", "")
    assert Settings.of() == Settings.model_construct()


def test_named_bundle_is_taken() -> None:
    assert bundle_path(Settings.of(bundle="some/where")) == Path("some/where")


def test_further_bundles_are_named_like_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.of().more_bundles == ()
    monkeypatch.setenv("HITREE_MORE_BUNDLES", os.pathsep.join(("some/where", "", "else where")))
    assert Settings.of().more_bundles == (Path("some/where"), Path("else where"))
    assert Settings.of(more_bundles=[Path("there")]).more_bundles == (Path("there"),)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Path:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module.resources, "files", missing)
    with pytest.raises(MissingPackage, match="pip install hitree-bundle"):
        bundle_path(Settings.of())


def test_installed_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.resources, "files", lambda name: Path("/site") / name)
    assert bundle_path(Settings.of()) == Path("/site/hitree_bundle")
