"""When the breaker in front of the broker opens and closes."""

from __future__ import annotations

import pytest

from flywheel.adapters.kafka_breaker import Breaker


@pytest.fixture
def breaker() -> Breaker:
    made = Breaker(stalled_after_s=1.5)
    made.progressed(100.0)
    return made


def test_a_failed_record_opens_it_at_once(breaker: Breaker) -> None:
    breaker.failed("timed out")
    assert breaker.is_open


def test_silence_opens_it_only_past_the_bound(breaker: Breaker) -> None:
    breaker.waited(101.5)
    assert not breaker.is_open
    breaker.waited(101.6)
    assert breaker.is_open


def test_reports_that_keep_coming_hold_it_closed(breaker: Breaker) -> None:
    breaker.progressed(101.4)
    breaker.waited(102.8)
    assert not breaker.is_open


def test_an_acknowledgement_or_a_probe_closes_it(breaker: Breaker) -> None:
    for close in (breaker.acknowledged, breaker.probed):
        breaker.failed("no broker")
        close()
        assert not breaker.is_open
