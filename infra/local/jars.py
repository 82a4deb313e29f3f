"""Brings the pinned jars of the broker and of Spark's Kafka connector, and trusts only those whose digest is listed."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.local import places
from infra.local.failures import CannotStart
from infra.local.java import java

_FETCH_TIMEOUT_S = 300
_REPORT_EVERY_S = 5


def ensure(report: Callable[[str], None] = lambda _: None) -> int:
    """How many jars are in place, after fetching those that were not. Raises CannotStart unless all are as listed."""
    listed = read_digests(places.JAR_DIGESTS)
    if absent := missing(listed, places.JARS):
        report(f"{len(absent)} of {len(listed)} are fetched")
        fetch(len(listed), report)
    check(listed, places.JARS)
    return len(listed)


def verify() -> int:
    """How many jars are in place. Raises CannotStart unless all are as listed; fetches nothing."""
    listed = read_digests(places.JAR_DIGESTS)
    check(listed, places.JARS)
    return len(listed)


def fetch(total: int, report: Callable[[str], None]) -> None:
    """Asks Ivy, which PySpark carries, for everything that `ivy.xml` declares; reports how far it is of `total`."""
    places.IVY_CACHE.mkdir(parents=True, exist_ok=True)
    command = [
        *(java(), "-cp", f"{places.spark_jars()}/*", "org.apache.ivy.Main"),
        *("-cache", str(places.IVY_CACHE), "-ivy", str(places.IVY_DECLARATION)),
        *("-retrieve", f"{places.JARS}/[conf]/[artifact]-[revision].[ext]", "-types", "jar", "bundle"),
    ]
    log = places.IVY_CACHE / "ivy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        code = _watch(process, total, report)
    finally:
        process.kill()
        process.wait()
    if code is None:
        raise CannotStart(f"Fetching the jars took more than {_FETCH_TIMEOUT_S} s; see {log}, then try again")
    if code != 0:
        raise CannotStart(f"The jars could not be fetched (is the network there?); see {log}, then try again")


def _watch(process: subprocess.Popen[bytes], total: int, report: Callable[[str], None]) -> int | None:
    """The exit code, None when it takes too long."""
    for waited_s in range(0, _FETCH_TIMEOUT_S, _REPORT_EVERY_S):
        try:
            return process.wait(_REPORT_EVERY_S)
        except subprocess.TimeoutExpired:
            described, fetched = (sum(1 for _ in places.IVY_CACHE.rglob(name)) for name in ("ivy-*.xml", "*.jar"))
            report(
                f"{described} modules resolved, {min(fetched, total)} of {total} jars, {waited_s + _REPORT_EVERY_S} s"
            )
    return None


def read_digests(listing: Path) -> dict[str, str]:
    """SHA-256 by path below the jar directory, from lines of `<digest>  jars/<configuration>/<file>`."""
    rows = (line.split() for line in listing.read_text().splitlines() if line.strip())
    return {name.removeprefix("jars/"): digest for digest, name in rows}


def missing(listed: Mapping[str, str], directory: Path) -> list[str]:
    """The listed jars that are not there."""
    return sorted(name for name in listed if not (directory / name).is_file())


def check(listed: Mapping[str, str], directory: Path) -> None:
    """Raises CannotStart unless the directory holds exactly the listed jars, byte for byte."""
    if absent := missing(listed, directory):
        raise CannotStart(f"{_some(absent)} not in {directory}; run `make jars`")
    present = {str(path.relative_to(directory)) for path in directory.rglob("*.jar")}
    if extra := sorted(present - set(listed)):
        raise CannotStart(
            f"{_some(extra)} in {directory}, but not in {places.JAR_DIGESTS.name}; remove it and try again"
        )
    altered = sorted(name for name, digest in listed.items() if _digest(directory / name) != digest)
    if altered:
        raise CannotStart(
            f"{_some(altered)} in {directory}, but not as listed in {places.JAR_DIGESTS.name}; "
            "remove it, and it will be fetched again"
        )


def _some(names: list[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more jars are"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
