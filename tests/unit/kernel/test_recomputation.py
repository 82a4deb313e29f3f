"""A decision's features computed again: what it saw counts, what came later does not, what is in doubt is left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flywheel.contracts.events import from_us, to_us
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.recomputation import Recomputed, Sight, recompute, sight_of
from flywheel.kernel.rows import Cells, event_hash, no_rows, rows_of
from tests.decision_rows import decided
from tests.window_oracle import Happened, window_value
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

TERMINAL = next(view for view in compile_plan(usecase).views if view.entity.name == "terminal")
NAMES = [feature.name for feature in TERMINAL.features]
AT_US = to_us(datetime(2018, 6, 1, 12, tzinfo=UTC))
WALL_US = to_us(datetime(2026, 5, 4, 12, tzinfo=UTC))
SIGHT = Sight(WALL_US - 2 * SECOND_US, WALL_US + 2 * SECOND_US)
LONG_AGO_US = WALL_US - DAY_US
COUNT_24H, DELAYED_24H = "terminal_transaction_count_24h", "terminal_transaction_count_24h_delayed_7d"


def happened(event_id: str, age_us: int, arrived_us: int, *, name: str = "transaction", cents: int = 500) -> Happened:
    fields = {"card_id": "c1", "terminal_id": "t1", "amount_cents": cents}
    return Happened(name, event_id, AT_US - age_us, fields, arrived_us)


OWN = happened("own", 0, LONG_AGO_US)


def rows(*events: Happened) -> Cells:
    parts = [no_rows(TERMINAL)]
    for one in events:
        kind = Transaction if one.name == "transaction" else Chargeback
        columns = {name: np.array([one.fields[name]], object) for name in TERMINAL.fields_of(kind)}
        fixed = (np.array([x]) for x in (one.time_us, event_hash(one.name, one.event_id), one.arrived_us))
        parts.append(rows_of(TERMINAL, kind, columns, *fixed)[1])
    return np.concatenate(parts)


def recomputed(*events: Happened, at_us: int = AT_US) -> Recomputed:
    return recompute(TERMINAL, rows(*events), at_us, event_hash("transaction", "own"), SIGHT)


def value(found: Recomputed, name: str) -> float:
    return float(found.values[NAMES.index(name)])


def is_decided(found: Recomputed, name: str) -> bool:
    return bool(found.decided[NAMES.index(name)])


def test_values_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    events = [OWN] + [
        happened(
            f"e{number}",
            int(rng.integers(0, 40 * DAY_US)),
            LONG_AGO_US + int(rng.integers(0, 2 * DAY_US)),
            name="chargeback" if number % 5 == 0 else "transaction",
            cents=int(rng.integers(1, 10_000)),
        )
        for number in range(300)
    ]
    events = [e for e in events if not SIGHT.certain_us < e.arrived_us <= SIGHT.possible_us]
    found = recomputed(*events)
    assert found.decided.all()
    for place, feature in enumerate(TERMINAL.features):
        known = window_value(feature, ("t1",), events, AT_US, own=OWN, known_us=SIGHT.certain_us)
        assert found.values[place] == pytest.approx(known, rel=1e-12), feature.name
    assert value(found, COUNT_24H) < sum(e.name == "transaction" for e in events)


@pytest.mark.parametrize("arrived_us", [LONG_AGO_US, WALL_US, WALL_US + 60 * SECOND_US])
def test_the_own_event_counts_once_whenever_it_arrived(arrived_us: int) -> None:
    found = recomputed(happened("own", 0, arrived_us))
    assert found.decided.all()
    assert value(found, COUNT_24H) == 1


def test_what_arrived_after_the_decision_is_not_counted() -> None:
    found = recomputed(OWN, happened("later", HOUR_US, SIGHT.possible_us + 1))
    assert found.decided.all()
    assert value(found, COUNT_24H) == 1


@pytest.mark.parametrize("arrived_us", [SIGHT.certain_us + 1, WALL_US, SIGHT.possible_us])
def test_windows_that_hold_an_event_in_doubt_are_not_decided_upon_and_others_are(arrived_us: int) -> None:
    found = recomputed(OWN, happened("doubtful", HOUR_US, arrived_us))
    assert not is_decided(found, COUNT_24H)
    assert is_decided(found, DELAYED_24H)
    assert is_decided(found, "terminal_chargeback_count_30d")


def test_an_event_that_arrived_just_before_is_certain() -> None:
    found = recomputed(OWN, happened("seen", HOUR_US, SIGHT.certain_us))
    assert found.decided.all()
    assert value(found, COUNT_24H) == 2


def test_a_crowd_of_events_in_doubt_leaves_nothing_decided() -> None:
    crowd = [happened(f"e{number}", 20 * DAY_US, WALL_US + number) for number in range(40)]
    assert not recomputed(OWN, *crowd).decided.any()


def test_a_moment_further_back_than_a_store_is_exact_for_is_not_decided_upon() -> None:
    newer = happened("newer", -11 * MINUTE_US, LONG_AGO_US)
    assert not recomputed(OWN, newer).decided.any()
    assert recomputed(OWN, happened("newer", -9 * MINUTE_US, LONG_AGO_US)).decided.all()


def test_windows_that_reach_back_to_what_may_be_gone_are_not_decided_upon() -> None:
    clear_from_us = AT_US - AT_US % MINUTE_US - DAY_US
    sight = replace(SIGHT, clear_from_us=clear_from_us)
    found = recompute(TERMINAL, rows(OWN), AT_US, event_hash("transaction", "own"), sight)
    assert is_decided(found, COUNT_24H)
    assert not is_decided(found, "terminal_transaction_count_7d")
    assert not is_decided(found, DELAYED_24H)
    sight = replace(SIGHT, clear_from_us=clear_from_us + 1)
    found = recompute(TERMINAL, rows(OWN), AT_US, event_hash("transaction", "own"), sight)
    assert not is_decided(found, COUNT_24H)


def test_an_entity_without_any_event_has_the_values_of_nothing() -> None:
    found = recompute(TERMINAL, no_rows(TERMINAL), AT_US, 1, SIGHT)
    assert found.decided.all()
    assert found.values.tolist() == [feature.undefined for feature in TERMINAL.features]


def test_sight_ends_before_what_the_store_was_behind_and_after_the_reading() -> None:
    at = from_us(WALL_US)
    logged = decided("e", at, [0.0] * len(usecase.features), feature_lag_ms=300.0, stage_ms={"features": 4.0})
    margin = timedelta(seconds=2)
    found = sight_of(logged, margin // timedelta(microseconds=1))
    assert found == Sight(WALL_US - 2_300_000, WALL_US + 2_004_000)


def test_a_lag_that_nobody_knows_leaves_no_sight() -> None:
    logged = decided("e", from_us(WALL_US), [0.0] * len(usecase.features), feature_lag_ms=-1.0)
    assert sight_of(logged, 0) is None
