"""Checks manifests against the schemas of Kubernetes' API, offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import kubernetes_validate

from infra.kubernetes.rendering import Resource

VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest release that knows all that the manifests use, one between, and the newest whose schema is at hand."""


def findings(resources: Sequence[Resource], versions: Sequence[str] = VERSIONS) -> Iterator[str]:
    """A sentence for each object and release that do not go together; unknown fields count, and so do unknown kinds."""
    for version in versions:
        for resource in resources:
            name = f"{resource.get('kind')} {resource.get('metadata', {}).get('name')}"
            try:
                kubernetes_validate.validate(resource, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = "/".join(str(part) for part in error.path)
                yield f"{name}, Kubernetes {version}: {where}: {error.message[:300]}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{name}, Kubernetes {version}: {error.message}"
