"""Feast's repository, generated from the declaration: entities, views, services, and both stores.

Feast itself is imported only where it is needed, because that takes seconds.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from flywheel.adapters import feast_fold
from flywheel.adapters.attribute_lake import table_directory
from flywheel.adapters.feast_layout import edge_feature, state_feature
from flywheel.adapters.feast_stored import feature_view
from flywheel.adapters.history_layout import NEVER_EXPIRES, snapshot_directory
from flywheel.adapters.redis_address import cluster_address, is_cluster
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.attributes import AttributeTable
from flywheel.kernel.plan import FeaturePlan, TileView

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

_LAYOUT = "3"
"""Changes when other objects come of the same declaration."""


class HistoryIncomplete(Exception):
    """Feast gave back other rows than it was asked for."""


def online_service(usecase: str) -> str:
    """The feature service that answers for a decision: every declared feature."""
    return f"{usecase}_online"


def training_service(usecase: str) -> str:
    """The feature service that training reads: every windowed feature as of a past event."""
    return f"{usecase}_training"


def apply_declaration(settings: PlatformSettings, plan: FeaturePlan) -> bool:
    """Brings Feast's registry up to date; False, at once, when it was so already."""
    directory = settings.feast_dir.absolute() / plan.usecase.name
    marker = directory / "applied"
    # A digest, because the address may hold a password.
    address = hashlib.sha256(settings.redis_url.encode()).hexdigest()[:16]
    wanted = f"{_LAYOUT}/{plan.usecase.fingerprint}/{address}"
    if marker.exists() and marker.read_text() == wanted:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    store = open_store(settings, plan)
    store.apply(_objects(settings, plan))
    marker.write_text(wanted)
    return True


