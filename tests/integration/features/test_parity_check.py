"""Decisions against real lake files: right ones are found right, and a planted defect is found, named, with values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from flywheel.adapters.duckdb_lake import ArchivedEvents
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.contracts.decisions import DecisionLogged, FeatureStatus
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import Event, from_us, to_us
from flywheel.kernel.durations import DAY_US, HOUR_US, SECOND_US
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.features import split_id
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Unavailable
from services.features.parity.attributes import AttributeCheck
from services.features.parity.check import NOT_ARCHIVED, UNAVAILABLE, UNKNOWN_LAG, ParityCheck
from tests.archived_events import archive_events
from tests.decision_rows import decided
from tests.window_oracle import Happened, window_value
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

PLAN = compile_plan(usecase)
MARGIN_US = 2 * SECOND_US
START_US = to_us(datetime(2018, 4, 1, tzinfo=UTC))
WALL_US = to_us(datetime(2026, 5, 4, 12, tzinfo=UTC))
WINDOWED = len(usecase.windowed)
KEY = EraseKey(b"secret", "fraud")


class World:
    """Sixty days of a few cards and terminals; an event arrives ten seconds after the one before it."""

    def __init__(self, directory: Path) -> None:
        rng = Random(5)
        self.directory = directory
        self.arrivals: dict[Event, int] = {}
        for number in range(1_200):
            at = from_us(START_US + number * 60 * DAY_US // 1_200 - rng.randrange(3 * HOUR_US))
            common: dict[str, Any] = {
                "event_time": at,
                "card_id": f"card-{rng.randrange(10)}",
                "terminal_id": f"terminal-{rng.randrange(5)}",
                "amount_cents": rng.randrange(1, 90_000),
            }
            event: Event = Transaction(event_id=f"e{number}", **common)
            if number % 7 == 0:
                event = Chargeback(event_id=f"e{number}", transaction_id=f"x{number}", **common)
            self.arrivals[event] = WALL_US + number * 10 * SECOND_US
        archive_events(directory, self.arrivals)

    def served(self, event: Event, at_us: int, **changes: Any) -> DecisionLogged:
        """The decision as a store that misses nothing would have given it to serving at `at_us`, wall clock."""
        seen = [self._happened(other) for other, arrived_us in self.arrivals.items() if arrived_us <= at_us]
        values = {}
        for feature in usecase.windowed:
            entity_id = split_id(feature.entity.id_in(event))
            known = window_value(feature, entity_id, seen, event.event_time_us, own=self._happened(event))
            values[feature.name] = float(np.float32(known))
        row = [values.get(name, 0.0) for name in usecase.feature_names]
        about = {"decided_at": from_us(at_us), "event_time": event.event_time, "stage_ms": {"features": 1.0}}
        return decided(event.event_id, event.event_time, row, **about | changes)

    def sample(self, number: int = 40, *, pause_us: int = 5 * SECOND_US, **changes: Any) -> list[DecisionLogged]:
        """Decisions about the newest payments, each so long after it arrived."""
        newest = [event for event in self.arrivals if isinstance(event, Transaction)][-number:]
        return [self.served(event, self.arrivals[event] + pause_us, **changes) for event in newest]

    @staticmethod
    def _happened(event: Event) -> Happened:
        return Happened(event.event_name, event.event_id, event.event_time_us, event.model_dump())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("lake"))


def check(directory: Path, tmp_path: Path, erasures: MemoryErasures | None = None) -> ParityCheck:
    attributes = AttributeCheck(usecase, directory)
    erasures = erasures or MemoryErasures(KEY)
    return ParityCheck(
        PLAN, lambda: ArchivedEvents(directory, 128, tmp_path / "spill"), attributes, erasures, MARGIN_US
    )


def changed(logged: DecisionLogged, name: str, by: float) -> DecisionLogged:
    place = logged.feature_names.index(name)
    values = [value + by if number == place else value for number, value in enumerate(logged.features)]
    return logged.model_copy(update={"features": tuple(values)})


def test_right_decisions_are_found_right_value_by_value(world: World, tmp_path: Path) -> None:
    found = check(world.directory, tmp_path).examine(world.sample())
    assert found.decisions == 40
    assert found.mismatched == {}
    assert found.values + found.undecidable == 40 * WINDOWED
    assert found.values > 35 * WINDOWED


def test_one_wrong_value_is_found_by_name_with_both_values(world: World, tmp_path: Path) -> None:
    decisions = world.sample()
    right = decisions[17]
    name = "terminal_transaction_count_7d"
    decisions[17] = changed(right, name, 1.0)
    found = check(world.directory, tmp_path).examine(decisions)
    assert list(found.mismatched) == [name]
    wrong = found.mismatched[name]
    value = right.features[right.feature_names.index(name)]
    assert wrong.mismatches == 1
    assert wrong.worst_absolute == 1.0
    assert wrong.worst_relative == pytest.approx(1 / (value + 1))
    assert (wrong.example.event_id, wrong.example.online, wrong.example.offline) == (right.event_id, value + 1, value)
    assert wrong.example.decided_at == right.decided_at


def test_a_store_that_lost_an_event_is_found(world: World, tmp_path: Path) -> None:
    newest = [event for event in world.arrivals if isinstance(event, Transaction)]
    lost = newest[-60]
    forgetful = World(tmp_path / "unused")
    del forgetful.arrivals[lost]
    found = check(world.directory, tmp_path).examine(forgetful.sample())
    assert "card_transaction_count_30d" in found.mismatched
    assert "terminal_transaction_count_7d" in found.mismatched


def test_decisions_before_their_own_event_arrived_are_right_too(world: World, tmp_path: Path) -> None:
    # Four seconds before: neither the event nor any other is in doubt.
    found = check(world.directory, tmp_path).examine(world.sample(pause_us=-4 * SECOND_US))
    assert (found.decisions, found.undecidable, found.mismatched) == (40, 0, {})


def test_what_arrived_as_the_decision_was_made_is_left_undecided(world: World, tmp_path: Path) -> None:
    # A second before or after the next event arrives: it may have been seen or not.
    for pause_us in (9 * SECOND_US, 11 * SECOND_US):
        found = check(world.directory, tmp_path).examine(world.sample(pause_us=pause_us))
        assert found.undecidable > 0
        assert found.mismatched == {}


def test_the_lag_of_the_store_is_in_doubt_as_well(world: World, tmp_path: Path) -> None:
    near = check(world.directory, tmp_path).examine(world.sample())
    far = check(world.directory, tmp_path).examine(world.sample(feature_lag_ms=60_000.0))
    assert far.undecidable > near.undecidable
    assert far.mismatched == {}


def test_stale_views_are_compared_apart_and_unavailable_ones_not_at_all(world: World, tmp_path: Path) -> None:
    status = {"card": FeatureStatus.STALE, "terminal": FeatureStatus.UNAVAILABLE}
    decisions = [
        changed(logged, "card_transaction_count_30d", 1.0) for logged in world.sample(10, feature_status=status)
    ]
    found = check(world.directory, tmp_path).examine(decisions)
    of_cards = sum(feature.entity.name == "card" for feature in usecase.windowed)
    assert (found.values, found.mismatched, found.stale_mismatches) == (0, {}, 10)
    assert found.stale_values + found.undecidable == 10 * of_cards


def test_decisions_that_cannot_be_compared_are_counted_by_reason(world: World, tmp_path: Path) -> None:
    first, second, third, fourth, fifth = world.sample(5)
    nothing = dict.fromkeys(("card", "terminal"), FeatureStatus.UNAVAILABLE)
    decisions = [
        first.model_copy(update={"feature_status": nothing}),
        second.model_copy(update={"feature_lag_ms": -1.0}),
        third.model_copy(update={"event_id": "nobody"}),
        fourth.model_copy(update={"event_time": from_us(to_us(fourth.event_time) + 1)}),
        fifth,
    ]
    found = check(world.directory, tmp_path).examine(decisions)
    assert dict(found.skipped) == {UNAVAILABLE: 1, UNKNOWN_LAG: 1, NOT_ARCHIVED: 2}
    assert (found.decisions, found.mismatched) == (1, {})


def test_an_event_archived_twice_counts_once_and_as_it_arrived_first(world: World, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    archive_events(lake, world.arrivals)
    again = {event: arrived_us + DAY_US for event, arrived_us in world.arrivals.items()}
    archive_events(lake, again, batch_id=9)
    found = check(lake, tmp_path).examine(world.sample(10))
    assert found.values > 0
    assert found.mismatched == {}


def test_an_empty_lake_holds_no_event(tmp_path: Path, world: World) -> None:
    found = check(tmp_path / "nothing", tmp_path).examine(world.sample(3))
    assert (found.decisions, dict(found.skipped)) == (0, {NOT_ARCHIVED: 3})


def test_files_that_go_away_under_the_reading_are_no_mismatch(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ArchivedEvents, "_files", lambda *_: [str(tmp_path / "gone.parquet")])
    with pytest.raises(Unavailable, match="being written anew"):
        check(world.directory, tmp_path).examine(world.sample(3))


def test_only_the_dates_that_windows_reach_are_opened(world: World, tmp_path: Path) -> None:
    view = PLAN.views[0]
    narrow = replace(view, features=tuple(f for f in view.features if f.window_us <= DAY_US))
    with ArchivedEvents(world.directory, 128, tmp_path / "spill") as archive:
        at_us = START_US + 30 * DAY_US
        opened = archive.about(narrow, ["card-1"], [at_us])["card-1"]
    times_us = opened[:, 0]
    assert at_us - 4 * DAY_US < times_us.min() < at_us - DAY_US
    assert at_us + DAY_US < times_us.max() < at_us + 4 * DAY_US


def test_after_an_erasure_counts_that_still_hold_the_person_are_left_undecided(world: World, tmp_path: Path) -> None:
    cards = {event: str(event.model_dump()["card_id"]) for event in world.arrivals}
    erased_at_us = WALL_US + 1_100 * 10 * SECOND_US
    left = {e: at_us for e, at_us in world.arrivals.items() if cards[e] != "card-3" or at_us > erased_at_us}
    lake = tmp_path / "lake"
    archive_events(lake, left)
    decisions = world.sample(60)
    unaware = check(lake, tmp_path).examine(decisions)
    assert "terminal_transaction_count_7d" in unaware.mismatched
    erasures = MemoryErasures(KEY)
    erasures.publish(
        Erased(
            usecase="fraud",
            entity="card",
            pseudonym=KEY.pseudonym("card", "card-3"),
            erased_at=from_us(erased_at_us),
            key_check=KEY.check,
            erased_by="somebody",
        )
    )
    found = check(lake, tmp_path, erasures).examine(decisions)
    assert found.mismatched == {}
    # Windows that begin after the erasure, and cards that were not erased, are compared as ever.
    of_cards = sum(feature.entity.name == "card" for feature in usecase.windowed)
    assert found.values > of_cards * sum(cards[e] != "card-3" for e in list(left)[-60:]) * 0.8
