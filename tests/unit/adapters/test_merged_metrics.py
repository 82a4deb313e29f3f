"""Counts of several processes are summed and never fall; measures are told apart."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flywheel.adapters.merged_metrics import MergedMetrics


def exposition(count: int) -> str:
    registry = CollectorRegistry()
    Counter("calls_total", "Calls.", ["status"], registry=registry).labels("OK").inc(count)
    Histogram("spent_seconds", "Time.", buckets=(1, 10), registry=registry).observe(count)
    Gauge("in_flight", "Now.", registry=registry).set(count)
    return generate_latest(registry).decode()


def read(merged: MergedMetrics) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(merged)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {f"{s.name}{sorted(s.labels.items())}": s.value for family in families for s in family.samples}


def test_counts_are_summed_and_measures_told_apart() -> None:
    found = read(MergedMetrics(lambda: {"0": exposition(2), "1": exposition(5)}))
    assert found == {
        "calls_total[('status', 'OK')]": 7,
        "spent_seconds_bucket[('le', '1.0')]": 0,
        "spent_seconds_bucket[('le', '10.0')]": 2,
        "spent_seconds_bucket[('le', '+Inf')]": 2,
        "spent_seconds_count[]": 2,
        "spent_seconds_sum[]": 7,
        "in_flight[('worker', '0')]": 2,
        "in_flight[('worker', '1')]": 5,
    }


def test_what_the_process_counts_itself_stands_beside_what_the_others_say() -> None:
    own = Counter("workers_lost_total", "Lost.", ["reason"], registry=None)
    own.labels("died").inc(3)
    empty = CollectorRegistry()
    Counter("workers_lost_total", "Lost.", ["reason"], registry=empty)
    merged = MergedMetrics(lambda: {"0": generate_latest(empty).decode()}, own=[own])
    found = {name: value for name, value in read(merged).items() if "_created" not in name}
    assert found == {"workers_lost_total[('reason', 'died')]": 3}


def test_what_ended_processes_counted_stays_and_what_they_measured_goes() -> None:
    live = {"0": exposition(2), "1": exposition(5)}
    merged = MergedMetrics(lambda: dict(live))
    for _ in range(3):
        merged.retire(live.pop("1"))
        live["1"] = exposition(5)
    found = read(merged)
    assert found["calls_total[('status', 'OK')]"] == 22
    assert found["spent_seconds_count[]"] == 5
    assert found["in_flight[('worker', '1')]"] == 5


def test_a_process_that_ends_while_it_is_read_is_counted_once() -> None:
    live = {"0": exposition(2), "1": exposition(5)}

    def told() -> dict[str, str]:
        found = dict(live)
        if "1" in live:
            merged.retire(live.pop("1"))
        return found

    merged = MergedMetrics(told)
    assert read(merged)["calls_total[('status', 'OK')]"] == 7
