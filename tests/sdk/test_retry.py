"""The decision to try again, and the budget of a call."""

from __future__ import annotations

import pytest

from hitree import errors
from hitree_sdk._retry import Attempts, retry_delay


@pytest.mark.parametrize("cls", sorted(errors.BY_REASON.values(), key=lambda cls: cls.reason))
def test_only_what_passes_by_itself_is_tried_again(cls: type[errors.HiTreeError]) -> None:
    delay = retry_delay(cls("x", retry_after=1), 0, retries=2, jitter=0.5)
    assert (delay is not None) == (cls in (errors.Unavailable, errors.Overloaded))


def test_delays_double_up_to_the_longest() -> None:
    error = errors.Unavailable("down")
    delays = [retry_delay(error, attempt, retries=9, jitter=1) for attempt in range(9)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


def test_jitter_spreads_over_the_upper_half() -> None:
    error = errors.Unavailable("down")
    assert retry_delay(error, 0, retries=1, jitter=0) == 0.05
    assert retry_delay(error, 0, retries=1, jitter=0.5) == pytest.approx(0.075)


@pytest.mark.parametrize(("hint", "delay"), [(3.0, 3.0), (60.0, 60.0), (0.01, 0.1), (None, 0.1)])
def test_the_hint_is_the_least_delay(hint: float | None, delay: float) -> None:
    assert retry_delay(errors.Overloaded("full", retry_after=hint), 0, retries=1, jitter=1) == delay


@pytest.mark.parametrize(
    ("retries", "attempt", "again"), [(0, 0, False), (2, 1, True), (2, 2, False)]
)
def test_tries_are_counted(retries: int, attempt: int, again: bool) -> None:
    delay = retry_delay(errors.Unavailable("down"), attempt, retries=retries, jitter=0)
    assert (delay is not None) == again


def test_all_tries_share_the_deadline() -> None:
    now = [100.0]
    attempts = Attempts(1.0, 5, clock=lambda: now[0], jitter=lambda: 1)
    assert attempts.left() == 1.0
    now[0] += 0.75
    assert attempts.left() == 0.25
    assert attempts.delay_after(errors.Unavailable("down")) == 0.1
    assert attempts.delay_after(errors.Unavailable("down")) == 0.2
    assert attempts.delay_after(errors.Unavailable("down")) is None  # 0.4 s are not left
    now[0] += 0.25
    with pytest.raises(errors.DeadlineExceeded, match="1 s"):
        attempts.left()
