"""A copy of what serving answers with, on its own disk: a model store that is gone or broken then stops no start."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from flywheel.adapters.durable_files import write
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.contracts.models import Deployment, ModelManifest, Role
from flywheel.kernel.ports import CorruptModel, ModelStore

_POINTER = "last_good.json"
_VERSIONS_KEPT = 6


class LastGoodModels:
    """The deployment that was last served and the versions it names, a few earlier ones with them.

    Every write appears whole or not at all; processes that share the directory wait for each other. What is read is
    verified as a model store verifies it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.store: ModelStore = FileModelStore(root)

    def keep(self, deployment: Deployment, source: ModelStore) -> None:
        """Copies what the deployment names and remembers it. Raises OSError, CorruptModel and KeyError."""
        home = self._root / deployment.usecase
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / ".keeping"):
            named = {version for role in Role if (version := deployment.version_of(role))}
            for version in named:
                self._copy(deployment.usecase, version, source)
            write(home / _POINTER, deployment.model_dump_json().encode())
            self._forget(home, named)

    def recall(self, usecase: str) -> Deployment | None:
        """What was last kept; None when nothing was, or when it cannot be read."""
        try:
            return Deployment.model_validate_json((self._root / usecase / _POINTER).read_bytes())
        except (OSError, ValidationError):
            return None

    def _copy(self, usecase: str, version: str, source: ModelStore) -> None:
        manifest, model = source.load(usecase, version)
        attached = {part.name: source.component(usecase, version, part.name) for part in manifest.attached}
        if self._holds(manifest):
            return
        # What was damaged here, or left by another store, makes way for what is served now.
        shutil.rmtree(self._root / usecase / version, ignore_errors=True)
        self.store.publish(manifest, model, attached)

    def _holds(self, manifest: ModelManifest) -> bool:
        usecase, version = manifest.usecase, manifest.version
        try:
            for part in manifest.components:
                self.store.component(usecase, version, part.name)
            return self.store.load(usecase, version)[0] == manifest
        except (CorruptModel, KeyError):
            return False

    def _forget(self, home: Path, named: set[str]) -> None:
        others = [home / version for version in self.store.versions(home.name) if version not in named]
        newest_first = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
        for unneeded in newest_first[max(_VERSIONS_KEPT - len(named), 0) :]:
            shutil.rmtree(unneeded, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
