"""What a load test needs before its first request: whom it asks, at which rates, when, and with what."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import figures
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import InvalidDeclaration
from loadtests import material, plan
from loadtests.failures import CannotTest
from loadtests.faults import victims
from loadtests.generator.arrivals import Schedule
from loadtests.generator.load import closed_loop
from loadtests.sampler import supervised
from loadtests.scenario import Fault, Kind, Scenario, Traffic
from loadtests.stream_clock import StreamClock
from loadtests.targets import AnyPool, Target, check

_CALLERS = 64
_WARM_S, _CAPACITY_S = 2.0, 4.0
_CAPACITY_REQUESTS = 20_000
_SIZES_OF = 200

Tell = Callable[[str], None]
Clocks = Mapping[str, StreamClock]


@dataclass(frozen=True)
class Order:
    """What is to be tested, and how."""

    name: str
    scenario: Scenario
    declared: str
    capacity_per_s: float = 0.0
    """Instead of measuring it, so that two tests ask the same."""
    times_as_long: float = 1.0
    tell: Tell = print
    others: Mapping[str, int] = field(default_factory=dict)
    """Process ids by name, of what is tested beside or instead of the stack's own."""
    checkout: Path = figures.ROOT
    """Whose code is tested."""


@dataclass(frozen=True)
class Ready:
    """A test that can begin."""

    targets: list[Target]
    capacity_per_s: float
    stretches: list[plan.Stretch]
    schedules: Mapping[str, Schedule]
    """By traffic."""
    pools: Mapping[str, AnyPool]
    """By traffic; open."""
    request_bytes: Mapping[str, tuple[int, int, int]]
    """By traffic: smallest, median, largest."""
    faults: list[tuple[float, Fault]]
    """With their moments."""
    processes: Callable[[], Mapping[str, int]]
    """Process ids by name, now."""

    @property
    def seconds(self) -> float:
        return plan.total_s(self.stretches)


async def prepare(order: Order, settings: PlatformSettings, run_id: str, stack: AsyncExitStack) -> Ready:
    """A test whose connections are open until the stack of contexts ends. Raises CannotTest."""
    clocks, targets = await _targets(order, settings, stack)
    processes = supervised(settings, order.others)
    for fault in order.scenario.fault:
        victims(fault, processes())
    capacity_per_s = await _capacity(order, targets[0], clocks, run_id)
    stretches = plan.stretches(order.scenario, capacity_per_s, order.times_as_long)
    schedules = {
        target.traffic.name: plan.schedule(stretches, target.traffic, target.material.moments_s, target.traffic.seed)
        for target in targets
    }
    return Ready(
        targets,
        capacity_per_s,
        stretches,
        schedules,
        await _pools(targets, schedules, clocks, run_id, stack),
        {target.traffic.name: _sizes(target, run_id, clocks) for target in targets},
        [(plan.moment_of(fault, stretches), fault) for fault in order.scenario.fault],
        processes,
    )


@contextmanager
def first_in_line() -> Iterator[bool]:
    """Meanwhile this thread runs before all others as soon as it has to; whether the system permits that (root).

    Its requests are few microseconds each, and must leave on time, or the test says nothing. Niceness would not do: it
    counts within a session only where the kernel groups processes by session.
    """
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


async def _targets(
    order: Order, settings: PlatformSettings, stack: AsyncExitStack
) -> tuple[dict[str, StreamClock], list[Target]]:
    clocks: dict[str, StreamClock] = {}
    targets: list[Target] = []
    for traffic in order.scenario.traffic:
        usecase = _declared(traffic.usecase or settings.usecase)
        if usecase.name not in clocks:
            url = traffic.clock or (traffic.address if traffic.kind is Kind.INGEST else None) or settings.ingest_url
            clocks[usecase.name] = await stack.enter_async_context(StreamClock(url, usecase.name))
        targets.append(Target(traffic, usecase, _material(usecase, traffic, clocks[usecase.name]), settings))
    return clocks, targets


async def _pools(
    targets: list[Target], schedules: Mapping[str, Schedule], clocks: Clocks, run_id: str, stack: AsyncExitStack
) -> dict[str, AnyPool]:
    pools: dict[str, AnyPool] = {}
    for place, target in enumerate(targets):
        name = target.traffic.name
        pool = target.pool(len(schedules[name]), f"{run_id}-{place}", clocks[target.usecase.name].now)
        stack.push_async_callback(pool.close)
        await check(target, pool)
        pool.statuses.clear()
        pools[name] = pool
    return pools


def _declared(name: str) -> UseCase:
    try:
        return catalog.load(name)
    except InvalidDeclaration as error:
        raise CannotTest(f"{str(error)[0].upper()}{str(error)[1:]}; name one: make loadtest USECASE=…") from error


def _material(usecase: UseCase, traffic: Traffic, clock: StreamClock) -> material.Material:
    return (
        material.of_file(usecase, traffic.recording)
        if traffic.recording
        else material.of_usecase(usecase, clock.present)
    )


async def _capacity(order: Order, target: Target, clocks: Clocks, run_id: str) -> float:
    if order.capacity_per_s or not order.scenario.needs_capacity:
        return order.capacity_per_s
    pool = target.pool(_CAPACITY_REQUESTS, f"{run_id}-capacity", clocks[target.usecase.name].now)
    try:
        await check(target, pool)
        with first_in_line():
            await closed_loop(pool, callers=_CALLERS, seconds=_WARM_S)
            measured = await closed_loop(pool, callers=_CALLERS, seconds=_CAPACITY_S)
    finally:
        await pool.close()
    if not measured.rate_per_s:
        raise CannotTest(
            f"{target.traffic.name} at {target.address}: the model answered none of {len(measured.outcome)} requests, "
            "so there is no capacity to measure against; is a model deployed? `make models`; or give it: CAPACITY=500"
        )
    order.tell(f"capacity: {measured.rate_per_s:,.0f}/s good answers to {_CALLERS} callers in a ring")
    return measured.rate_per_s


def _sizes(target: Target, run_id: str, clocks: Clocks) -> tuple[int, int, int]:
    subjects = target.rendered(_SIZES_OF, run_id, clocks[target.usecase.name].now)
    found = sorted(len(subjects(number)) for number in range(_SIZES_OF))
    return found[0], round(median(found)), found[-1]
