"""The books of a stack: what was sent, archived and counted, once its streams have come to rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import duckdb
import httpx
from prometheus_client.parser import text_string_to_metric_families

from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.kernel import catalog
from flywheel.kernel.plan import compile_plan
from infra.local.sandbox import Sandbox
from infra.local.supervision import ALIVE, Supervisor


def gauges(url: str, name: str, label: str) -> dict[str, float]:
    """Values of one metric, keyed by one of its labels."""
    text = httpx.get(url, timeout=10).text
    return {
        sample.labels[label]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def await_that(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    """Returns once the condition holds; SystemExit that names it when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"after {timeout_s:.0f} s still not so: {what}")
        time.sleep(0.5)


def drained(stack: Sandbox) -> bool:
    """Whether every streaming job has processed all that the broker holds."""
    url = f"http://127.0.0.1:{stack.settings.features_metrics_port}/metrics"
    try:
        backlog = gauges(url, "flywheel_features_backlog_events", "stream")
    except httpx.TransportError:
        # A service that is being started again has not processed all.
        return False
    return bool(backlog) and not any(backlog.values())


def balance(stack: Sandbox) -> dict[str, int]:
    """What was sent, and what became of it, over all events of the use case since the stack's world began.

    Every view counts every event: `events_counted` is the view that counted least, `events_counted_most` the other end.
    """
    settings = stack.settings
    usecase = catalog.load(settings.usecase)
    world = json.loads((settings.data_dir / "world" / usecase.name / "counts.json").read_text())
    by_event = world["events"].values()
    archived = distinct = 0
    for event in usecase.events:
        files = settings.lake_dir / usecase.name / event.event_name / "**" / "*.parquet"
        query = "select count(*), count(distinct event_id) from read_parquet($files)"
        ((rows, ids),) = duckdb.execute(query, {"files": str(files)}).fetchall()
        archived, distinct = archived + rows, distinct + ids
    plan = compile_plan(usecase)
    counters = RedisFeatureWriter(settings.redis_url, plan).counters()
    counted = [
        sum(number for name, number in counters.items() if name.startswith(f"{view.name}.")) for view in plan.views
    ]
    return {
        "events_sent": sum(event["sent"] for event in by_event),
        "events_rejected": sum(event["rejected"] for event in by_event),
        "duplicates": sum(event["duplicates"] for event in by_event),
        "events_archived": archived,
        "events_archived_distinct": distinct,
        "events_counted": min(counted),
        "events_counted_most": max(counted),
    }


def settle(stack: Sandbox, timeout_s: float) -> None:
    """Stops the stack's world and returns once everything it sent is processed."""
    supervisor = Supervisor(stack.settings)
    supervisor.end("world")
    await_that("the world has stopped", lambda: supervisor.statuses()["world"].state not in ALIVE, timeout_s)
    await_that("everything accepted is processed", lambda: drained(stack), timeout_s)
