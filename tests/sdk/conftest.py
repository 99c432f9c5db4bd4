"""Fixtures of the SDK's tests."""

from __future__ import annotations

import pytest

from sdk.fakes import AsyncTwin, SyncTwin


@pytest.fixture(params=[SyncTwin, AsyncTwin], ids=["sync", "async"])
def twin(request: pytest.FixtureRequest) -> SyncTwin | AsyncTwin:
    return request.param()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HITREE_URL", "HITREE_API_KEY", "HITREE_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays before retries, which are recorded and not slept."""
    taken: list[float] = []

    async def anap(seconds: float) -> None:
        taken.append(seconds)

    for module in ("_client", "_stream"):
        monkeypatch.setattr(f"hitree_sdk.{module}.sleep", taken.append)
    monkeypatch.setattr("hitree_sdk._async_client.sleep", anap)
    monkeypatch.setattr("hitree_sdk._stream.asleep", anap)
    return taken
