"""Who may call, and how much: API keys, each with its share of calls.

The file of keys has a line ``name key`` for each; names go to the log, keys nowhere. Without a
file anybody may call, and as much as they like.
"""

from __future__ import annotations

import hmac
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from hitree.errors import InvalidInput, Overloaded, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hitree_server.settings import Settings

SCHEME = "bearer"
RETRY_SECONDS = 1.0  # the hint where a caller has too many calls at a time
SHORTEST = 16  # characters of a key: shorter ones are guessed

_ANYBODY = nullcontext("")


@dataclass
class Caller:
    """The holder of a key, and what is left of its share."""

    name: str
    digest: bytes  # of the key, so that all comparisons are equally long
    credit: float  # calls that may begin at once
    counted: float  # when ``credit`` was, by the clock
    running: int = 0  # calls


class Access:
    """Admits calls; belongs to the event loop of the doors."""

    def __init__(
        self,
        keys: dict[str, str] | None,
        *,
        calls: int = 0,
        rate: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``keys`` by name, None: none are asked for; ``calls`` a key at a time, ``rate`` a second.

        A rate is the mean: after a quiet second as many may begin at once. Zero is no limit.
        """
        self._calls, self._rate, self._burst = calls, rate, max(1.0, rate)
        self._clock = clock
        self._callers = (
            None
            if keys is None
            else [Caller(name, _digest(key), self._burst, clock()) for name, key in keys.items()]
        )

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """What the settings say.

        Raises:
            InvalidInput: the file of keys cannot be read, or a line is not ``name key``.
        """
        keys = read(settings.api_keys_file) if settings.api_keys_file else None
        return cls(keys, calls=settings.key_calls, rate=settings.key_rate)

    def admitted(self, authorization: str) -> AbstractContextManager[str]:
        """Count a call by the header ``authorization`` while it runs; yields the caller's name.

        Raises:
            Unauthenticated: it holds no key, or one that is not in the file.
            Overloaded: the key's share is used up.
        """
        return _ANYBODY if self._callers is None else self._counted(authorization)

    @contextmanager
    def _counted(self, authorization: str) -> Iterator[str]:
        caller = self._caller(authorization)
        self._charge(caller)
        caller.running += 1
        try:
            yield caller.name
        finally:
            caller.running -= 1

    def _caller(self, authorization: str) -> Caller:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != SCHEME or not key:
            raise Unauthenticated(
                "this service asks for an API key; send it as authorization: Bearer KEY, or give "
                "the client api_key or HITREE_API_KEY"
            )
        digest = _digest(key.strip())
        # Every key is compared, each in constant time: time tells nothing of them.
        found = [c for c in self._callers or () if hmac.compare_digest(c.digest, digest)]
        if not found:
            raise Unauthenticated("the API key is not known here; check HITREE_API_KEY")
        return found[0]

    def _charge(self, caller: Caller) -> None:
        if self._calls and caller.running >= self._calls:
            raise Overloaded(
                f"{caller.name} has {caller.running} calls running, the limit of a key is "
                f"{self._calls}; wait until one ends",
                retry_after=RETRY_SECONDS,
            )
        if not self._rate:
            return
        now = self._clock()
        earned = (now - caller.counted) * self._rate
        caller.credit, caller.counted = min(self._burst, caller.credit + earned), now
        if caller.credit < 1:
            wait = (1 - caller.credit) / self._rate
            raise Overloaded(
                f"{caller.name} calls more than {self._rate:g} times a second, the limit of a key; "
                f"try again in {wait:.2f} s",
                retry_after=round(wait, 3),
            )
        caller.credit -= 1


def read(path: Path) -> dict[str, str]:
    """The keys of a file by name; empty lines and those that begin with # are left out.

    Raises:
        InvalidInput: it cannot be read, is empty, or a line is wrong; no message shows a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"the file of API keys {path} cannot be read: {exc}") from exc
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, key = line.strip().partition(" ")
        if len(key.strip()) < SHORTEST or name in keys:
            raise InvalidInput(
                f"line {number} of {path} is not a name of its own and a key of {SHORTEST} or more "
                "characters"
            )
        keys[name] = key.strip()
    if not keys:
        raise InvalidInput(f"the file of API keys {path} holds none, so that nobody could call")
    return keys


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
