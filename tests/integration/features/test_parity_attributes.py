"""Attributes of decisions against real files of loads: right ones are found right, a planted defect by name."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flywheel.adapters.attribute_lake import FOLDER, AttributeLake
from flywheel.adapters.duckdb_lake import ArchivedEvents
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.contracts.decisions import DecisionLogged, FeatureStatus
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import Event, to_us
from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeRow
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.hydration import Hydrator, Subject
from flywheel.kernel.ports import Unavailable
from flywheel.kernel.tally import Tally
from services.features.parity.attributes import AttributeCheck
from services.features.parity.check import ParityCheck
from tests.archived_events import archive_events
from tests.attribute_scene import PLAN, PROFILE, SEGMENTS, TRUST, USECASE, profile
from tests.decision_rows import decided
from usecases.fraud.events import Transaction

START = datetime(2018, 4, 1, tzinfo=UTC)
WALL = datetime(2026, 5, 4, 12, tzinfo=UTC)
ON_ITS_WAY = timedelta(microseconds=ONLINE_WITHIN_US)
LEAST = timedelta(microseconds=1)
KEY = EraseKey(b"secret", "fraud")
NAMES = tuple(feature.name for feature in USECASE.attributes)
FLOOR = "terminal_floor_limit_cents"
FRESH = dict.fromkeys(("card", "terminal", "pair", PROFILE.name, SEGMENTS.name, TRUST.name), FeatureStatus.FRESH)


class Shop:
    """Payments of sixty days and loads between them, all loaded an hour before the first decision at `WALL`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lake = AttributeLake(directory, JoinLimits(64, directory / "spill"))
        rng = Random(11)
        self.payments = [
            Transaction(
                event_id=f"e{number}",
                event_time=START + timedelta(hours=number * 12 + rng.random()),
                card_id=f"c{rng.randrange(6)}",
                terminal_id=f"t{rng.randrange(4)}",
                amount_cents=100,
            )
            for number in range(120)
        ]
        arrivals: dict[Event, int] = {payment: to_us(WALL) for payment in self.payments}
        archive_events(directory, arrivals)
        for day in (5, 2, 30):
            as_of_us = to_us(START) + day * DAY_US
            limits = [None if rng.random() < 0.2 else float(rng.randrange(1_000)) for _ in range(3)]
            rows = [profile(f"t{place}", as_of_us, limit) for place, limit in enumerate(limits)]
            self.lake.append(PROFILE, rows, WALL - timedelta(hours=9))
            segments = [AttributeRow((f"c{n}",), as_of_us, (float(rng.randrange(9)),)) for n in range(5)]
            self.lake.append(SEGMENTS, segments, WALL - timedelta(hours=9))
            met = [AttributeRow((f"t{n}", f"c{n}"), as_of_us, (rng.random(),)) for n in range(4)]
            self.lake.append(TRUST, met, WALL - timedelta(hours=9))

    def decisions(self, **changes: Any) -> list[DecisionLogged]:
        """As serving logs them: what it reads of the newest loads, with its statuses unless they are changed."""
        store, hydrator = MemoryFeatureStore(PLAN), Hydrator(USECASE)
        for table in USECASE.attribute_tables:
            self.lake.publish(table, store, lambda _: None)
        reader, found = store.reader(), []
        places = [USECASE.feature_names.index(name) for name in NAMES]
        for payment in self.payments:
            subjects = [Subject(payment)]
            answer = asyncio.run(reader.read(hydrator.question(subjects), 1.0))
            hydrated = hydrator.hydrate(subjects, answer, to_us(WALL))
            row = hydrated.rows[0, places].tolist()
            about = {"decided_at": WALL, "feature_names": NAMES, "feature_status": hydrated.statuses(0)}
            found.append(decided(payment.event_id, payment.event_time, row, **about | changes))
        return found

    def examine(self, decisions: list[DecisionLogged], erasures: MemoryErasures | None = None) -> Tally:
        check = ParityCheck(
            PLAN,
            lambda: ArchivedEvents(self.directory, 128, self.directory / "spill"),
            AttributeCheck(USECASE, self.directory),
            erasures or MemoryErasures(KEY),
            margin_us=0,
        )
        return check.examine(decisions)

    def of_terminal(self, terminal: str) -> list[str]:
        return [payment.event_id for payment in self.payments if payment.terminal_id == terminal]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "lake")


def changed(logged: DecisionLogged, name: str, value: float) -> DecisionLogged:
    values = [value if each == name else old for each, old in zip(NAMES, logged.features, strict=True)]
    return logged.model_copy(update={"features": tuple(values)})


def test_what_was_served_is_right_in_every_value_fresh_or_stale(shop: Shop) -> None:
    decisions = shop.decisions()
    found = shop.examine(decisions)
    assert (found.decisions, found.mismatched, found.undecidable) == (120, {}, 0)
    assert (found.values + found.stale_values, found.stale_mismatches) == (120 * len(NAMES), 0)
    assert min(found.values, found.stale_values) > 120
    served = np.array([logged.features for logged in decisions])
    assert all(len(set(column)) > 2 for column in served.T[[0, 2, 3]])


