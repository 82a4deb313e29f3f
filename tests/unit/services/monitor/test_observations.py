"""Whoever is erased is gone from what the monitor has seen, whether it reads of that before or after."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest

from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.erasure import Erased
from flywheel.contracts.topics import decisions_topic, erasures_topic, event_topic
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.ports import Record
from services.monitor.observations import Observations
from tests.monitor_scene import NOW, Scene
from usecases.fraud import usecase

KEY = EraseKey(b"secret", "fraud")
DECISIONS = decisions_topic("fraud").name


def erasure(card: str, at: datetime, key: EraseKey = KEY) -> bytes:
    return Erased(
        usecase="fraud",
        entity="card",
        pseudonym=key.pseudonym("card", card),
        key_check=key.check,
        erased_at=at,
        erased_by="somebody",
    ).to_bytes()


def logged_of(scene: Scene) -> list[DecisionLogged]:
    return [DecisionLogged.model_validate_json(record.value) for record in scene.broker.records(DECISIONS)]


def busiest(scene: Scene) -> tuple[str, datetime]:
    """The card with most decisions and the moment after the second last of them."""
    decisions = logged_of(scene)
    card = max({one.unit for one in decisions}, key=lambda card: sum(one.unit == card for one in decisions))
    moments = sorted(one.decided_at for one in decisions if one.unit == card)
    return card, moments[-2] + timedelta(microseconds=1)


@pytest.fixture
def scene() -> Scene:
    made = Scene(per_day=60, cards=25)
    made.days(0, 5)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_in_whatever_order_it_is_read(scene: Scene, seed: int) -> None:
    card, at = busiest(scene)
    scene.broker.append(erasures_topic("fraud").name, b"k", erasure(card, at))
    observations = Observations(usecase, KEY, window=10_000, capacity=10_000)
    partitions = [scene.broker.read(p, 0, 10**6) for p in scene.broker.partitions(observations.topics)]
    for record in interleaved(partitions, seed):
        observations.read([record])
    wanted = [one for one in logged_of(scene) if one.unit != card or one.decided_at > at]
    assert sorted(one.event_id for one in observations.recent) == sorted(one.event_id for one in wanted)
    assert sum(one.unit == card for one in observations.recent) == 1
    assert len(observations.ledger.outcomes()) == len(wanted)
    assert observations.events == 300


def interleaved(partitions: list[list[Record]], seed: int) -> list[Record]:
    rng = random.Random(seed)
    waiting, found = [list(records) for records in partitions if records], []
    while waiting:
        records = rng.choice(waiting)
        found.append(records.pop(0))
        waiting = [rest for rest in waiting if rest]
    return found


def test_labels_of_the_erased_are_not_taken_in(scene: Scene) -> None:
    observations = Observations(usecase, KEY, window=100, capacity=100)
    chargebacks = scene.broker.records(event_topic("fraud", "chargeback").name)
    assert chargebacks
    # The scene's chargebacks all name this card and arrived at this moment.
    observations.read([Record(erasures_topic("fraud").name, 0, 0, b"k", erasure("c1", NOW))])
    observations.read(chargebacks)
    assert observations.counts == {"erased": len(chargebacks)}


def test_an_erasure_under_another_key_is_told_and_passed_over(scene: Scene) -> None:
    card, at = busiest(scene)
    observations = Observations(usecase, KEY, window=1_000, capacity=1_000)
    observations.read([Record(erasures_topic("fraud").name, 0, 0, b"k", erasure(card, at, EraseKey(b"o", "fraud")))])
    observations.read(scene.broker.records(DECISIONS))
    assert observations.counts == {"unreadable": 1}
    assert observations.decisions == 300
