"""A declaration that ranks: items of a shop for a user, by twenty attributes of each."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from flywheel.contracts.events import Event, Identifier
from flywheel.kernel import catalog
from flywheel.kernel.attributes import AttributeRow, attributes
from flywheel.kernel.declaration import Experiment, Label, LatencyBudget, RuleScore, UseCase
from flywheel.kernel.features import AttributeFeature, Entity
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ranking import Ranking

COLUMNS = 20
VALID_FOR = "30d"


class Impression(Event):
    """An item is shown to a user."""

    event_name: ClassVar[str] = "impression"
    partition_key: ClassVar[str] = "user_id"

    user_id: Identifier
    item_id: Identifier
    page: int


class Click(Event):
    """The user chose what was shown."""

    event_name: ClassVar[str] = "click"
    partition_key: ClassVar[str] = "user_id"

    impression_id: Identifier
    user_id: Identifier


USER = Entity("user", key="user_id")
ITEM = Entity("item", key="item_id")
USER_COLUMNS = tuple(f"u{number:02}" for number in range(COLUMNS))
ITEM_COLUMNS = tuple(f"i{number:02}" for number in range(COLUMNS))


def _item_features(cached_for: str) -> tuple[AttributeFeature, ...]:
    items = attributes("item_profile", *ITEM_COLUMNS).by(ITEM)
    return (items.cached_for(cached_for) if cached_for else items).valid_for(VALID_FOR, default=-1.0)


def declared(ranking: Ranking = Ranking("item_id"), *, cached_for: str = "") -> UseCase:  # noqa: B008  immutable
    """The use case with that policy; items are read anew by each ranking unless they are cached."""
    return dataclasses.replace(
        catalog.load("fraud"),
        name="shop",
        title="Items for a user",
        events=(Impression, Click),
        request=Impression,
        entities=(USER, ITEM),
        features=(
            *attributes("user_profile", *USER_COLUMNS).by(USER).valid_for(VALID_FOR, default=-1.0),
            *_item_features(cached_for),
        ),
        label=Label(Click, joins="impression_id", matures_after="1h"),
        policy=ranking,
        budget=LatencyBudget(total_ms=50, features_ms=20, model_ms=20),
        fallback=RuleScore("nothing_known", lambda _: 0.5),
        reasons=(),
        experiment=Experiment(unit="user_id", challenger_share=0.0),
        world="",
        owner="shop",
        durable_log=False,
    )


USECASE = declared()
PLAN = compile_plan(USECASE)
USERS, ITEMS = USECASE.attribute_tables


def user(number: int) -> str:
    return f"user-{number}"


def item(number: int) -> str:
    return f"item-{number}"


def rows(name: str, number: int, as_of_us: int, seed: int = 12) -> list[AttributeRow]:
    """A load of that many users or items (`user` or `item`), of normal values."""
    values = np.random.default_rng(seed).normal(size=(number, COLUMNS)).round(6).tolist()
    return [AttributeRow((f"{name}-{place}",), as_of_us, tuple(row)) for place, row in enumerate(values)]
