"""Entries of the deployment log: what roles may be together, and where a rollback leads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flywheel.contracts.models import Deployment, Role
from flywheel.kernel.deployment import (
    Author,
    Unsupported,
    advanced,
    check_roles,
    first,
    rolled_back,
    with_role,
    withdrawn_by,
)
from flywheel.kernel.rollout import Rollout

AUTHOR = Author("somebody", datetime(2026, 11, 1, tzinfo=UTC), "because")
START = first("fraud", "v1", "salt", AUTHOR)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"challenger": "v2", "challenger_share": 1.2}, "within 0 and 1"),
        ({"challenger": "v2", "challenger_share": float("nan")}, "within 0 and 1"),
        ({"canary": "v2", "canary_share": -0.1}, "within 0 and 1"),
        ({"challenger_share": 0.2}, "not named"),
        ({"canary_share": 0.2}, "not named"),
        ({"canary": "v2"}, "no share"),
        ({"challenger": "v2", "challenger_share": 0.8, "canary": "v3", "canary_share": 0.25}, "105% of the units"),
        ({"shadow": "v1"}, "v1 cannot be champion and shadow"),
        ({"canary": "v1", "canary_share": 0.1}, "v1 cannot be champion and canary"),
        ({"challenger": "v2", "challenger_share": 0.1, "canary": "v2", "canary_share": 0.1}, "challenger and canary"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        check_roles(START.model_copy(update=changes))


def test_a_canary_grows_by_the_declared_steps_into_the_champion() -> None:
    current = with_role(START, Role.CHALLENGER, "v0", 0.2, AUTHOR)
    current = with_role(current, Role.CANARY, "v2", 0.01, AUTHOR)
    shares = [current.canary_share]
    while current.canary is not None:
        current = advanced(current, Rollout(), AUTHOR)
        shares.append(current.canary_share)
    assert shares == [0.01, 0.05, 0.25, 0.0]
    assert (current.champion, current.challenger, current.challenger_share, current.salt) == ("v2", "v0", 0.2, "salt")
    assert current.sequence == 6


def test_the_challenger_that_wins_is_no_challenger_any_more() -> None:
    current = with_role(START, Role.CHALLENGER, "v2", 0.2, AUTHOR)
    current = with_role(current, Role.CHAMPION, "v2", 0.0, AUTHOR)
    assert (current.champion, current.challenger, current.challenger_share) == ("v2", None, 0.0)


def test_a_rollback_ends_a_canary_first_and_then_goes_back_champion_by_champion() -> None:
    log = [START]
    for version in ("v2", "v3"):
        log.append(with_role(log[-1], Role.CHAMPION, version, 0.0, AUTHOR))
    log.append(with_role(log[-1], Role.CANARY, "v4", 0.05, AUTHOR))
    champions = []
    for _ in range(3):
        log.append(rolled_back(log, AUTHOR))
        champions.append((log[-1].champion, log[-1].canary, log[-1].withdrawn))
    # What was withdrawn is no place to go back to: the second rollback does not undo the first.
    assert champions == [("v3", None, "v4"), ("v2", None, "v3"), ("v1", None, "v2")]
    with pytest.raises(Unsupported, match="no champion before v1"):
        rolled_back(log, AUTHOR)


def test_who_was_made_champion_on_purpose_is_withdrawn_no_more() -> None:
    log = [first("fraud", "v1", "salt", AUTHOR)]
    log.append(with_role(log[-1], Role.CANARY, "v2", 0.01, AUTHOR))
    log.append(rolled_back(log, AUTHOR))
    assert withdrawn_by(log) == {"v2"}
    log.append(with_role(log[-1], Role.CHAMPION, "v2", 0.0, AUTHOR))
    log.append(with_role(log[-1], Role.CHAMPION, "v3", 0.0, AUTHOR))
    log.append(rolled_back(log, AUTHOR))
    assert (log[-1].champion, withdrawn_by(log)) == ("v2", {"v3"})


def test_what_was_withdrawn_is_said_once() -> None:
    log: list[Deployment] = [START, with_role(START, Role.CANARY, "v2", 0.05, AUTHOR)]
    log.append(rolled_back(log, AUTHOR))
    assert with_role(log[-1], Role.SHADOW, "v2", 0.0, AUTHOR).withdrawn is None


def test_there_is_nothing_to_go_back_to_before_the_first() -> None:
    with pytest.raises(Unsupported, match="nothing is deployed"):
        rolled_back([], AUTHOR)
