"""Machines, money and limits follow from what is measured and assumed, in the direction that they must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.capacity.measured import Known, capacities
from infra.capacity.model import Assumptions, full_at, limits, log_bytes, parts

KNOWN, ASSUMED = capacities(), Assumptions()


def cost(payments: float, assumed: Assumptions = ASSUMED) -> float:
    return sum(part.month(assumed) for part in parts(payments, KNOWN, assumed))


def instances(name: str, payments: float, assumed: Assumptions = ASSUMED) -> int:
    (part,) = (part for part in parts(payments, KNOWN, assumed) if part.name == name)
    return part.instances


def test_serving_carries_its_peak_without_one_zone() -> None:
    for payments in (300, 5_000, 77_777, 300_000):
        pods = instances("serving", payments)
        assert pods % ASSUMED.zones == 0
        left = pods * (ASSUMED.zones - 1) / ASSUMED.zones
        assert payments <= left * KNOWN.decisions_a_core.value * ASSUMED.utilization
        fewer = left - (ASSUMED.zones - 1)
        assert fewer <= 0 or payments > fewer * KNOWN.decisions_a_core.value * ASSUMED.utilization


def test_more_traffic_never_costs_less() -> None:
    prices = [cost(payments) for payments in (100, 300, 3_000, 30_000, 300_000)]
    assert prices == sorted(prices)


def test_a_faster_core_needs_fewer_of_them() -> None:
    faster = replace(KNOWN, decisions_a_core=Known(2 * KNOWN.decisions_a_core.value, "twice"))
    assert parts(300_000, faster, ASSUMED)[0].cores == pytest.approx(
        parts(300_000, KNOWN, ASSUMED)[0].cores / 2, rel=0.1
    )


def test_prices_are_taken_as_given() -> None:
    free = replace(ASSUMED, core_hour=0.0, memory_gib_hour=0.0, disk_gib_month=0.0)
    assert cost(3_000, free) == 0
    dearer = replace(ASSUMED, core_hour=2 * ASSUMED.core_hour)
    cores = sum(part.cores for part in parts(3_000, KNOWN, ASSUMED))
    assert cost(3_000, dearer) - cost(3_000) == pytest.approx(cores * ASSUMED.core_hour * 730)


def test_the_log_holds_what_is_kept() -> None:
    one_day = replace(ASSUMED, retention_days=1, replicas=1, events_a_payment=1.0)
    assert log_bytes(10, one_day) == pytest.approx(10 * 86_400 * (420 + 1_536))


def test_limits_come_in_the_order_in_which_they_are_met() -> None:
    found = limits(KNOWN, ASSUMED)
    assert [limit.payments for limit in found] == sorted(limit.payments for limit in found)
    assert not list(full_at(found[0].payments, KNOWN, ASSUMED))
    assert list(full_at(found[0].payments + 1, KNOWN, ASSUMED)) == [found[0]]
    assert list(full_at(1e9, KNOWN, ASSUMED)) == list(found)


def test_what_was_measured_to_work_is_not_said_to_break() -> None:
    assert not list(full_at(KNOWN.payments.value, KNOWN, ASSUMED))
