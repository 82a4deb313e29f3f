"""The row of a request's own event is the one that the general way makes, for every kind of view."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from flywheel.contracts.events import Event, from_us
from flywheel.kernel import aggregation as agg
from flywheel.kernel.conditions import where
from flywheel.kernel.features import Entity
from flywheel.kernel.own_row import OwnRow
from flywheel.kernel.plan import TileView, view_of
from flywheel.kernel.rows import event_hash, rows_about
from tests.serving_parts import AT_US


class Paid(Event):
    event_name: ClassVar[str] = "paid"
    partition_key: ClassVar[str] = "payer"

    payer: str
    payee: str | None = None
    cents: Annotated[int, Field(ge=0)] | None = None
    share: float = 0.5
    flagged: bool = False


class Complained(Event):
    event_name: ClassVar[str] = "complained"
    partition_key: ClassVar[str] = "payer"

    payer: str


PAYER, PAIR = Entity("payer", key="payer"), Entity("pair", key=("payer", "payee"))
VIEWS = {
    "plain": view_of(
        "v",
        PAYER,
        (
            *agg.count(Paid).by(PAYER).over("1h"),
            *agg.total(Paid, "cents").by(PAYER).over("1d"),
            *agg.mean(Paid, "share").by(PAYER).over("1d"),
            *agg.distinct(Paid, "payee").by(PAYER).over("1d"),
            *agg.distinct(Paid, "cents").by(PAYER).over("1d"),
            *agg.count(Complained).by(PAYER).over("1d"),
        ),
    ),
    "of two fields": view_of("v", PAIR, (*agg.count(Paid).by(PAIR).over("1h"),)),
    "with a condition": view_of(
        "v", PAYER, (*agg.total(Paid, "cents").only(where("cents").at_least(100)).by(PAYER).over("1h"),)
    ),
    "in two ways": view_of(
        "v",
        PAYER,
        (*agg.count(Paid).by(PAYER).over("1h"), *agg.total(Paid, "cents").by(PAYER, via="payee").over("1h")),
    ),
    "of another event": view_of("v", PAYER, (*agg.count(Complained).by(PAYER).over("1h"),)),
}
NAMES = st.sampled_from(["a", "b", "c"])


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@given(
    payer=NAMES,
    payee=st.none() | NAMES,
    cents=st.none() | st.integers(0, 2**40),
    share=st.floats(allow_nan=False, allow_infinity=False),
    flagged=st.booleans(),
    later_us=st.integers(0, 10**12),
    other=NAMES,
)
def test_it_is_the_row_that_the_general_way_makes(
    view: TileView,
    payer: str,
    payee: str | None,
    cents: int | None,
    share: float,
    flagged: bool,
    later_us: int,
    other: str,
) -> None:
    event = Paid(
        event_id="e",
        event_time=from_us(AT_US + later_us),
        payer=payer,
        payee=payee,
        cents=cents,
        share=share,
        flagged=flagged,
    )
    tie = event_hash("paid", "e")
    for entity_id in (view.entity.id_in(event), other):
        expected = rows_about(view, event, entity_id, tie)
        np.testing.assert_array_equal(OwnRow(view, Paid).of(event, entity_id, tie), expected)
