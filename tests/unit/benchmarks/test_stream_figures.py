"""What is made of measurements on a running stack."""

from __future__ import annotations

import math

import pytest

from benchmarks.hot_key import Case, figures
from benchmarks.recovery import is_right
from benchmarks.windowed_read import _additive, _others, stored
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import TileView
from flywheel.kernel.rows import MARK

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "wanted", "right"),
    [
        (1.0, 1.0, True),
        (1.0 + 1e-12, 1.0, True),
        (1.1, 1.0, False),
        (NAN, 1.0, False),
        (1.0, NAN, False),
        (NAN, NAN, True),
        (math.inf, 1.0, False),
    ],
)
def test_a_value_is_right_or_wrong(value: float, wanted: float, right: bool) -> None:
    assert is_right(value, wanted) is right


def test_the_hot_card_is_compared_with_ordinary_cards_under_even_load() -> None:
    taken = {
        Case(hot_load=False, hot_card=False): [2.0] * 10,
        Case(hot_load=False, hot_card=True): [100.0] * 10,
        Case(hot_load=True, hot_card=False): [3.0] * 10,
        Case(hot_load=True, hot_card=True): [5.0] * 10,
    }
    found = figures(taken)
    assert (found["hot_key_p99_ratio"], found["hot_key_others_p99_ratio"]) == (2.5, 1.5)


@pytest.mark.parametrize("view", [_additive(), _others()], ids=lambda view: view.name)
def test_the_busy_card_has_events_that_its_state_does_not_hold(view: TileView) -> None:
    state, arrived = opened(view, stored(view, events=200, on_edge=7))
    assert len(arrived) == 7
    assert not state.holds(arrived[:, MARK]).any()
