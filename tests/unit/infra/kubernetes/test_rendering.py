"""Overlays are built as kustomize builds them, and what cannot be built so is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.kubernetes.json_patch import PatchFailed, patched
from infra.kubernetes.rendering import Unsupported, as_yaml, build
from tests.kubernetes_manifests import MANIFESTS, OVERLAYS, objects

POD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: one}
spec:
  template:
    spec:
      containers: [{name: one, image: "one:dev", envFrom: [{configMapRef: {name: settings}}]}]
"""


def kustomization(directory: Path, text: str, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kustomization.yaml").write_text(text)
    for name, content in files.items():
        (directory / name.replace("_", ".")).write_text(content)
    return directory


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_the_same(overlay: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / "overlays" / overlay)], capture_output=True, text=True, check=True
    )
    theirs = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    ours = {(one["kind"], one["metadata"]["name"]): one for one in objects(overlay)}
    assert ours == theirs


def test_what_is_printed_is_what_was_built() -> None:
    built = list(objects("production"))
    assert list(yaml.safe_load_all(as_yaml(built))) == built


def test_an_overlay_changes_its_base(tmp_path: Path) -> None:
    kustomization(
        tmp_path / "base",
        "{resources: [pod.yaml], configMapGenerator: [{name: settings, envs: [some.env]}]}",
        pod_yaml=POD,
        some_env="# meaning\nA=1\nB=x=y\n",
    )
    overlay = kustomization(
        tmp_path / "overlay",
        """
namespace: here
resources: [../base]
configMapGenerator: [{name: settings, behavior: merge, literals: [A=2]}]
images: [{name: one, newName: mine/one, newTag: "3"}]
replicas: [{name: one, count: 5}]
patches:
  - target: {kind: Deployment, name: o.*}
    patch: '[{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]'
""",
    )
    settings, pod = build(overlay)
    assert settings["data"] == {"A": "2", "B": "x=y"}
    assert pod["metadata"] == {"name": "one", "namespace": "here", "labels": {"a": "b"}}
    assert pod["spec"]["replicas"] == 5
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mine/one:3"
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_another_value_is_another_name(tmp_path: Path) -> None:
    generator = "{{configMapGenerator: [{{name: settings, literals: [A={}]}}]}}"
    names = {
        build(kustomization(tmp_path / value, generator.format(value)))[0]["metadata"]["name"]
        for value in ("1", "2", "2")
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    "text",
    [
        "{helmCharts: []}",
        "{configMapGenerator: [{name: a, behavior: merge, literals: [A=1]}]}",
        "{patches: [{target: {kind: Deployment, name: nobody}, patch: '[]'}]}",
        "{resources: [pod.yaml], patches: [{target: {kind: Deployment, name: one}, patch: 'spec: {replicas: 2}'}]}",
    ],
)
def test_what_cannot_be_built_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unsupported):
        build(kustomization(tmp_path, text, pod_yaml=POD))


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ({"op": "replace", "path": "/a/0", "value": 9}, {"a": [9, 2], "b/c": {}}),
        ({"op": "add", "path": "/a/1", "value": 9}, {"a": [1, 9, 2], "b/c": {}}),
        ({"op": "add", "path": "/b~1c/d", "value": 9}, {"a": [1, 2], "b/c": {"d": 9}}),
        ({"op": "remove", "path": "/a"}, {"b/c": {}}),
    ],
)
def test_patches_change_what_they_name(operation: dict[str, object], result: dict[str, object]) -> None:
    before = {"a": [1, 2], "b/c": {}}
    assert patched(before, [operation]) == result
    assert before == {"a": [1, 2], "b/c": {}}


@pytest.mark.parametrize("path", ["/nothing", "/a/7", "/a/x", "/nothing/below"])
def test_a_patch_of_what_is_not_there_fails(path: str) -> None:
    with pytest.raises(PatchFailed):
        patched({"a": [1]}, [{"op": "replace", "path": path, "value": 1}])


def test_an_unknown_operation_fails() -> None:
    with pytest.raises(PatchFailed):
        patched({}, [{"op": "test", "path": "/a", "value": 1}])
