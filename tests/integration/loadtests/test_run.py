"""Whole load tests on a small stack, from the scenario to the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.contracts.settings import PlatformSettings
from loadtests.failures import CannotTest
from loadtests.preparation import Order
from loadtests.report.page import page
from loadtests.result import Result, read, write
from loadtests.run import run
from loadtests.scenario import Scenario
from tests.load_stack import NOW, small_stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[PlatformSettings]:
    async with small_stack(tmp_path) as settings:
        yield settings


def _order(lines: list[str] | None = None, **declared: Any) -> Order:
    scenario = {
        "title": "Small",
        "about": "Two kinds of requests.",
        "traffic": [
            {"name": "decisions", "skew": 1.0, "cold_share": 0.1, "within_ms": 500},
            {"name": "events", "kind": "ingest", "share": 0.2},
        ],
        "phase": [
            {"name": "warm", "seconds": 0.3, "per_s": 50, "measured": False},
            {"name": "calm", "seconds": 2, "per_s": 100},
        ],
        "objective": [
            {"name": "nothing fails", "measure": "failed", "phase": "calm", "bound": "== 0"},
            {"name": "all by the model", "measure": "degraded_share", "phase": "calm", "bound": "<= 0.01"},
        ],
        **declared,
    }
    tell = ([] if lines is None else lines).append
    return Order("small", Scenario.model_validate(scenario), "declared", tell=tell)


async def _made(settings: PlatformSettings, **declared: Any) -> Result:
    return await run(_order(**declared), settings)


async def test_a_test_says_what_became_of_every_request_and_holds_it_against_its_objectives(
    stack: PlatformSettings, tmp_path: Path
) -> None:
    lines: list[str] = []
    result = await run(_order(lines), stack)
    calm = result.stretch("calm")
    decisions, events = calm.of("decisions"), calm.of("events")
    assert decisions.asked == 200
    assert (decisions.good, decisions.degraded) == (180, 20)
    assert (events.asked, events.good) == (40, 40)
    verdicts = {each.name: each.verdict for each in result.objectives if not each.why}
    # On a machine that is busy otherwise the generator may have to call its own run void.
    assert verdicts.get("all by the model", "failed") == "failed"
    assert verdicts.get("nothing fails", "passed") == "passed"
    assert result.traffic[0].statuses == {"0": 215}
    assert any("calm: 100/s for 2 s" in line for line in lines)
    path = tmp_path / "result.json"
    write(result, path)
    assert "Small" in page(read(path))


async def test_it_sees_what_the_generator_itself_uses(stack: PlatformSettings) -> None:
    result = await _made(stack)
    usage = {each.process: each for each in result.usage}
    assert max(usage["load generator"].rss_mib) > 10
    assert result.stretch("calm").stages == []


async def test_rates_follow_from_a_measured_capacity(stack: PlatformSettings) -> None:
    result = await _made(stack, phase=[{"name": "calm", "seconds": 1, "of_capacity": [0.05, 0.1]}], objective=[])
    assert result.capacity_per_s > 100
    rates = [each.asked_per_s / result.capacity_per_s for each in result.stretches]
    assert rates == pytest.approx([0.05, 0.1], abs=0.001)
    assert [each.name for each in result.stretches] == ["calm at 5 %", "calm at 10 %"]


async def test_requests_of_your_own_come_from_a_file(stack: PlatformSettings, tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(f"event_id,event_time,card_id,terminal_id,amount_cents\np1,{NOW},alice,t1,4200\n")
    traffic = [{"name": "decisions", "recording": str(path)}]
    result = await _made(stack, traffic=traffic, objective=[])
    smallest, _, largest = result.traffic[0].request_bytes
    assert largest - smallest <= 2
    assert result.stretch("calm").of("decisions").asked == 200


async def test_without_a_stack_it_says_how_to_have_one(stack: PlatformSettings) -> None:
    nowhere = stack.model_copy(update={"ingest_url": "http://127.0.0.1:1"})
    with pytest.raises(CannotTest, match=r"Ingest does not answer at http://127\.0\.0\.1:1 .*`make up`"):
        await run(_order(), nowhere)
    nowhere = stack.model_copy(update={"serving_address": "127.0.0.1:1"})
    with pytest.raises(CannotTest, match=r"Nothing answers decisions at 127\.0\.0\.1:1 .*`make up`"):
        await run(_order(), nowhere)


async def test_another_use_case_than_the_stacks_is_named(stack: PlatformSettings) -> None:
    with pytest.raises(CannotTest, match=r"There is no use case 'poker'; there are: .*fraud"):
        await run(_order(), stack.model_copy(update={"usecase": "poker"}))


async def test_a_fault_needs_a_process_of_this_machine(stack: PlatformSettings) -> None:
    fault = [{"process": "redis", "action": "kill", "phase": "calm"}]
    with pytest.raises(CannotTest, match=r"No process 'redis' runs here.*`make status`"):
        await _made(stack, fault=fault)
