"""Every object follows the schemas of the releases that are supported, and one that does not is found."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from infra.kubernetes.__main__ import main
from infra.kubernetes.validation import VERSIONS, findings
from tests.kubernetes_manifests import objects, workload


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_follows_the_schema(version: str) -> None:
    production, local = (objects(overlay) for overlay in ("production", "local"))
    assert list(findings([*production, *(one for one in local if one not in production)], [version])) == []


def test_a_misspelt_field_is_found() -> None:
    broken = copy.deepcopy(workload("production", "serving"))
    broken["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 30
    (found,) = findings([broken], ["1.34"])
    assert "StatefulSet serving" in found
    assert "terminationGracePeriodSecond" in found


def test_a_wrong_type_is_found() -> None:
    broken = copy.deepcopy(workload("production", "trainer"))
    broken["spec"]["replicas"] = "one"
    (found,) = findings([broken], ["1.34"])
    assert "spec/replicas" in found


def test_an_unknown_kind_is_found() -> None:
    (found,) = findings([{"apiVersion": "v1", "kind": "Deployment", "metadata": {"name": "x"}}], ["1.34"])
    assert "Deployment x" in found


def test_older_releases_lack_what_is_used() -> None:
    assert list(findings([workload("production", "serving")], ["1.28"]))


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kustomization.yaml").write_text("{configMapGenerator: [{name: a, literals: [A=1]}]}")
    assert main(["validate", str(tmp_path)]) == 0
    assert "1 objects, 0 findings" in capsys.readouterr().out


def test_the_command_fails_where_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kustomization.yaml").write_text("{resources: [one.yaml]}")
    (tmp_path / "one.yaml").write_text("{apiVersion: v1, kind: Service, metadata: {name: one}, spec: {port: 1}}")
    assert main(["validate", str(tmp_path)]) == 1
    assert "Service one" in capsys.readouterr().out
