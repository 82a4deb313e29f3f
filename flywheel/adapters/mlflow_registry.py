"""The record of training runs and of registered models, in MLflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Read when mlflow is imported: it would otherwise report its use over the network.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import onnx
import onnxruntime
from mlflow.exceptions import MlflowException

from flywheel.contracts.models import ModelManifest, Role
from flywheel.kernel.gates import all_passed

_VERSION_TAG = "flywheel.version"
_REQUIREMENTS = [f"onnx=={onnx.__version__}", f"onnxruntime=={onnxruntime.__version__}"]


class MlflowRegistry:
    """One experiment and one registered model a use case; `artifacts` is where new experiments keep their files."""

    def __init__(self, store: str, artifacts: Path) -> None:
        if store.startswith("sqlite:///"):
            Path(store.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        # Its warnings are about features of MLflow that are not used here.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(store)
        mlflow.set_registry_uri(store)
        self._client = mlflow.MlflowClient(store, store)
        self._artifacts = artifacts.absolute()

    @contextmanager
    def run(self, usecase: str, name: str) -> Iterator[str]:
        """The id of a new run, which ends with the block: finished, or failed when the block raises."""
        with mlflow.start_run(experiment_id=self._experiment(usecase), run_name=name) as active:
            yield str(active.info.run_id)

    def log(
        self, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Adds parameters, metrics and tags to a run."""
        mlflow.log_params(dict(parameters), run_id=run_id)
        mlflow.log_metrics(dict(metrics), run_id=run_id)
        for key, value in tags.items():
            self._client.set_tag(run_id, key, value)

    def attach(self, run_id: str, name: str, text: str) -> None:
        """Keeps a text file with a run."""
        mlflow.log_text(text, name, run_id=run_id)

    def register(self, manifest: ModelManifest, model: bytes) -> None:
        """Logs the model and its manifest with the running run and registers them as the use case's next version."""
        mlflow.log_text(manifest.model_dump_json(indent=2), f"{manifest.version}/manifest.json")
        logged = mlflow.onnx.log_model(
            onnx.load_from_string(model),
            name=manifest.algorithm,
            pip_requirements=_REQUIREMENTS,
            registered_model_name=manifest.usecase,
        )
        number = str(logged.registered_model_version)
        passed = str(all_passed(manifest.gates)).lower()
        tags = {_VERSION_TAG: manifest.version, "digest": manifest.digest, "gates_passed": passed}
        for key, value in tags.items():
            self._client.set_model_version_tag(manifest.usecase, number, key, value)

    def assign(self, usecase: str, role: Role, version: str | None) -> None:
        """Points the role's alias at a version, at none when `version` is None. KeyError when it is not registered."""
        if version is None:
            self._client.delete_registered_model_alias(usecase, role.value)
            return
        found = self._client.search_model_versions(f"name = '{usecase}' and tags.`{_VERSION_TAG}` = '{version}'")
        if not found:
            raise KeyError(f"{usecase} {version} is not registered")
        self._client.set_registered_model_alias(usecase, role.value, found[0].version)

    def assigned(self, usecase: str, role: Role) -> str | None:
        """The version that the role's alias points at."""
        try:
            found = self._client.get_model_version_by_alias(usecase, role.value)
        except MlflowException:
            return None
        return str(found.tags[_VERSION_TAG])

    def _experiment(self, usecase: str) -> str:
        existing = self._client.get_experiment_by_name(usecase)
        if existing is not None:
            return str(existing.experiment_id)
        return str(self._client.create_experiment(usecase, artifact_location=(self._artifacts / usecase).as_uri()))
