"""How long an entity is read, for all views of the use cases."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US, SECOND_US
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import FIXED_CELLS, SLACK_US, TileView, compile_plan
from flywheel.kernel.rows import MARK, TIE, TIME, no_rows
from flywheel.kernel.state import Change, EntityState, apply

VIEWS = compile_plan(catalog.load("fraud")).views
NEWEST_US = 17_622 * DAY_US + 5 * SECOND_US


def one_event(view: TileView) -> EntityState:
    row = np.zeros((1, view.row_cells), np.int64)
    row[0, TIME], row[0, TIE], row[0, MARK] = NEWEST_US, 7, 1
    row[0, FIXED_CELLS:] = np.float64(3.0).view(np.int64)
    (state,), _ = apply(view, [EntityState.empty(view)], [Change(row, {0: 2})])
    return state


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_nothing_of_an_entity_is_read_after_its_lifetime(view: TileView) -> None:
    reading, state, empty = Reading(view), one_event(view), EntityState.empty(view)
    for behind_us in (0, SLACK_US):
        at_us = NEWEST_US + view.lifetime_us - behind_us
        assert (reading.values(state, no_rows(view), at_us) == reading.values(empty, no_rows(view), at_us)).all()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_an_entity_is_read_as_long_as_its_longest_window(view: TileView) -> None:
    at_us = NEWEST_US + max(f.window_us + f.delay_us for f in view.features) - SECOND_US
    assert at_us < NEWEST_US + view.lifetime_us
    found = Reading(view).values(one_event(view), no_rows(view), at_us)
    assert (found != Reading(view).values(EntityState.empty(view), no_rows(view), at_us)).any()
