"""What one core carries, as measured (docs/figures) or, where nothing was measured, as assumed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"


@dataclass(frozen=True)
class Known:
    """A number and where it is from."""

    value: float
    source: str


@dataclass(frozen=True)
class Capacities:
    """Rates are a second. `decision_variability`: variance over squared mean of the time one takes."""

    payments: Known
    decisions_a_core: Known
    decision_variability: Known
    decision_ms: Known
    ingest_events_a_core: Known
    feature_events_a_core: Known
    edge_events: Known
    redis_commands: Known
    broker_mib: Known
    entity_bytes: Known


def capacities(directory: Path = FIGURES) -> Capacities:
    """All of them. Raises KeyError when a figure is missing."""
    serving, features, soak = (_figures(directory, name) for name in ("serving", "features", "soak"))
    p50, p99 = serving["p50_ms_at_half_ours"], serving["p99_ms_at_half_ours"]
    return Capacities(
        payments=Known(soak["rate_per_s"], "`rate_per_s` of figures-soak"),
        decisions_a_core=Known(serving["rps_ours"], "`rps_ours`: sustained at p99 ≤ 50 ms, one process"),
        decision_variability=Known(
            _variability(p50, p99),
            "that of a lognormal time with p50 and p99 of `p50_ms_at_half_ours`, `p99_ms_at_half_ours`",
        ),
        decision_ms=Known(p50, "`p50_ms_at_half_ours`"),
        ingest_events_a_core=Known(2_000, "assumed: ingest alone was not measured"),
        feature_events_a_core=Known(
            1_000, "at least: 2,000 events/s (`freshness_2000`) on two cores, broker, Redis and load generator included"
        ),
        edge_events=Known(1_000, f"{_fresh(features, 1_000)} (goal 150 ms), {_fresh(features, 2_000)}"),
        redis_commands=Known(features["read_1x25_ours_rps"], "at least: `read_1x25_ours_rps`, one client process"),
        broker_mib=Known(
            53, "by hand: 133,000 records of 420 B a second, idempotent, acks=all, one broker, beside its client"
        ),
        entity_bytes=Known(features["read_windowed_busy_state_bytes"], "`read_windowed_busy_state_bytes`"),
    )


def _fresh(features: dict[str, float], rate: int) -> str:
    name = f"freshness_{rate}_p99_ms"
    return f"`{name}` {features[name]:.0f} ms"


def _variability(p50: float, p99: float) -> float:
    sigma = math.log(p99 / p50) / 2.3263
    return math.expm1(sigma * sigma)


def _figures(directory: Path, name: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((directory / f"{name}.json").read_text())["figures"]
    return found
