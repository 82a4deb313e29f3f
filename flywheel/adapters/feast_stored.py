"""Feast's own objects for plain stored views, so that its SDK writes and reads the very values that the platform reads.

Feast itself is imported only where it is needed, because that takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from flywheel.kernel.stored import StoredView

_VALUE_TYPES = {"string": "STRING", "int64": "INT64", "int32": "INT32"}
_SCALAR_TYPES = {"double": "Float64", "float": "Float32", "int64": "Int64", "int32": "Int32", "bool": "Bool"}


def feast_objects(views: Sequence[StoredView], sources: Path) -> list[Any]:
    """What Feast's `apply` takes: the views' entities, then a feature view for each view.

    `sources`: the directory of the views' history, `<view>.parquet`; values that are written straight to the online
    store need none there.
    """
    from feast import Entity, ValueType

    entities = {
        key.name: Entity(
            name=key.name, join_keys=[key.name], value_type=getattr(ValueType, _VALUE_TYPES[key.type.value])
        )
        for view in views
        for key in view.join_keys
    }
    return [
        *entities.values(),
        *(feature_view(v, [entities[k.name] for k in v.join_keys], _source(v, sources)) for v in views),
    ]


def _source(view: StoredView, sources: Path) -> Any:
    from feast import FileSource

    path = str(sources / f"{view.name}.parquet")
    return FileSource(name=f"{view.name}_source", path=path, timestamp_field="event_timestamp")


def feature_view(view: StoredView, entities: Sequence[Any], source: Any) -> Any:
    """One view, of Feast's entities, with its history in that source."""
    from feast import FeatureView, Field, types

    return FeatureView(
        name=view.name,
        entities=list(entities),
        schema=[
            Field(name=feature.name, dtype=getattr(types, _SCALAR_TYPES[feature.type.value]))
            for feature in view.features
        ],
        source=source,
        # Feast has zero for values that do not expire.
        ttl=timedelta(microseconds=view.ttl_us or 0),
        online=True,
    )
