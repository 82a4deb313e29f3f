"""The bill of materials (CycloneDX) of an image: every package of its lock with the digests it is installed by."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

INFRA = Path(__file__).resolve().parents[1]
_VERSION = SchemaVersion.V1_6
_DIGEST = re.compile(r"^(?P<digest>[0-9a-f]{64})\s+jars/spark/(?P<file>\S+)$", re.MULTILINE)
_WITH_JARS = "features"


class InvalidBill(Exception):
    """It does not follow CycloneDX's schema."""


def bill(part: str, lock: Path) -> dict[str, Any]:
    """The bill of one image; of features with the jars that Spark loads beside its own. Raises InvalidBill."""
    done = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock), "--output-reproducible", "--no-validate"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InvalidBill(f"{lock.name}: {done.stderr.strip()[-300:]}")
    made: dict[str, Any] = json.loads(done.stdout)
    made["metadata"]["component"] = {"type": "container", "bom-ref": part, "name": f"flywheel-{part}"}
    for component in made["components"]:
        # The line of the lock with its digests, which stand beside it already.
        component.pop("description", None)
    if part == _WITH_JARS:
        made["components"] += list(_jars())
    made["dependencies"] = [{"ref": part, "dependsOn": sorted(one["bom-ref"] for one in made["components"])}]
    check(made)
    return made


def check(made: dict[str, Any]) -> None:
    """Raises InvalidBill with what is wrong."""
    if found := JsonStrictValidator(_VERSION).validate_str(json.dumps(made)):
        raise InvalidBill(str(found)[:500])


def write(part: str, lock: Path, directory: Path) -> Path:
    """Writes the bill of one image; its path. Raises InvalidBill."""
    made = bill(part, lock)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{part}.json"
    path.write_text(json.dumps(made, indent=2, sort_keys=True))
    return path


def _jars() -> Iterator[dict[str, Any]]:
    digests = {found["file"]: found["digest"] for found in _DIGEST.finditer((INFRA / "jars.sha256").read_text())}
    for wanted in ElementTree.parse(INFRA / "ivy.xml").iter("dependency"):
        if not wanted.attrib["conf"].startswith("spark"):
            continue
        group, name, version = (wanted.attrib[key] for key in ("org", "name", "rev"))
        yield {
            "type": "library",
            "bom-ref": f"pkg:maven/{group}/{name}@{version}",
            "purl": f"pkg:maven/{group}/{name}@{version}",
            "group": group,
            "name": name,
            "version": version,
            "hashes": [{"alg": "SHA-256", "content": digests[f"{name}-{version}.jar"]}],
        }
