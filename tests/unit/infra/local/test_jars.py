"""Only jars that are listed, all of them, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra.local import jars, places
from infra.local.failures import CannotStart


@pytest.fixture
def listed(tmp_path: Path) -> dict[str, str]:
    names = ("broker/a-1.jar", "spark/b-2.jar")
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    return {name: hashlib.sha256(name.encode()).hexdigest() for name in names}


def test_jars_as_listed_pass(tmp_path: Path, listed: dict[str, str]) -> None:
    jars.check(listed, tmp_path)
    assert jars.missing(listed, tmp_path) == []


def test_a_missing_jar_is_named(tmp_path: Path, listed: dict[str, str]) -> None:
    (tmp_path / "spark/b-2.jar").unlink()
    with pytest.raises(CannotStart, match=r"spark/b-2\.jar is not in .*; run `make jars`"):
        jars.check(listed, tmp_path)


def test_a_jar_nobody_listed_is_refused(tmp_path: Path, listed: dict[str, str]) -> None:
    (tmp_path / "broker/extra.jar").write_bytes(b"x")
    with pytest.raises(CannotStart, match=r"broker/extra\.jar is in .*, but not in jars\.sha256; remove it"):
        jars.check(listed, tmp_path)


def test_an_altered_jar_is_refused(tmp_path: Path, listed: dict[str, str]) -> None:
    (tmp_path / "broker/a-1.jar").write_bytes(b"altered")
    with pytest.raises(CannotStart, match=r"broker/a-1\.jar is in .*, but not as listed"):
        jars.check(listed, tmp_path)


def test_the_listing_covers_the_broker_and_the_connector() -> None:
    configurations = {name.split("/")[0] for name in jars.read_digests(places.JAR_DIGESTS)}
    assert configurations == {"broker", "spark"}
