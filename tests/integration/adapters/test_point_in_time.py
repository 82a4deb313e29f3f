"""Our point-in-time join and Feast's return the same rows and values, on the store that training is configured with."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from flywheel.adapters.feast_repo import apply_declaration, open_store
from flywheel.adapters.history_layout import history_sources
from flywheel.adapters.point_in_time import HistorySource, JoinLimits, join_point_in_time
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.plan import compile_plan
from tests.history_rows import SECOND_US, draw_history, draw_requests, write_history
from usecases.fraud import usecase

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning:ibis.*", "ignore::UserWarning"
)

PLAN = compile_plan(usecase)
SPAN_S = 60


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Feast tells prometheus_client, by the environment, to keep metrics in files; no later test may inherit it."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


def store_of(directory: Path, sources: list[HistorySource]) -> FeatureStore:
    """A Feast repository with a view for each source, on the offline store of the trainer."""
    from feast import Entity, FeatureStore, RepoConfig, ValueType

    registry = str(directory / "registry.db")
    offline = {"type": "duckdb"}
    config = RepoConfig(
        project="joins", provider="local", registry=registry, repo_path=directory, offline_store=offline
    )
    store = FeatureStore(config=config)
    entities = [Entity(name=s.name, join_keys=[s.keys[0][0]], value_type=ValueType.STRING) for s in sources]
    store.apply([*entities, *(view_of(source, entity) for source, entity in zip(sources, entities, strict=True))])
    return store


def view_of(source: HistorySource, entity: object) -> FeatureView:
    from feast import FeatureView, Field, FileSource
    from feast.types import Float64

    return FeatureView(
        name=source.name,
        entities=[entity],
        schema=[Field(name=name, dtype=Float64) for name in source.features],
        source=FileSource(
            name=f"{source.name}_files",
            path=str(source.directory / "*.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
        ttl=timedelta(microseconds=source.ttl_us or 0),
    )


@pytest.mark.parametrize("seed", range(2))
def test_both_joins_return_the_same_rows_and_values(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    sources = []
    for key, ttl_us in (("card_id", 5 * SECOND_US), ("terminal_id", None)):
        history = draw_history(rng, key[0], 800, entities=15, span_s=SPAN_S)
        write_history(tmp_path / key, key, f"{key}_value", history, files=3)
        features = (f"{key}_value", f"{key}_value_doubled")
        sources.append(HistorySource(f"{key}_view", tmp_path / key, ((key, key),), features, ttl_us))
    # Some entities that were never seen, and some rows so late that all they could see has expired.
    requests = draw_requests(rng, 1_500, entities=18, span_s=SPAN_S + 40)
    ours = join_point_in_time(requests, sources, JoinLimits(64, tmp_path / "spill")).to_pandas()
    wanted = [f"{source.name}:{name}" for source in sources for name in source.features]
    job = store_of(tmp_path, sources).get_historical_features(entity_df=requests.to_pandas(), features=wanted)
    theirs = job.to_df().set_index("note").loc[ours["note"]].reset_index()
    assert len(theirs) == len(ours) == len(requests)
    for name in (name for source in sources for name in source.features):
        np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy())
    expired = ours["card_id_value"].isna() & (ours["event_timestamp"] > ours["event_timestamp"].min())
    assert 0 < expired.sum() < len(ours)
    pd.testing.assert_frame_equal(ours[requests.column_names], requests.to_pandas())


def test_both_read_the_sources_that_are_registered(tmp_path: Path) -> None:
    settings = PlatformSettings(data_dir=tmp_path)
    apply_declaration(settings, PLAN)
    store = open_store(settings, PLAN)
    for view, source in zip(PLAN.views, history_sources(settings, PLAN, "*"), strict=True):
        registered = store.get_feature_view(view.history_name)
        assert registered.batch_source.path == str(source.directory / "*.parquet")
        assert registered.ttl == timedelta(microseconds=source.ttl_us or 0)
        assert [field.name for field in registered.features] == list(source.features)
        assert registered.join_keys == [theirs for _, theirs in source.keys]
