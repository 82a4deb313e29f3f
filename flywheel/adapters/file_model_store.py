"""The model store on a file system: a directory a version, and one log of deployments a use case."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from flywheel.adapters.durable_files import sync, write
from flywheel.contracts.models import MODEL, Deployment, ModelManifest
from flywheel.kernel.model_integrity import (
    check_attached,
    check_component,
    check_digest,
    check_next,
    component_named,
    parse_manifest,
)
from flywheel.kernel.ports import CorruptModel

_MODEL = "model.onnx"
_MANIFEST = "manifest.json"
_LOG = "deployments.jsonl"
_ALONE: Mapping[str, bytes] = MappingProxyType({})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class FileModelStore:
    """Models below `root/<usecase>/<version>/`, deployments in `root/<usecase>/deployments.jsonl`.

    Every write appears whole or not at all, whenever the process dies. Writers of one log wait for each other.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def publish(self, manifest: ModelManifest, model: bytes, attached: Mapping[str, bytes] = _ALONE) -> None:
        """Stores a version; again with the same content is harmless, with other content a ValueError."""
        check_digest(manifest, model, ValueError)
        check_attached(manifest, attached)
        parts = {_safe(f"{name}.onnx"): content for name, content in attached.items()}
        home = self._home(manifest.usecase, manifest.version)
        if home.exists():
            return self._check_same(manifest, model)
        home.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home.parent))
        try:
            draft.chmod(0o755)
            for name, content in {_MODEL: model, **parts}.items():
                write(draft / name, content)
            write(draft / _MANIFEST, manifest.model_dump_json(indent=2).encode())
            draft.rename(home)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not home.exists():
                raise
            # Somebody published this version in between.
            return self._check_same(manifest, model)
        return sync(home.parent)

    def load(self, usecase: str, version: str) -> tuple[ModelManifest, bytes]:
        """A version, its digest verified. KeyError when unknown, CorruptModel when its files are not as published."""
        home = self._home(usecase, version)
        if not home.is_dir():
            raise KeyError(f"{usecase} has no model {version!r}")
        try:
            raw, model = (home / _MANIFEST).read_bytes(), (home / _MODEL).read_bytes()
        except FileNotFoundError as error:
            raise CorruptModel(f"{version}: {Path(error.filename).name} is missing") from error
        manifest = parse_manifest(raw, usecase, version)
        check_digest(manifest, model, CorruptModel)
        return manifest, model

    def component(self, usecase: str, version: str, name: str) -> bytes:
        """One file of a version, verified like the model. KeyError when there is none of that name, CorruptModel."""
        manifest, model = self.load(usecase, version)
        component = component_named(manifest, name)
        if name == MODEL:
            return model
        try:
            content = (self._home(usecase, version) / _safe(f"{name}.onnx")).read_bytes()
        except FileNotFoundError as error:
            raise CorruptModel(f"{version}: its {name} is missing") from error
        check_component(version, component, content, CorruptModel)
        return content

    def versions(self, usecase: str) -> list[str]:
        """Names of all published versions, sorted; drafts and what else lies there are none."""
        try:
            found = list(self._directory(usecase).iterdir())
        except FileNotFoundError:
            return []
        return sorted(entry.name for entry in found if entry.is_dir() and _NAME.fullmatch(entry.name))

    def deploy(self, deployment: Deployment) -> None:
        """Appends to the log; ValueError unless `sequence` is one past the newest (1 for the first).

        Unsupported, which is one too, where its roles contradict each other.
        """
        directory = self._directory(deployment.usecase)
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / ".deployments.lock"):
            earlier = self.deployments(deployment.usecase)
            check_next(deployment, earlier)
            lines = "".join(f"{entry.model_dump_json()}\n" for entry in (*earlier, deployment))
            # Replaced whole: a reader never meets half a line, not even after a power cut.
            write(directory / _LOG, lines.encode())

    def deployments(self, usecase: str) -> list[Deployment]:
        """The whole log, oldest first."""
        try:
            lines = (self._directory(usecase) / _LOG).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [Deployment.model_validate_json(line) for line in lines if line]

    def current(self, usecase: str) -> Deployment | None:
        """The newest entry."""
        log = self.deployments(usecase)
        return log[-1] if log else None

    def _check_same(self, manifest: ModelManifest, model: bytes) -> None:
        if self.load(manifest.usecase, manifest.version) != (manifest, model):
            raise ValueError(f"{manifest.version} is published already, with other content")

    def _directory(self, usecase: str) -> Path:
        return self._root / _safe(usecase)

    def _home(self, usecase: str, version: str) -> Path:
        return self._directory(usecase) / _safe(version)


def _safe(name: str) -> str:
    # Names become directories: one with a slash or a leading dot could reach outside the store.
    if not _NAME.fullmatch(name):
        raise KeyError(f"{name!r} is not a name; use letters, digits, '.', '_' and '-'")
    return name


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
