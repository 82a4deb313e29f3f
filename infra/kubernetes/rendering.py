"""Builds an overlay as `kustomize build` does, for machines that have no kustomize.

It knows what the manifests here use and refuses everything else: resources, components, ConfigMaps from files and
literals, a namespace, images, replicas, and patches by JSON Patch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infra.kubernetes.json_patch import patched

Resource = dict[str, Any]
"""One object of the cluster, as in its manifest."""

_CLUSTER_WIDE = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass"})
_KNOWN = frozenset(
    {
        "apiVersion",
        "kind",
        "namespace",
        "resources",
        "components",
        "configMapGenerator",
        "images",
        "replicas",
        "patches",
    }
)
_HASH_LETTERS = str.maketrans({"0": "g", "1": "h", "3": "k", "a": "m", "e": "t"})


class Unsupported(Exception):
    """The kustomization uses what is not built here, or names what is not there."""


@dataclass
class _Build:
    resources: list[Resource] = field(default_factory=list)
    generated: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, directory: Path) -> None:
        """Takes in the directory's kustomization, upon what is there already. Raises Unsupported."""
        said = yaml.safe_load((directory / "kustomization.yaml").read_text())
        if unknown := said.keys() - _KNOWN:
            raise Unsupported(f"{directory.name}: {', '.join(sorted(unknown))}")
        for name in said.get("resources", ()):
            self._add_resource(directory / name)
        for generator in said.get("configMapGenerator", ()):
            self._generate(directory, generator)
        for name in said.get("components", ()):
            self.add((directory / name).resolve())
        for patch in said.get("patches", ()):
            self._patch(directory, patch)
        self._transform(said)

    def _add_resource(self, path: Path) -> None:
        if path.is_dir():
            self.add(path.resolve())
            return
        # By way of JSON, because what YAML's anchors share would be changed in all its places at once.
        self.resources += [json.loads(json.dumps(found)) for found in yaml.safe_load_all(path.read_text()) if found]

    def _generate(self, directory: Path, generator: Mapping[str, Any]) -> None:
        values = dict(_values(directory, generator))
        name, behaviour = generator["name"], generator.get("behavior", "create")
        if (behaviour == "merge") != (name in self.generated) or behaviour not in ("create", "merge"):
            raise Unsupported(f"{directory.name}: {behaviour} ConfigMap {name}")
        self.generated.setdefault(name, {}).update(values)

    def _patch(self, directory: Path, patch: Mapping[str, Any]) -> None:
        text = patch["patch"] if "patch" in patch else (directory / patch["path"]).read_text()
        operations, target = yaml.safe_load(text), patch["target"]
        if not isinstance(operations, list) or target.keys() - {"kind", "name"}:
            raise Unsupported(f"{directory.name}: only JSON Patches, of what is named by kind and name")
        found = [index for index, resource in enumerate(self.resources) if _is_meant(resource, target)]
        if not found:
            raise Unsupported(f"{directory.name}: there is no {target['kind']} {target['name']} to patch")
        for index in found:
            self.resources[index] = patched(self.resources[index], operations)

    def _transform(self, said: Mapping[str, Any]) -> None:
        for image in said.get("images", ()):
            for container in containers(self.resources):
                container["image"] = _retagged(container["image"], image)
        for wanted in said.get("replicas", ()):
            for resource in self.resources:
                if resource["kind"] in ("Deployment", "StatefulSet") and resource["metadata"]["name"] == wanted["name"]:
                    resource["spec"]["replicas"] = wanted["count"]
        if namespace := said.get("namespace"):
            for resource in self.resources:
                if resource["kind"] not in _CLUSTER_WIDE:
                    resource["metadata"]["namespace"] = namespace

    def built(self, namespace: str | None) -> list[Resource]:
        """Everything, the ConfigMaps under names that follow from what they hold."""
        names = {name: f"{name}-{_hash(values)}" for name, values in self.generated.items()}
        place = {"namespace": namespace} if namespace else {}
        maps = [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": names[name], **place}, "data": values}
            for name, values in self.generated.items()
        ]
        for container in containers(self.resources):
            for source in container.get("envFrom", ()):
                if "configMapRef" in source:
                    name = source["configMapRef"]["name"]
                    source["configMapRef"]["name"] = names.get(name, name)
        return [*maps, *self.resources]


def build(directory: Path) -> list[Resource]:
    """Every object of the kustomization in that directory. Raises Unsupported."""
    started = _Build()
    started.add(directory.resolve())
    said = yaml.safe_load((directory / "kustomization.yaml").read_text())
    return started.built(said.get("namespace"))


def pod_template(resource: Resource) -> Resource | None:
    """The pods that a workload makes; None for everything else."""
    spec = resource.get("spec", {})
    if resource["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Resource | None = spec.get("template") if isinstance(spec, dict) else None
    return template


def containers(resources: list[Resource]) -> Iterator[Resource]:
    """Every container of every workload, those that run before others included."""
    for resource in resources:
        if template := pod_template(resource):
            yield from template["spec"].get("initContainers", ())
            yield from template["spec"]["containers"]


def as_yaml(resources: list[Resource]) -> str:
    """One document of YAML for each."""
    return yaml.dump_all(resources, Dumper=_Plain, sort_keys=False)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def _values(directory: Path, generator: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in generator.get("envs", ()):
        for line in (directory / name).read_text().splitlines():
            if line and not line.startswith("#"):
                yield _pair(line)
    yield from map(_pair, generator.get("literals", ()))


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value


def _is_meant(resource: Resource, target: Mapping[str, str]) -> bool:
    return resource["kind"] == target["kind"] and bool(re.fullmatch(target["name"], resource["metadata"]["name"]))


def _retagged(image: str, wanted: Mapping[str, str]) -> str:
    name, _, tag = image.partition(":")
    if name != wanted["name"]:
        return image
    return f"{wanted.get('newName', name)}:{wanted.get('newTag', tag)}"


def _hash(values: Mapping[str, str]) -> str:
    """kustomize's own, which leaves the name out: a changed value makes another name, so that pods are replaced."""
    said = {"kind": "ConfigMap", "name": "", "data": values}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(_HASH_LETTERS)
