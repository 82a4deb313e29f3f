"""A unit meets one arm, and growing an arm only moves units to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flywheel.contracts.models import Role
from flywheel.kernel import lineup as lineup_module
from flywheel.kernel.experiment import assign
from flywheel.kernel.lineup import Lineup, LoadedModel


class Scorer:
    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.zeros(len(rows))


V1, V2, V3, V4 = (LoadedModel(version, Scorer()) for version in ("v1", "v2", "v3", "v4"))
UNITS = [f"c{number}" for number in range(4_000)]


def test_each_arm_takes_its_share_and_says_so() -> None:
    lineup = Lineup(V1, V2, 0.2, "salt", canary=V3, canary_share=0.1, shadow=V4)
    picks = [lineup.pick(unit) for unit in UNITS]
    for role, model, share in ((Role.CHAMPION, V1, 0.7), (Role.CHALLENGER, V2, 0.2), (Role.CANARY, V3, 0.1)):
        mine = [pick for pick in picks if pick.arm is role]
        assert len(mine) / len(UNITS) == pytest.approx(share, abs=0.03)
        assert all(pick.model is model for pick in mine)
        assert mine[0].propensity == pytest.approx(share)


def test_where_there_is_one_arm_nobody_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Role:
        raise AssertionError("hashed")

    monkeypatch.setattr(lineup_module, "assign", refuse)
    for lineup in (Lineup(V1), Lineup(V1, V2, 0.0), Lineup(V1, shadow=V4), Lineup()):
        assert lineup.pick("c1") == (Role.CHAMPION, lineup.champion, 1.0)


def test_an_arm_that_is_taken_out_leaves_its_units_to_the_champion() -> None:
    lineup = Lineup(V1, V2, 0.2, "salt", canary=V3, canary_share=0.5, shadow=V4)
    before, after = lineup, lineup.without(Role.CANARY)
    for unit in UNITS[:500]:
        expected = Role.CHAMPION if before.pick(unit).arm is Role.CANARY else before.pick(unit).arm
        assert after.pick(unit).arm is expected
    assert [role for role, _ in lineup.without(Role.CHALLENGER).without(Role.SHADOW).models()] == ["champion", "canary"]


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_canary_takes_from_the_champion_alone(unit: str, challenger: float, one: float, other: float) -> None:
    low, high = sorted((one * (1 - challenger), other * (1 - challenger)))
    before, after = assign(unit, "salt", challenger, low), assign(unit, "salt", challenger, high)
    assert after is before or (before, after) == (Role.CHAMPION, Role.CANARY)


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_challenger_takes_from_the_champion_alone(unit: str, canary: float, one: float, other: float) -> None:
    low, high = sorted((one * (1 - canary), other * (1 - canary)))
    before, after = assign(unit, "salt", low, canary), assign(unit, "salt", high, canary)
    assert after is before or (before, after) == (Role.CHAMPION, Role.CHALLENGER)
