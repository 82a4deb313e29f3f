"""What the sampler saw, as series and as percentiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from loadtests.sampler import read_metrics, usage
from loadtests.samples import gauges_of, read_samples, stages_between, usage_of

_METRICS = """
flywheel_serving_stage_seconds_bucket{le="0.001",stage="model",usecase="fraud"} 50.0
flywheel_serving_stage_seconds_bucket{le="0.002",stage="model",usecase="fraud"} 90.0
flywheel_serving_stage_seconds_bucket{le="+Inf",stage="model",usecase="fraud"} 100.0
flywheel_serving_stage_seconds_count{stage="model",usecase="fraud"} 100.0
flywheel_serving_stage_seconds_sum{stage="model",usecase="fraud"} 0.15
flywheel_serving_in_flight_requests{criticality="critical",usecase="fraud"} 3.0
flywheel_serving_in_flight_requests{criticality="default",usecase="fraud"} 2.0
flywheel_serving_admission_limit{usecase="fraud"} 64.0
"""
_NOTHING = {
    "in_flight": 0.0,
    "limit": 64.0,
    "stages": {"model": {"0.001": 0.0, "0.002": 0.0, "+Inf": 0.0, "sum": 0.0}},
}


def _sample(at_s: float, serving: object = None, **cpu_s: float) -> dict[str, Any]:
    processes = {name: (used, 100.0) for name, used in cpu_s.items()}
    return {"at_s": at_s, "processes": processes, "idle_s": 0.0, "serving": serving}


def test_metrics_are_read_over_all_their_labels() -> None:
    found = read_metrics(_METRICS)
    assert found["in_flight"] == 5.0
    assert found["limit"] == 64.0
    assert found["stages"]["model"] == {"0.001": 50.0, "0.002": 90.0, "+Inf": 100.0, "sum": 0.15}


def test_stage_percentiles_are_of_what_came_between() -> None:
    samples = [_sample(10.0, _NOTHING), _sample(11.0), _sample(12.0, read_metrics(_METRICS))]
    (found,) = stages_between(samples, 9.0, 13.0)
    assert found.decisions == 100
    assert found.mean_ms == pytest.approx(1.5)
    assert found.p50_ms == pytest.approx(1.0)
    # Evenly spread between the bounds of its bucket, as Prometheus has it.
    assert found.p95_ms == pytest.approx(2.0)
    assert stages_between(samples, 10.5, 13.0) == []


def test_a_process_that_was_started_again_has_used_nothing_less() -> None:
    samples = [_sample(0.0, redis=10.0), _sample(1.0, redis=10.5), _sample(2.0, redis=0.1)]
    (found,) = usage_of(samples, start_s=0.0)
    assert found.cores == [0.5, 0.0]


def test_moments_without_serving_are_gaps() -> None:
    found = gauges_of([_sample(1.0, _NOTHING), _sample(2.0), _sample(3.0, _NOTHING)], start_s=1.0)
    assert found.at_s == [0.0, 2.0]


def test_a_line_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b'{"at_s": 1}\n{"at_s": 2}\n{"at_')
    assert [each["at_s"] for each in read_samples(path)] == [1, 2]


def test_usage_is_of_the_process_and_all_its_children() -> None:
    found = usage({"me": os.getpid(), "nobody": 0})
    assert set(found) == {"me"}
    cpu_s, rss_mib = found["me"]
    assert cpu_s > 0
    assert rss_mib > 10
