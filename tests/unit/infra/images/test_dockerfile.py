"""Images hold what their lock says, verified, without tools to build more, and run as nobody."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.images.imports import PARTS
from infra.local.processes import declaration, environment
from tests.compose_file import services

ROOT = Path(__file__).resolve().parents[4]
DOCKERFILE = (ROOT / "infra" / "images" / "Dockerfile").read_text()
LOCKS = ROOT / "requirements" / "images"
HEAVY = (
    "pyspark",
    "feast",
    "mlflow",
    "lightgbm",
    "scikit-learn",
    "onnx",
    "pyarrow",
    "pandas",
    "duckdb",
    "grpcio-tools",
)


def stages() -> dict[str, str]:
    """The text of each stage by its name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return {name: f"FROM {base}\n{text}" for base, name, text in zip(*[iter(parts[1:])] * 3, strict=True)}


def versions(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("target", ["service", "spark-service"])
def test_what_runs_is_nobody_and_was_imported(target: str) -> None:
    text = stages()[target]
    assert text.rstrip().endswith("USER 10001")
    assert "python -m infra.images.imports ${PART}" in text


def test_images_begin_with_an_exact_version() -> None:
    (python,) = re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", python)
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert bases - set(stages()) == {"${PYTHON}", "${CODE}", "scratch"}
    codes = {
        service["build"]["args"].get("CODE", "service-code") for service in services().values() if "build" in service
    }
    assert codes <= set(stages())
    assert "ARG CODE=service-code" in DOCKERFILE


def test_a_process_is_told_to_stop_itself() -> None:
    """A shell in between would keep the signal."""
    entries = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE, re.MULTILINE)
    assert entries == ['["python", "-m"]']


def test_packages_are_wheels_of_known_digests() -> None:
    (line,) = re.findall(r"pip install .*?(?=\n\S|\n\n)", DOCKERFILE, re.DOTALL)
    assert {"--require-hashes", "--only-binary"} <= set(line.split())
    assert "gcc" not in DOCKERFILE
    assert "build-essential" not in DOCKERFILE


def test_java_is_where_spark_is_alone() -> None:
    assert {name for name, text in stages().items() if "openjdk" in text} == {"java"}
    assert [name for name, text in stages().items() if text.startswith("FROM java")] == ["jars", "spark-service"]
    assert "sha256sum --check --strict" in stages()["jars"]


def test_processes_find_the_environment_of_the_native_stack() -> None:
    step = declaration(PlatformSettings())[0]
    told = dict(re.findall(r"^(?:ENV)? +([A-Z_]+)=(\S+)", stages()["runtime"], re.MULTILINE))
    for name, value in environment(step, PlatformSettings()).items():
        if name != "FLYWHEEL_DATA_DIR":
            assert told[name] == value


@pytest.mark.parametrize("part", PARTS)
def test_an_image_holds_what_runs_natively(part: str) -> None:
    here, run = versions(LOCKS / f"{part}.txt"), versions(ROOT / "requirements" / "run.txt")
    assert here
    assert here.items() <= run.items()
    text = (LOCKS / f"{part}.txt").read_text()
    assert text.count("--hash=sha256:") >= len(here)
    assert "://" not in text


@pytest.mark.parametrize("part", PARTS)
def test_every_package_that_a_part_declares_is_locked(part: str) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]

    def declared(group: str) -> set[str]:
        names: set[str] = set()
        for entry in groups[group]:
            if isinstance(entry, dict):
                names |= declared(entry["include-group"])
            else:
                names.add(re.split(r"[\[<>=]", entry)[0])
        return names

    assert declared(part) <= set(versions(LOCKS / f"{part}.txt"))


def test_serving_is_small() -> None:
    here = versions(LOCKS / "serving.txt")
    assert not set(HEAVY) & set(here)
    assert len(here) < 60


def test_every_service_has_its_image() -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert {*services, "client", "loadtest"} == set(PARTS) == {path.stem for path in LOCKS.glob("*.txt")}
