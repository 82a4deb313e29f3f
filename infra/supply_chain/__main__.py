"""`python -m infra.supply_chain audit | bills`: known vulnerabilities of what is locked, bills of images."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.supply_chain.audit import UNANSWERED, NoAnswer, ask, audit, told
from infra.supply_chain.locks import REQUIREMENTS, locks, packages

BILLS = REQUIREMENTS.parent / "build" / "sbom"
_IMAGES = "images/"


def main(arguments: list[str]) -> int:
    """The process's exit status; of an audit 0 only where every package was answered for and none is vulnerable."""
    match arguments:
        case ["audit", *rest]:
            return audited(rest)
        case ["bills"]:
            return billed(BILLS)
    print(__doc__, file=sys.stderr)
    return 2


def audited(arguments: list[str]) -> int:
    """Audits all locks at once; 0, 1 and 2 as `Verdict.status` says."""
    found = locks()
    asked = frozenset(package for path in found.values() for package in packages(path))
    print(f"{len(asked)} packages of {len(found)} locks")
    try:
        verdict = audit(asked, ask(asked, arguments))
    except NoAnswer as error:
        print(f"NOT AUDITED: {error}. This is no all-clear; try again where an advisory service can be reached")
        return UNANSWERED
    print(told(verdict, found))
    return verdict.status


def billed(directory: Path, requirements: Path = REQUIREMENTS) -> int:
    """Writes the bill of every image; 1 when there is no lock of one."""
    # The libraries of CycloneDX are needed for this alone.
    from infra.supply_chain.bill import write

    images = {name: lock for name, lock in locks(requirements).items() if name.startswith(_IMAGES)}
    if not images:
        print(f"no lock of an image in {requirements / _IMAGES}; make lock writes them")
    for name, lock in images.items():
        path = write(name.removeprefix(_IMAGES), lock, directory)
        print(f"{path}: {len(packages(lock))} packages")
    return 0 if images else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
