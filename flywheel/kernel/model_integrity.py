"""What a model store checks before it takes or gives anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from flywheel.contracts.models import MODEL, Component, Deployment, ModelManifest
from flywheel.kernel.deployment import check_roles
from flywheel.kernel.ports import CorruptModel


def digest_of(model: bytes) -> str:
    """SHA-256 of a model file, hexadecimal.

    >>> digest_of(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(model).hexdigest()


def check_digest(manifest: ModelManifest, model: bytes, error: type[Exception]) -> None:
    """Raises `error` unless the bytes are those that the manifest describes."""
    if digest_of(model) != manifest.digest:
        raise error(f"{manifest.version}: the model's bytes do not match the digest in its manifest")


def check_attached(manifest: ModelManifest, attached: Mapping[str, bytes]) -> None:
    """Raises ValueError unless these are exactly the files that the manifest describes beside its model."""
    names = [component.name for component in manifest.components]
    if len(set(names)) < len(names):
        raise ValueError(f"{manifest.version}: two components have one name: {', '.join(names)}")
    if set(attached) != set(names[1:]):
        raise ValueError(
            f"{manifest.version} consists of {', '.join(names)}; given are {', '.join((MODEL, *attached))}"
        )
    for component in manifest.attached:
        check_component(manifest.version, component, attached[component.name], ValueError)


def check_component(version: str, component: Component, content: bytes, error: type[Exception]) -> None:
    """Raises `error` unless the bytes are those of the component."""
    if digest_of(content) != component.digest:
        raise error(f"{version}: the bytes of its {component.name} do not match their digest in its manifest")


def component_named(manifest: ModelManifest, name: str) -> Component:
    """The component of that name; KeyError when the version has none."""
    for component in manifest.components:
        if component.name == name:
            return component
    raise KeyError(f"{manifest.version} has no component {name!r}")


def parse_manifest(raw: bytes, usecase: str, version: str) -> ModelManifest:
    """The manifest of that version. Raises CorruptModel when it cannot be read or is about something else."""
    try:
        manifest = ModelManifest.model_validate_json(raw)
    except ValidationError as error:
        raise CorruptModel(f"{version}: its manifest cannot be read: {error}") from error
    if (manifest.usecase, manifest.version) != (usecase, version):
        raise CorruptModel(f"{version}: its manifest is that of {manifest.usecase} {manifest.version}")
    return manifest


def check_next(deployment: Deployment, earlier: Sequence[Deployment]) -> None:
    """Raises ValueError unless the deployment is the next of the log; so of two at once only one wins.

    Raises Unsupported, which is one too, where its roles contradict each other.
    """
    check_roles(deployment)
    expected = earlier[-1].sequence + 1 if earlier else 1
    if deployment.sequence != expected:
        raise ValueError(f"{deployment.usecase}: the next deployment is number {expected}, not {deployment.sequence}")
