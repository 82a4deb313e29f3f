"""A declaration with every kind of feature there is, for tests that hold the engines to the oracle."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from pydantic import Field

from flywheel.contracts.events import Event
from flywheel.kernel import aggregation as agg
from flywheel.kernel import catalog
from flywheel.kernel.attributes import attributes
from flywheel.kernel.conditions import where
from flywheel.kernel.declaration import Label, UseCase
from flywheel.kernel.features import AttributeFeature, Entity, WindowedFeature


class Order(Event):
    event_name: ClassVar[str] = "order"
    partition_key: ClassVar[str] = "buyer"

    buyer: str
    seller: str
    shop: str
    cents: int
    weight: Annotated[float | None, Field()]
    stall: int
    parcel: int | None


class Refund(Event):
    event_name: ClassVar[str] = "refund"
    partition_key: ClassVar[str] = "buyer"

    buyer: str
    cents: int
    stall: int


BUYER = Entity("buyer", key="buyer")
PAIR = Entity("pair", key=("buyer", "shop"))
STALL = Entity("stall", key="stall")
FEATURES: tuple[WindowedFeature, ...] = (
    *agg.count(Order).by(BUYER).over("10s", "10m", "1h", "7d", "90d"),
    *agg.total(Order, "cents").by(BUYER).over("1m", "24h", "30d"),
    *agg.mean(Order, "weight", default=-7.0).by(BUYER).over("10m", "1h", "30d"),
    *agg.smallest(Order, "cents", default=-1.0).by(BUYER).over("10m", "24h", "7d"),
    *agg.largest(Order, "weight", default=-1.0).by(BUYER).over("30s", "24h", "30d"),
    *agg.variance(Order, "cents", default=-1.0).by(BUYER).over("10m", "24h", "30d"),
    *agg.stddev(Order, "weight", default=-1.0).by(BUYER).over("1h"),
    *agg.distinct(Order, "shop").by(BUYER).over("1m", "1h", "30d"),
    *agg.first(Order, "cents", default=-1.0).by(BUYER).over("10m", "24h", "30d"),
    *agg.last(Order, "cents", default=-1.0).by(BUYER).over("10m", "30d"),
    *agg.last_n(Order, "cents", 3, default=-1.0).by(BUYER).over("5m", "24h"),
    *agg.since_last(Order).by(BUYER).over("1h", "30d"),
    *agg.decayed_count(Order, "1h").by(BUYER).over("10m", "24h", "7d"),
    *agg.count(Order).only(where("shop").equals("a"), where("cents").at_least(50)).by(BUYER).over("10m", "24h"),
    *agg.total(Order, "cents").only(where("weight").below(0.5)).by(BUYER).over("1h"),
    *agg.count(Refund).by(BUYER).delayed("1h").over("1h"),
    *agg.count(Refund).by(BUYER).delayed("7d").over("30d"),
    *agg.count(Refund).by(BUYER).over("10m", "7d"),
    *agg.count(Order).by(BUYER).delayed("1m").over("5m"),
    *agg.largest(Order, "cents").by(BUYER).within(10, 60).over("10m", "24h"),
    *agg.count(Order).by(BUYER, via="seller").over("10m", "24h"),
)
OF_STALLS: tuple[WindowedFeature, ...] = (
    *agg.count(Order).by(STALL).over("10m", "24h"),
    *agg.distinct(Order, "parcel").by(STALL).over("1h", "30d"),
    *agg.largest(Order, "parcel", default=-1.0).by(STALL).over("24h"),
    *agg.count(Refund).by(STALL).over("30d"),
)
OF_PAIRS: tuple[WindowedFeature, ...] = (
    *agg.count(Order).by(PAIR).over("10m", "24h"),
    *agg.since_last(Order).by(PAIR).over("30d"),
)
LOADED: tuple[AttributeFeature, ...] = (
    *attributes("profile", "limit_cents", "age").by(BUYER).valid_for("30d", default=-1.0),
    *attributes("segment", "rank").by(BUYER).valid_forever(default=-2.0),
    *attributes("discount", "share").by(PAIR).valid_for("7d"),
)

_FRAUD = catalog.load("fraud")
USECASE: UseCase = dataclasses.replace(
    _FRAUD,
    name="wide",
    events=(Order, Refund),
    request=Order,
    entities=(BUYER, PAIR, STALL),
    features=(*FEATURES, *OF_PAIRS, *OF_STALLS, *LOADED),
    label=Label(Refund, joins="buyer", matures_after="7d"),
    policy=dataclasses.replace(_FRAUD.costs, amount_field="cents"),
    experiment=dataclasses.replace(_FRAUD.experiment, unit="buyer"),
    reasons=(),
)
