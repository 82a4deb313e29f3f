"""Plain stored features to be read by every side: the same bytes in one Redis, written by Feast's own SDK."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flywheel.adapters import feast_layout, feast_stored
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.kernel.stored import JoinKey, StoredFeature, StoredRequest, StoredView
from flywheel.kernel.stored_plan import StoredPlan
from infra.local import online_store
from infra.local.readiness import RedisAnswers, until
from infra.local.side_by_side import free_ports

PROJECT = "reads"
NOW_US = 1_750_000_000_000_000

_ENTITIES = 1_000
_RANKED = 200
_REQUESTS = 500
_HOUR_US = 3_600_000_000
_START_TIMEOUT_S = 20


@dataclass(frozen=True)
class Scenario:
    """One kind of request, in many variations, as each side wants it."""

    plan: StoredPlan
    requests: Sequence[StoredRequest]

    def hashes(self, request: StoredRequest) -> list[tuple[bytes, list[bytes]]]:
        """Keys and fields that the request needs: a plain HMGET each."""
        _, keys = self.plan.keys(request)
        found = []
        for group, columns in zip(self.plan.groups, keys, strict=True):
            fields = [feast_layout.value_field(view.name, each.name) for view in group.views for each in view.features]
            fields += [feast_layout.time_field(view.name) for view in group.views]
            found += [(key, fields) for key in EntityKeys(PROJECT, group.join_keys).encode(columns)]
        return found

    def rows(self, request: StoredRequest) -> dict[str, list[Any]]:
        """The request's keys as Feast takes them, in columns."""
        rows, _ = self.plan.keys(request)
        return {name: list(column) * (rows if len(column) == 1 else 1) for name, column in request.keys.items()}


def scenarios() -> dict[str, Scenario]:
    """One entity's 25 features in one view, the same over five views, and 20 of one user and of each of 200 items."""
    rng = np.random.default_rng(11)
    picks = rng.integers(0, _ENTITIES, _REQUESTS)
    items = rng.integers(0, _ENTITIES, (_REQUESTS, _RANKED))
    return {
        "1x25": Scenario(
            StoredPlan([_view("card_profile", "card", 25)]),
            [StoredRequest({"card": [f"card-{pick}"]}, NOW_US) for pick in picks],
        ),
        "1x25_5views": Scenario(
            StoredPlan([_view(f"account_profile_{n}", "account", 5) for n in range(5)]),
            [StoredRequest({"account": [f"account-{pick}"]}, NOW_US) for pick in picks],
        ),
        "rank200": Scenario(
            StoredPlan([_view("user_profile", "user", 20), _view("item_profile", "item", 20)]),
            [
                StoredRequest({"user": [f"user-{pick}"], "item": [f"item-{item}" for item in ranked]}, NOW_US)
                for pick, ranked in zip(picks, items, strict=True)
            ],
        ),
    }


def _view(name: str, key: str, features: int) -> StoredView:
    named = tuple(StoredFeature(f"{name}_{n}") for n in range(features))
    return StoredView(name, (JoinKey(key),), named, ttl_us=_HOUR_US)


@contextmanager
def running_redis(directory: Path) -> Iterator[int]:
    """The port of a Redis of its own, with the settings of the stack's."""
    (port,) = free_ports(1)
    process = subprocess.Popen(online_store.command(directory, port), stdout=subprocess.DEVNULL)
    try:
        pause = lambda: time.sleep(0.02)  # noqa: E731
        if not until(RedisAnswers(port), _START_TIMEOUT_S, clock=time.monotonic, pause=pause):
            raise RuntimeError("Redis did not start")
        yield port
    finally:
        process.terminate()
        process.wait()


def filled_feast(directory: Path, port: int, scenes: Mapping[str, Scenario]) -> Any:
    """Feast's client on that Redis, with all features of all entities written."""
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(directory / "registry.db"),
            repo_path=directory,
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )
    views = [view for scene in scenes.values() for view in scene.plan.views]
    store.apply(feast_stored.feast_objects(views, directory))
    rng = np.random.default_rng(12)
    for view in views:
        store.write_to_online_store(view.name, _frame(view, rng))
    return store


def _frame(view: StoredView, rng: np.random.Generator) -> pd.DataFrame:
    """Values of every entity, each row of another age within the time to live."""
    (key,) = view.join_keys
    ages_us = rng.integers(1, _HOUR_US, _ENTITIES)
    columns: dict[str, Any] = {feature.name: rng.normal(size=_ENTITIES) for feature in view.features}
    columns[key.name] = [f"{key.name}-{n}" for n in range(_ENTITIES)]
    columns["event_timestamp"] = [datetime.fromtimestamp((NOW_US - age_us) / 1e6, UTC) for age_us in ages_us]
    return pd.DataFrame(columns)
