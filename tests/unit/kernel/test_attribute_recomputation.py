"""An attribute looked up again: what a decision saw, unless the load that decides may have been on its way."""

from __future__ import annotations

from flywheel.kernel.attribute_recomputation import recompute_attributes
from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeLoad
from flywheel.kernel.durations import DAY_US
from tests.attribute_scene import PROFILE, PROFILE_DEFAULT, VALID_US, profile

AT_US = 100 * DAY_US
DECIDED_US = 1_000 * DAY_US
LONG_AGO_US = DECIDED_US - ONLINE_WITHIN_US


def load(as_of_us: int, loaded_us: int, limit: float | None = 5.0, opened: float | None = 6.0) -> AttributeLoad:
    return AttributeLoad(profile("t1", as_of_us, limit, opened), loaded_us)


def found(*loads: AttributeLoad) -> list[float] | None:
    values = recompute_attributes(PROFILE, loads, AT_US, DECIDED_US)
    return None if values is None else list(values.values())


def test_the_newest_load_that_was_online_gives_the_values() -> None:
    older, newer = load(AT_US - 2, LONG_AGO_US, 1.0, 2.0), load(AT_US, LONG_AGO_US - 9, 3.0, 4.0)
    assert found(older, newer) == found(newer, older) == [3.0, 4.0]


def test_nothing_and_null_and_what_is_not_valid_is_the_default() -> None:
    nothing = [PROFILE_DEFAULT, PROFILE_DEFAULT]
    assert found() == found(load(AT_US + 1, 0)) == found(load(AT_US - VALID_US - 1, 0)) == nothing
    assert found(load(AT_US - VALID_US, 0, None, 4.0)) == [PROFILE_DEFAULT, 4.0]


def test_a_load_as_of_later_hides_the_one_before_as_it_does_online() -> None:
    assert found(load(AT_US - 1, 0), load(AT_US + 1, LONG_AGO_US)) == [PROFILE_DEFAULT, PROFILE_DEFAULT]


def test_a_load_of_about_then_leaves_the_value_undecided_and_one_of_long_after_does_not() -> None:
    before = load(AT_US - 2, LONG_AGO_US, 1.0, 2.0)
    for loaded_us in (LONG_AGO_US + 1, DECIDED_US, DECIDED_US + ONLINE_WITHIN_US - 1):
        assert found(before, load(AT_US - 1, loaded_us)) is None
    assert found(before, load(AT_US - 1, DECIDED_US + ONLINE_WITHIN_US)) == [1.0, 2.0]


def test_a_load_that_does_not_go_online_leaves_nothing_in_doubt() -> None:
    assert found(load(AT_US - 2, LONG_AGO_US, 1.0, 2.0), load(AT_US - 3, DECIDED_US)) == [1.0, 2.0]


def test_of_two_loads_as_of_one_moment_the_later_counts_or_is_in_doubt() -> None:
    assert found(load(AT_US, 5, 1.0, 2.0), load(AT_US, 4, 3.0, 4.0)) == [1.0, 2.0]
    assert found(load(AT_US, 5), load(AT_US, DECIDED_US)) is None
