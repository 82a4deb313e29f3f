"""Serving under more load than it can carry: as many answers, in time, refusals at once, and calm again right after.

The model takes a fixed time, so that what the server can carry is known and a tenth of it is little for the generator.
Bounds are wide: other processes may take most of a core meanwhile. What they cost is seen by comparing within one run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import grpc
import httpx
import numpy as np
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from infra.local.readiness import GrpcServing
from loadtests.generator.arrivals import poisson, steps
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.load import open_loop
from loadtests.generator.outcomes import Outcome, Run
from tests.engines import free_port, running
from tests.serving_parts import USECASE, payment
from tests.slow_serving import ROW_S

pytestmark = pytest.mark.engine

DECIDE = "/flywheel.v1.Decisions/Decide"
CARRIED = 0.5 / ROW_S
BUDGET_MS = USECASE.budget.total_ms
# A machine that does other things as well may give the process its turn late.
PAUSES_MS = 60


@dataclass(frozen=True)
class Serving:
    address: str
    metrics_url: str

    async def metric(self, name: str) -> float:
        """The sum over all labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.metrics_url}/metrics")).text
        families = text_string_to_metric_families(text)
        return sum(each.value for family in families for each in family.samples if each.name == name)

    async def is_empty(self) -> bool:
        return await self.metric("flywheel_serving_in_flight_requests") == 0


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    address, metrics_port = f"127.0.0.1:{free_port()}", free_port()
    command = [sys.executable, "-m", "tests.slow_serving", address, str(metrics_port), str(folder)]
    with running(command, GrpcServing(address), folder / "log"):
        yield Serving(address, f"http://127.0.0.1:{metrics_port}")


async def opened(serving: Serving, *, timeout_s: float | None = None, **metadata: str) -> GrpcPool:
    messages = [DecideRequest(usecase="fraud", subject=payment(card_id=f"c{n}")).SerializeToString() for n in range(50)]
    words = {name.replace("_", "-"): value for name, value in metadata.items()}
    pool = GrpcPool(serving.address, DECIDE, messages, connections=4, timeout_s=timeout_s, metadata=words)
    await pool.open()
    return pool


@pytest.fixture
async def pool(serving: Serving) -> AsyncIterator[GrpcPool]:
    pool = await opened(serving)
    yield pool
    await pool.close()


async def awaited_empty(serving: Serving) -> None:
    async with asyncio.timeout(10):
        while not await serving.is_empty():
            await asyncio.sleep(0.02)


def answered(run: Run) -> int:
    """Answered in time, by the model or, where it would have been late, by the rule."""
    return run.in_time(BUDGET_MS) + int((run.latency_ms(Outcome.DEGRADED) <= BUDGET_MS).sum())


async def test_ten_times_the_load_leaves_the_answers_and_their_times_as_they_are(
    serving: Serving, pool: GrpcPool
) -> None:
    twice = tenfold = 0
    tenfold_runs = []
    for seed in range(2):
        for times in (2, 10):
            seconds = 1.5
            run = await open_loop(pool, poisson(CARRIED * times, seconds, seed), seconds=seconds)
            assert run.count(Outcome.FAILED) < 0.02 * len(run.outcome)
            assert run.count(Outcome.REFUSED) > 0
            if times == 2:
                twice += answered(run)
            else:
                tenfold += answered(run)
                tenfold_runs.append(run)
    assert tenfold > 0.6 * twice > 30
    for run in tenfold_runs:
        middle_ms, slow_ms = np.percentile(run.latency_ms(Outcome.GOOD), (50, 90))
        assert middle_ms < BUDGET_MS + run.lag_ms(50)
        assert slow_ms < BUDGET_MS + PAUSES_MS + run.lag_ms(90)
        assert np.percentile(run.latency_ms(Outcome.REFUSED), 50) < BUDGET_MS + run.lag_ms(50)
    await awaited_empty(serving)


async def test_after_a_peak_everybody_is_answered_again(serving: Serving, pool: GrpcPool) -> None:
    calm = CARRIED / 10
    run = await open_loop(pool, steps([(calm, 0.5), (CARRIED * 10, 1.0), (calm, 3.0)], seed=3), seconds=4.5)
    peak, after = run.between(0.5, 1.5), run.between(2.5, 4.5)
    assert peak.count(Outcome.REFUSED) > 0.5 * len(peak.outcome)
    assert after.count(Outcome.GOOD, Outcome.DEGRADED) >= 0.9 * len(after.outcome)
    await awaited_empty(serving)


async def test_what_matters_is_answered_although_the_rest_fills_the_port(serving: Serving, pool: GrpcPool) -> None:
    rest = await opened(serving, flywheel_criticality="sheddable")
    seconds = 3.0
    run, others = await asyncio.gather(
        open_loop(pool, poisson(CARRIED / 10, seconds, 5), seconds=seconds),
        open_loop(rest, poisson(CARRIED * 5, seconds, 6), seconds=seconds),
    )
    await rest.close()
    settled, shed = run.between(1.0, seconds), others.between(1.0, seconds)
    share = settled.count(Outcome.GOOD, Outcome.DEGRADED) / len(settled.outcome)
    shed_share = shed.count(Outcome.GOOD, Outcome.DEGRADED) / len(shed.outcome)
    assert share >= 0.7
    assert share > 3 * shed_share
    await awaited_empty(serving)


async def test_callers_that_give_up_leave_their_places_free(serving: Serving) -> None:
    async with grpc.aio.insecure_channel(serving.address) as channel:
        decide = DecisionsStub(channel).Decide
        calls = [decide(DecideRequest(usecase="fraud", subject=payment())) for _ in range(40)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await awaited_empty(serving)
        answer: DecideResponse = await decide(DecideRequest(usecase="fraud", subject=payment()))
    assert answer.decision_id


async def test_whose_time_is_over_is_refused_before_anything_is_done(serving: Serving) -> None:
    answered_ones = "flywheel_serving_decisions_total"
    refused_ones = ("flywheel_serving_refused_total", "flywheel_serving_not_admitted_total")
    answers = await serving.metric(answered_ones)
    refusals = sum([await serving.metric(name) for name in refused_ones])
    # This client never gives up by itself, so whatever it hears the server has said.
    pool = await opened(serving, timeout_s=1e-6)
    run = await open_loop(pool, poisson(CARRIED / 2, 0.5, 7), seconds=0.5)
    await pool.close()
    late, exhausted = (code.value[0] for code in (StatusCode.DEADLINE_EXCEEDED, StatusCode.RESOURCE_EXHAUSTED))
    assert set(pool.statuses) <= {late, exhausted}
    assert pool.statuses[late] > 0
    assert sum(pool.statuses.values()) == len(run.outcome)
    async with asyncio.timeout(10):
        # What is refused at the door is counted fifty times a second.
        while sum([await serving.metric(name) for name in refused_ones]) < refusals + len(run.outcome):
            await asyncio.sleep(0.02)
    assert await serving.metric(answered_ones) == answers
    await awaited_empty(serving)
