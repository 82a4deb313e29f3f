"""Many values at once are counted as one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from flywheel.contracts.histograms import BatchHistogram

BUCKETS = (0.001, 0.01, 0.1)


@given(st.lists(st.one_of(st.sampled_from(BUCKETS), st.integers(0, 2**20).map(lambda n: n / 2**20)), max_size=50))
def test_all_at_once_are_counted_as_each_by_itself(amounts: list[float]) -> None:
    registry = CollectorRegistry()
    together, single = (
        BatchHistogram(name, "Seconds of something.", ["kind"], buckets=BUCKETS, registry=registry).labels("a")
        for name in ("together", "single")
    )
    together.observe_all(amounts)
    for amount in amounts:
        single.observe(amount)
    for suffix in ("bucket", "count", "sum"):
        for le in (*map(str, BUCKETS), "+Inf") if suffix == "bucket" else (None,):
            labels = {"kind": "a"} | ({"le": le} if le else {})
            found = [registry.get_sample_value(f"{name}_{suffix}", labels) for name in ("together", "single")]
            assert found[0] is not None
            assert abs(found[0] - (found[1] or 0)) < 1e-9
