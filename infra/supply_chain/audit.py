"""Asks whether anything that is locked has a known vulnerability, and whether that question was answered at all."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.supply_chain.locks import Package, packages

CLEAN, VULNERABLE, UNANSWERED = 0, 1, 2
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Vulnerability:
    """A published advisory that a locked version falls under."""

    package: Package
    advisory: str
    fixed_in: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What is known about all packages of some locks. `unanswered`: of which nothing is known, and why."""

    asked: frozenset[Package]
    vulnerabilities: tuple[Vulnerability, ...]
    unanswered: Mapping[Package, str]

    @property
    def status(self) -> int:
        """Silence is not an all-clear: 1 where something is vulnerable, else 2 where anything was left unanswered."""
        if self.vulnerabilities:
            return VULNERABLE
        return UNANSWERED if self.unanswered or not self.asked else CLEAN


class NoAnswer(Exception):
    """The advisory service was not reached, or said nothing that can be read."""


def audit(asked: frozenset[Package], report: Mapping[str, Any]) -> Verdict:
    """Reads pip-audit's report; a package that it does not mention counts as unanswered."""
    answers = {Package(one["name"].lower(), one["version"]): one for one in report["dependencies"] if "version" in one}
    # What was skipped is told by name alone.
    skipped = {one["name"].lower(): one for one in report["dependencies"] if "skip_reason" in one}
    unanswered: dict[Package, str] = {}
    found: list[Vulnerability] = []
    for package in sorted(asked):
        one = answers.get(package) or skipped.get(package.name, {"skip_reason": "not mentioned"})
        if reason := one.get("skip_reason"):
            unanswered[package] = reason
        for each in one.get("vulns", ()):
            found.append(Vulnerability(package, each["id"], tuple(each.get("fix_versions", ()))))
    return Verdict(asked, tuple(found), unanswered)


def ask(asked: Iterable[Package], arguments: Sequence[str] = ()) -> Mapping[str, Any]:
    """pip-audit's report on these packages, by the advisory service that it is told of. Raises NoAnswer."""
    reports = [_ask(batch, arguments) for batch in batches(asked)]
    return {"dependencies": [one for report in reports for one in report["dependencies"]]}


def batches(asked: Iterable[Package]) -> list[list[Package]]:
    """The packages so that none has two of one name, which cannot be asked about together.

    >>> [len(batch) for batch in batches([Package("a", "1"), Package("a", "2"), Package("b", "1")])]
    [2, 1]
    """
    found: list[list[Package]] = []
    for package in sorted(asked):
        batch = next((batch for batch in found if package.name not in {one.name for one in batch}), None)
        if batch is None:
            found.append(batch := [])
        batch.append(package)
    return found


def _ask(asked: Sequence[Package], arguments: Sequence[str]) -> Mapping[str, Any]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.writelines(f"{package.name}=={package.version}\n" for package in asked)
        pinned.flush()
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        try:
            done = subprocess.run(
                [*command, "--format", "json", "--requirement", pinned.name, *arguments],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NoAnswer(f"no answer within {_TIMEOUT_S} s") from error
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        raise NoAnswer(said[-1][:300]) from error
    return report


def told(verdict: Verdict, locks: Mapping[str, Path]) -> str:
    """The verdict in words: holes with the locks that have them, then what nobody answered for."""
    held = {name: packages(path) for name, path in locks.items()}
    lines = [_sentence(one, held) for one in verdict.vulnerabilities]
    count = len(verdict.asked)
    lines.append(f"{len(verdict.vulnerabilities)} known vulnerabilities in {count - len(verdict.unanswered)} packages")
    if verdict.unanswered:
        package, reason = next(iter(verdict.unanswered.items()))
        lines.append(
            f"NOT AUDITED: {len(verdict.unanswered)} of {count} packages, of which the advisory service knows nothing "
            f"({package}: {reason}). This is no all-clear; try where the service can be reached, or another one: "
            'make audit ARGS="--vulnerability-service osv"'
        )
    return "\n".join(lines)


def _sentence(one: Vulnerability, held: Mapping[str, frozenset[Package]]) -> str:
    where = ", ".join(name for name, all_of in held.items() if one.package in all_of)
    return f"{one.advisory}: {one.package} in {where}; mended in {', '.join(one.fixed_in) or 'no release yet'}"
