"""Bills of materials name what is installed, by the digests of its lock, and follow the standard."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from infra.supply_chain.__main__ import billed
from infra.supply_chain.bill import InvalidBill, check, write

LOCK = """\
alpha==1.2.3 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
beta-two==4.5 \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bills")
    lock = directory / "features.txt"
    lock.write_text(LOCK)
    return write("features", lock, directory / "sbom")


def test_everything_that_is_locked_is_there_with_its_digests(written: Path) -> None:
    made = json.loads(written.read_text())
    assert made["bomFormat"] == "CycloneDX"
    assert made["metadata"]["component"]["name"] == "flywheel-features"
    python = {one["purl"]: one for one in made["components"] if one["purl"].startswith("pkg:pypi/")}
    assert set(python) == {"pkg:pypi/alpha@1.2.3", "pkg:pypi/beta-two@4.5"}
    (source,) = python["pkg:pypi/alpha@1.2.3"]["externalReferences"]
    assert {one["content"] for one in source["hashes"]} == {"a" * 64, "b" * 64}


def test_what_spark_loads_is_there_as_well(written: Path) -> None:
    made = json.loads(written.read_text())
    jars = {one["name"]: one for one in made["components"] if one["purl"].startswith("pkg:maven/")}
    assert "spark-sql-kafka-0-10_2.13" in jars
    assert all(len(one["hashes"][0]["content"]) == 64 for one in jars.values())
    (depends,) = made["dependencies"]
    assert depends["ref"] == "features"
    assert set(depends["dependsOn"]) == {one["bom-ref"] for one in made["components"]}


def test_a_bill_that_is_none_is_refused(written: Path) -> None:
    made = json.loads(written.read_text())
    broken = copy.deepcopy(made)
    broken["components"][0]["type"] = "sort of a library"
    check(made)
    with pytest.raises(InvalidBill):
        check(broken)


def test_every_image_gets_its_bill(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements"
    (requirements / "images").mkdir(parents=True)
    (requirements / "run.txt").write_text(LOCK)
    assert billed(tmp_path / "sbom", requirements) == 1
    (requirements / "images" / "serving.txt").write_text(LOCK)
    assert billed(tmp_path / "sbom", requirements) == 0
    assert [path.name for path in (tmp_path / "sbom").iterdir()] == ["serving.json"]