def open_store(settings: PlatformSettings, plan: FeaturePlan, *, registry: Path | None = None) -> FeatureStore:
    """Feast's own client on the repository, or on a copy of its registry."""
    from feast import FeatureStore, RepoConfig

    directory = settings.feast_dir.absolute() / plan.usecase.name
    return FeatureStore(
        config=RepoConfig(
            project=plan.usecase.name,
            provider="local",
            registry=str(registry or directory / "registry.db"),
            repo_path=directory,
            online_store=_online_store(settings.redis_url),
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )


def training_frame(
    settings: PlatformSettings, plan: FeaturePlan, requests: pd.DataFrame, snapshot_id: str
) -> pd.DataFrame:
    """The frame with every windowed feature beside it, as of each row's `event_timestamp`; rows in any order.

    `requests` holds the entities' keys and `event_timestamp` (UTC); its other columns are kept. A feature is NaN where
    the snapshot has nothing of the entity until then. Raises HistoryIncomplete unless every row came back once.
    """
    apply_declaration(settings, plan)
    registry = settings.feast_dir.absolute() / plan.usecase.name / "registry.db"
    with tempfile.TemporaryDirectory() as scratch:
        # On a copy, so that several can read different snapshots at a time.
        copy = Path(shutil.copy(registry, scratch))
        store = open_store(settings, plan, registry=copy)
        for view in plan.views:
            feature_view = store.get_feature_view(view.history_name)
            feature_view.batch_source.file_options.uri = str(_snapshot(settings, plan, view, snapshot_id))
            store.registry.apply_feature_view(feature_view, plan.usecase.name)
        service = store.get_feature_service(training_service(plan.usecase.name))
        frame: pd.DataFrame = store.get_historical_features(entity_df=requests, features=service).to_df()
    if len(frame) != len(requests):
        raise HistoryIncomplete(f"{len(requests)} rows were asked for and {len(frame)} came back")
    return frame


def training_table(settings: PlatformSettings, plan: FeaturePlan, requests: pa.Table, snapshot_id: str) -> pa.Table:
    """`training_frame` for tables of Arrow."""
    found = training_frame(settings, plan, requests.to_pandas(), snapshot_id)
    return pa.Table.from_pandas(found, preserve_index=False)


def _online_store(redis_url: str) -> dict[str, str]:
    if not is_cluster(redis_url):
        return {"type": "redis", "connection_string": _connection(redis_url)}
    address = cluster_address(redis_url)
    # What is the same for all nodes; a cluster has but one database.
    _, *parts = _connection(address.url(address.nodes[0])).split(",")
    same = [part for part in parts if not part.startswith("db=")]
    return {
        "type": "redis",
        "redis_type": "redis_cluster",
        "connection_string": ",".join([*map(str, address.nodes), *same]),
    }


def _connection(redis_url: str) -> str:
    parts = urlsplit(redis_url)
    secured = ",ssl=true" if parts.scheme == "rediss" else ""
    user = f",username={unquote(parts.username)}" if parts.username else ""
    password = f",password={unquote(parts.password)}" if parts.password else ""
    return f"{parts.hostname}:{parts.port or 6379},db={parts.path.strip('/') or 0}{secured}{user}{password}"


def _snapshot(settings: PlatformSettings, plan: FeaturePlan, view: TileView, snapshot_id: str) -> Path:
    return snapshot_directory(settings, plan, view, snapshot_id) / "*.parquet"


def _objects(settings: PlatformSettings, plan: FeaturePlan) -> list[Any]:
    from feast import Entity, FeatureService, ValueType

    # Feast's entities have one key each; what is about several has a view of several.
    tables = plan.usecase.attribute_tables
    about = dict.fromkeys((*(view.entity for view in plan.views), *(table.entity for table in tables)))
    names = {entity.keys[0]: entity.name for entity in about if len(entity.keys) == 1}
    keys = dict.fromkeys(key for entity in about for key in entity.keys)
    entities = {key: Entity(name=names.get(key, key), join_keys=[key], value_type=ValueType.STRING) for key in keys}
    by_view = {view.name: [entities[key] for key in view.entity.keys] for view in plan.views}
    tiles = [_tile_view(settings, plan, view, by_view[view.name]) for view in plan.views]
    histories = [_history_view(settings, plan, view, by_view[view.name]) for view in plan.views]
    loaded = [_attribute_view(settings, plan, table, [entities[key] for key in table.entity.keys]) for table in tables]
    combined = _combined_view(plan, [*tiles, *loaded])
    services = [
        FeatureService(name=online_service(plan.usecase.name), features=[combined]),
        FeatureService(name=training_service(plan.usecase.name), features=histories),
    ]
    return [*entities.values(), *tiles, *histories, *loaded, combined, *services]


def _tile_view(settings: PlatformSettings, plan: FeaturePlan, view: TileView, entities: list[Any]) -> Any:
    from feast import FeatureView, Field
    from feast.types import Bytes

    return FeatureView(
        name=view.name,
        entities=entities,
        schema=[
            Field(name=state_feature(view.entity.name), dtype=Bytes),
            Field(name=edge_feature(view.entity.name), dtype=Bytes),
        ],
        # States come straight from the stream; Feast wants to know of a batch source all the same.
        source=_file_source(f"{view.name}_source", _snapshot(settings, plan, view, "*")),
        ttl=timedelta(0),
        online=True,
        description=f"Packed tiles and edge of each {view.entity.name}, folded when they are read.",
    )


def _history_view(settings: PlatformSettings, plan: FeaturePlan, view: TileView, entities: list[Any]) -> Any:
    from feast import FeatureView, Field
    from feast.types import Float64

    return FeatureView(
        name=view.history_name,
        entities=entities,
        schema=[Field(name=feature.name, dtype=Float64) for feature in view.features],
        source=_file_source(f"{view.history_name}_source", _snapshot(settings, plan, view, "*")),
        ttl=NEVER_EXPIRES,
        online=False,
        description=f"Windowed features of each {view.entity.name} as of its past events.",
    )


def _attribute_view(settings: PlatformSettings, plan: FeaturePlan, table: AttributeTable, entities: list[Any]) -> Any:
    directory = table_directory(settings.lake_dir.absolute() / plan.usecase.name, table)
    view = table.view(plan.usecase.name)
    return feature_view(view, entities, _file_source(f"{view.name}_source", directory / "*.parquet"))


def _file_source(name: str, path: Path) -> Any:
    from feast import FileSource

    return FileSource(
        name=name, path=str(path), timestamp_field="event_timestamp", created_timestamp_column="created_timestamp"
    )


def _combined_view(plan: FeaturePlan, tiles: list[Any]) -> Any:
    from feast import Field, OnDemandFeatureView, RequestSource
    from feast.types import Bool, Float64, Int64, String

    types = {int: Int64, float: Float64, str: String, bool: Bool}
    fields = feast_fold.request_fields(plan).items()
    request = RequestSource(
        name=f"{plan.usecase.name}_request",
        schema=[
            Field(name=feast_fold.EVENT_ID, dtype=String),
            Field(name=feast_fold.EVENT_TIME, dtype=Int64),
            *(Field(name=feast_fold.request_field(name), dtype=types[kind]) for name, kind in fields),
        ],
    )
    return OnDemandFeatureView(
        name=f"{plan.usecase.name}_features",
        sources=[*tiles, request],
        schema=[Field(name=name, dtype=Float64) for name in plan.usecase.feature_names],
        mode="python",
        udf=_transformation(plan.usecase.name),
        udf_string=f"flywheel.adapters.feast_fold.features_of({plan.usecase.name!r}, inputs)",
    )


def _transformation(usecase: str) -> Any:
    def features(inputs: dict[str, Any]) -> dict[str, Any]:
        from flywheel.adapters.feast_fold import features_of

        return features_of(usecase, inputs)

    return features
