"""An audit says what is vulnerable where, and never calls silence an all-clear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.supply_chain import __main__ as commands
from infra.supply_chain.audit import CLEAN, UNANSWERED, VULNERABLE, NoAnswer, ask, audit, batches, told
from infra.supply_chain.locks import Package, locks, packages

SAFE, HOLED, UNKNOWN = Package("safe", "1.0"), Package("holed", "2.0"), Package("own-thing", "3.0")
HOLE = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}


def report(*entries: Mapping[str, object]) -> dict[str, object]:
    return {"dependencies": list(entries), "fixes": []}


def answered(package: Package, *holes: Mapping[str, object]) -> dict[str, object]:
    return {"name": package.name, "version": package.version, "vulns": list(holes)}


def test_everything_answered_for_is_clean() -> None:
    assert audit(frozenset({SAFE}), report(answered(SAFE))).status == CLEAN


def test_a_known_hole_fails_and_is_named_with_its_lock_and_its_mending(tmp_path: Path) -> None:
    lock = tmp_path / "run.txt"
    lock.write_text("Holed==2.0 \\\n    --hash=sha256:00\nsafe==1.0\n")
    verdict = audit(packages(lock), report(answered(SAFE), answered(HOLED, HOLE)))
    assert verdict.status == VULNERABLE
    assert "PYSEC-1: holed 2.0 in run; mended in 2.1" in told(verdict, {"run": lock})


def test_what_the_service_does_not_know_is_not_clean() -> None:
    skipped = {"name": "own-thing", "skip_reason": "Dependency not found on PyPI"}
    verdict = audit(frozenset({SAFE, UNKNOWN}), report(answered(SAFE), skipped))
    assert verdict.status == UNANSWERED
    said = told(verdict, {})
    assert "NOT AUDITED: 1 of 2 packages" in said
    assert "not found on PyPI" in said


@pytest.mark.parametrize("entries", [(), (answered(Package("safe", "0.9")),)])
def test_a_version_that_was_not_mentioned_is_not_clean(entries: tuple[dict[str, object], ...]) -> None:
    assert audit(frozenset({SAFE}), report(*entries)).status == UNANSWERED


def test_nothing_asked_is_nothing_known() -> None:
    assert audit(frozenset(), report()).status == UNANSWERED


def test_two_versions_of_one_package_are_asked_about_apart() -> None:
    asked = [Package("a", "1"), Package("a", "2"), Package("b", "1")]
    made = batches(asked)
    assert sorted(one for batch in made for one in batch) == asked
    assert all(len({one.name for one in batch}) == len(batch) for batch in made)


def test_a_service_that_is_not_reached_is_no_answer() -> None:
    # A name that no resolver may answer for (RFC 6761).
    nowhere = ["--vulnerability-service", "osv", "--osv-url", "http://nowhere.invalid"]
    with pytest.raises(NoAnswer):
        ask([SAFE], nowhere)


def test_the_command_fails_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object) -> None:
        raise NoAnswer("the name does not resolve")

    monkeypatch.setattr(commands, "ask", unreachable)
    assert commands.main(["audit"]) == UNANSWERED
    assert "NOT AUDITED: the name does not resolve" in capsys.readouterr().out


def test_every_lock_is_audited_and_every_line_of_it_read() -> None:
    found = locks()
    assert {"run", "dev", "bootstrap"} <= found.keys()
    for path in found.values():
        pinned = [
            line for line in path.read_text().splitlines() if line and not line.startswith((" ", "#", "--no-binary "))
        ]
        assert len(packages(path)) == len(pinned)


def test_every_package_is_locked_by_digest() -> None:
    for name, path in locks().items():
        blocks = path.read_text().replace("\\\n", " ").splitlines()
        assert all(
            "--hash=sha256:" in line for line in blocks if line and not line.startswith(("#", "--no-binary "))
        ), name
