"""Compared values are counted once, where they belong; the worst of each feature is remembered."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.contracts.parity import MismatchExample, ParityReport
from flywheel.kernel.tally import Tally, report, total

AT = datetime(2026, 5, 4, tzinfo=UTC)


def example(online: float, offline: float, event_id: str = "e1") -> MismatchExample:
    return MismatchExample(event_id=event_id, decided_at=AT, online=online, offline=offline)


def tally(*pairs: tuple[float, float], feature: str = "f", stale: bool = False) -> Tally:
    made = Tally(decisions=len(pairs))
    for number, pair in enumerate(pairs):
        made.compare(feature, example(*pair, event_id=f"e{number}"), stale=stale)
    return made


def test_equal_values_are_counted_and_no_more() -> None:
    found = tally((1.0, 1.0), (math.nan, math.nan), (1 / 3, float.fromhex("0x1.555556p-2")))
    assert (found.values, found.mismatches) == (3, 0)


def test_the_worst_of_a_feature_is_its_example() -> None:
    found = tally((5.0, 4.0), (1000.0, 900.0), (3.0, 3.0)).mismatched["f"]
    assert (found.mismatches, found.worst_absolute) == (2, 100.0)
    assert found.worst_relative == pytest.approx(0.2)
    assert (found.example.event_id, found.example.online, found.example.offline) == ("e0", 5.0, 4.0)


@pytest.mark.parametrize("pair", [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_a_value_that_is_no_number_is_infinitely_far(pair: tuple[float, float]) -> None:
    found = tally(pair, (5.0, 4.0)).mismatched["f"]
    assert found.worst_relative == math.inf
    assert found.example.event_id == "e0"


def test_stale_values_are_counted_apart() -> None:
    found = tally((1.0, 2.0), (1.0, 1.0), stale=True)
    assert (found.values, found.mismatches, found.stale_values, found.stale_mismatches) == (0, 0, 2, 1)
    assert found.mismatched == {}


def test_tallies_add_up_to_what_one_would_have_counted() -> None:
    one, two = tally((5.0, 4.0), (1.0, 1.0)), tally((9.0, 3.0))
    two.undecidable, two.skipped["event_not_archived"] = 4, 2
    found = report("fraud", total([one, two, tally((1.0, 2.0), feature="g")]), [AT, AT + timedelta(hours=1)])
    assert (found.decisions, found.values, found.undecidable, found.mismatches) == (4, 4, 4, 3)
    assert found.skipped == {"event_not_archived": 2}
    assert [(each.feature, each.mismatches) for each in found.mismatched] == [("f", 2), ("g", 1)]
    assert found.mismatched[0].example.online == 9.0
    assert (found.since, found.until) == (AT, AT + timedelta(hours=1))
    assert found.mismatched_share == 0.75
    # Adding changes none of the parts.
    assert one.mismatched["f"].mismatches == 1


def test_a_report_survives_the_wire() -> None:
    sent = report("fraud", tally((math.inf, 1.0)), [AT])
    assert ParityReport.model_validate_json(sent.to_bytes()) == sent


def test_nothing_compared_is_no_share() -> None:
    assert report("fraud", Tally(), [AT]).mismatched_share == 0.0
