"""What servers find when they start: a model, and features in Redis that Feast's own SDK has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.serving_processes import HOME
from flywheel.adapters import feast_stored
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.onnx_export import export_boosted
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.models import Deployment, Histogram, ModelManifest
from flywheel.kernel.attributes import AttributeTable
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.model_integrity import digest_of

_ROWS, _TREES, _LEAVES = 20_000, 300, 31
_GOLDEN = 20


def model_of(features: int) -> bytes:
    """LightGBM of 300 trees of 31 leaves on that many features, as ONNX; trained on random data once, and kept."""
    kept = HOME / f"model-{features}.onnx"
    if not kept.exists():
        rng = np.random.default_rng(3)
        rows = rng.normal(size=(_ROWS, features))
        labels = (rows @ rng.normal(size=features) + rng.normal(size=_ROWS) > 0).astype(int)
        options = {"num_leaves": _LEAVES, "objective": "binary", "verbose": -1, "num_threads": 1, "seed": 3}
        booster: Any = lightgbm.train(options, lightgbm.Dataset(rows, labels), num_boost_round=_TREES)
        HOME.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(export_boosted(booster.dump_model(), 1.0, 0.0))
    return kept.read_bytes()


def publish(models: FileModelStore, usecase: UseCase, version: str, model: bytes) -> None:
    """Publishes a version and deploys it as the champion."""
    golden = np.random.default_rng(7).normal(size=(_GOLDEN, len(usecase.feature_names))).astype(np.float32)
    manifest = ModelManifest(
        usecase=usecase.name,
        version=version,
        algorithm="lightgbm",
        created_at=datetime.now(UTC),
        feature_names=usecase.feature_names,
        feature_fingerprint=usecase.fingerprint,
        digest=digest_of(model),
        snapshot_id="random",
        code_commit="unknown",
        trained_until=datetime.now(UTC),
        metrics={},
        gates=(),
        reference={},
        score_reference=Histogram(edges=(0.5,), counts=(1, 1)),
        golden_inputs=tuple(tuple(row) for row in golden.tolist()),
        golden_scores=tuple(OnnxScorer(model).score(golden).tolist()),
        mlflow_run_id="none",
    )
    models.publish(manifest, model)
    deploy(models, usecase, version)


def deploy(models: FileModelStore, usecase: UseCase, champion: str) -> None:
    """Makes that version the champion."""
    newest = models.current(usecase.name)
    models.deploy(
        Deployment(
            sequence=1 if newest is None else newest.sequence + 1,
            usecase=usecase.name,
            deployed_at=datetime.now(UTC),
            deployed_by="benchmark",
            reason="measuring",
            champion=champion,
        )
    )


def fill(
    directory: Path, redis_port: int, usecase: UseCase, values: Mapping[str, NDArray[np.float32]], model: bytes
) -> None:
    """Makes Feast's repository there and writes what is stored of each table's entities, `<entity>-0` and so on.

    `values`: by table, shape (entities, columns). Beside the repository lie `model.onnx` and `features.txt`, the names
    of the model's inputs in Feast's words and in the model's order.
    """
    from feast import FeatureStore

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(model)
    (directory / "features.txt").write_text("\n".join(feast_names(usecase)))
    (directory / "feature_store.yaml").write_text(
        f"project: {usecase.name}\nprovider: local\nregistry: {directory / 'registry.db'}\n"
        f"online_store:\n  type: redis\n  connection_string: 127.0.0.1:{redis_port}\n"
        "entity_key_serialization_version: 3\n"
    )
    store = FeatureStore(repo_path=str(directory))
    views = [table.view(usecase.name) for table in usecase.attribute_tables]
    store.apply(feast_stored.feast_objects(views, directory))
    for table, view in zip(usecase.attribute_tables, views, strict=True):
        store.write_to_online_store(view.name, _frame(table, values[table.name]))


def feast_names(usecase: UseCase) -> Sequence[str]:
    """The model's inputs as Feast calls them, in order."""
    tables = usecase.attribute_tables
    return [f"{t.view(usecase.name).name}:{t.stored_name(column)}" for t in tables for column in t.columns]


def _frame(table: AttributeTable, values: NDArray[np.float32]) -> pd.DataFrame:
    now = datetime.now(UTC).replace(microsecond=0)
    columns: dict[str, Any] = {
        table.stored_name(column): values[:, place].astype(np.float64) for place, column in enumerate(table.columns)
    }
    (key,) = table.entity.keys
    columns[table.as_of] = float(now.timestamp() * 1e6)
    columns[key] = [f"{table.entity.name}-{n}" for n in range(len(values))]
    columns["event_timestamp"] = now
    return pd.DataFrame(columns)
