"""The overlays as they are built, and what tests ask of their objects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from infra.kubernetes.rendering import Resource, build, containers, pod_template

MANIFESTS = Path(__file__).resolve().parents[1] / "infra" / "kubernetes"
OVERLAYS = ("local", "production")
ENGINES = frozenset({"kafka", "redis"})
"""Stand-ins for what runs elsewhere in production; their images are not ours."""


@cache
def objects(overlay: str) -> tuple[Resource, ...]:
    """All objects of an overlay; not to be changed."""
    return tuple(build(MANIFESTS / "overlays" / overlay))


def of_kind(overlay: str, *kinds: str) -> list[Resource]:
    return [resource for resource in objects(overlay) if resource["kind"] in kinds]


def workloads(overlay: str) -> list[Resource]:
    """Whatever makes pods."""
    return [resource for resource in objects(overlay) if pod_template(resource)]


def workload(overlay: str, name: str) -> Resource:
    (found,) = (resource for resource in workloads(overlay) if resource["metadata"]["name"] == name)
    return found


def pods_of(resource: Resource) -> Resource:
    """The template of a workload's pods."""
    template = pod_template(resource)
    assert template is not None
    return template


def containers_of(resource: Resource) -> list[Resource]:
    return list(containers([resource]))


def every_container(overlay: str) -> Iterator[tuple[str, Resource]]:
    """Each container of each workload with the workload's name."""
    for resource in workloads(overlay):
        for container in containers_of(resource):
            yield resource["metadata"]["name"], container


def is_ours(container: Resource) -> bool:
    return str(container["image"]).startswith("flywheel-")


def configured(overlay: str, container: Resource) -> dict[str, str]:
    """What stands in a container's environment; a stand-in for what comes from secrets and the pod itself."""
    maps = {resource["metadata"]["name"]: resource["data"] for resource in of_kind(overlay, "ConfigMap")}
    environment: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        environment |= maps[source["configMapRef"]["name"]]
    for entry in container.get("env", ()):
        environment[entry["name"]] = entry.get("value", f"<{entry['name']}>")
    return environment


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def by_number(container: Resource, port: str | int) -> int:
    """The number of a container's port that is named or numbered."""
    ports = {entry["name"]: entry["containerPort"] for entry in container.get("ports", ())}
    return ports[port] if isinstance(port, str) else port
