"""The breaker opens after failures in a row, tries again now and then, and closes by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.breaker import CircuitBreaker


def new() -> CircuitBreaker:
    return CircuitBreaker(failures=3, over_s=0.1, retry_after_s=0.2)


def test_scattered_failures_open_nothing() -> None:
    breaker = new()
    for second in range(20):
        breaker.failed(second)
        breaker.failed(second + 0.5)
        breaker.succeeded()
    assert not breaker.is_open


def test_calls_that_fail_together_open_nothing() -> None:
    breaker = new()
    for _ in range(100):
        breaker.failed(10.0)
    assert not breaker.is_open
    breaker.failed(10.2)
    assert breaker.is_open


def test_while_open_one_trial_a_period_is_admitted_and_a_success_closes() -> None:
    breaker = new()
    for now_s in (9.8, 9.9, 10.0):
        breaker.failed(now_s)
    assert breaker.is_open
    admitted = []
    for step in range(100):
        now_s = 10.0 + step / 100
        if breaker.admits(now_s):
            admitted.append(step)
            breaker.failed(now_s)
    assert admitted == [20, 40, 60, 80]
    breaker.succeeded()
    assert all(breaker.admits(now_s) for now_s in (11.0, 11.01, 11.02))


@given(st.lists(st.booleans(), max_size=60))
def test_it_is_open_exactly_after_three_failures_in_a_row(outcomes: list[bool]) -> None:
    breaker = new()
    for now_s, succeeded in enumerate(outcomes):
        if succeeded:
            breaker.succeeded()
        else:
            breaker.failed(now_s)
    assert breaker.is_open == (len(outcomes) >= 3 and not any(outcomes[-3:]))