def test_one_wrong_value_is_found_by_name_with_both_values(shop: Shop) -> None:
    decisions = shop.decisions(feature_status=FRESH)
    right = decisions[70].features[0]
    decisions[70] = changed(decisions[70], FLOOR, right + 1)
    (wrong,) = shop.examine(decisions).mismatched.values()
    assert (wrong.feature, wrong.mismatches, wrong.example.event_id) == (FLOOR, 1, "e70")
    assert (wrong.example.online, wrong.example.offline) == (right + 1, right)


def test_a_store_that_has_lost_a_table_is_found(shop: Shop) -> None:
    status = FRESH | {SEGMENTS.name: FeatureStatus.MISSING}
    found = shop.examine([changed(logged, "card_rank", -2.0) for logged in shop.decisions(feature_status=status)])
    assert list(found.mismatched) == ["card_rank"]
    assert found.values == 120 * len(NAMES)


def test_stale_tables_are_compared_apart_and_unavailable_ones_not_at_all(shop: Shop) -> None:
    status = FRESH | {PROFILE.name: FeatureStatus.STALE, TRUST.name: FeatureStatus.UNAVAILABLE}
    found = shop.examine([changed(logged, FLOOR, -7.0) for logged in shop.decisions(feature_status=status)])
    assert (found.values, found.mismatched) == (120, {})
    assert (found.stale_values, found.stale_mismatches) == (240, 120)


@pytest.mark.parametrize("made", [timedelta(0), ON_ITS_WAY - LEAST, LEAST - ON_ITS_WAY])
def test_a_load_that_may_have_been_on_its_way_leaves_its_entity_undecided(shop: Shop, made: timedelta) -> None:
    decisions = [changed(logged, FLOOR, -7.0) for logged in shop.decisions(feature_status=FRESH)]
    shop.lake.append(PROFILE, [profile("t1", to_us(START) + 31 * DAY_US, 3.0)], WALL + made)
    found = shop.examine(decisions)
    # Both columns of the table.
    assert found.undecidable == 2 * len(shop.of_terminal("t1")) > 0
    assert found.mismatched[FLOOR].mismatches == 120 - len(shop.of_terminal("t1"))


@pytest.mark.parametrize("made", [timedelta(0), timedelta(hours=1)])
def test_a_load_that_changes_nothing_online_or_was_made_later_leaves_no_doubt(shop: Shop, made: timedelta) -> None:
    decisions = shop.decisions()
    as_of_us = to_us(START) + (1 if not made else 40) * DAY_US
    shop.lake.append(PROFILE, [profile("t1", as_of_us, 3.0)], WALL + made)
    found = shop.examine(decisions)
    assert (found.undecidable, found.mismatched, found.stale_mismatches) == (0, {}, 0)


def test_a_load_that_was_long_online_is_expected_to_be_seen(shop: Shop) -> None:
    decisions = shop.decisions(feature_status=FRESH)
    shop.lake.append(PROFILE, [profile("t1", to_us(START) + 40 * DAY_US, 3.0)], WALL - ON_ITS_WAY)
    found = shop.examine(decisions)
    later = [p for p in shop.payments if p.terminal_id == "t1" and p.event_time >= START + timedelta(days=40)]
    assert found.undecidable == 0
    assert found.mismatched[FLOOR].mismatches >= len(later) > 0
    assert {one for one in found.mismatched} <= {FLOOR, "terminal_opened_days"}


def test_of_whoever_was_erased_nothing_is_decided_upon(shop: Shop) -> None:
    erasures = MemoryErasures(KEY)
    erasures.publish(
        Erased(
            usecase="fraud",
            entity="terminal",
            pseudonym=KEY.pseudonym("terminal", "t1"),
            erased_at=WALL + timedelta(microseconds=HOUR_US),
            key_check=KEY.check,
            erased_by="somebody",
        )
    )
    found = shop.examine(
        [changed(logged, "pair_share", 9.0) for logged in shop.decisions(feature_status=FRESH)], erasures
    )
    gone = shop.of_terminal("t1")
    # Its own attributes, and those of the pairs that it is in.
    assert found.undecidable == 3 * len(gone) > 0
    assert found.mismatched["pair_share"].mismatches == 120 - len(gone)


def test_a_file_that_goes_away_under_the_reading_is_no_mismatch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def __init__(self, file: Path) -> None:
            raise FileNotFoundError(file)

    monkeypatch.setattr(pq, "ParquetFile", Gone)
    with pytest.raises(Unavailable, match="terminal_profile are being written anew"):
        shop.examine(shop.decisions())


def test_before_anything_was_loaded_the_defaults_are_right(shop: Shop) -> None:
    shutil.rmtree(shop.directory / FOLDER)
    decisions = shop.decisions()
    assert {logged.features for logged in decisions} == {(-1.0, -1.0, -2.0, 0.0)}
    found = shop.examine(decisions)
    assert (found.values, found.mismatched) == (120 * len(NAMES), {})
