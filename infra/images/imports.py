"""Imports every module that a part of the platform can run: `python -m infra.images.imports serving`.

For the build of an image: what its lock forgot is found then, not by the first request that needs it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator

from flywheel.kernel import catalog

PARTS = ("ingest", "features", "trainer", "serving", "monitor", "client", "loadtest")


def modules_of(part: str) -> Iterator[str]:
    """What can run in the image of that part: its own modules, and the declaration of every use case.

    The client plays the use cases' worlds as well, and makes the topics; load tests, which begin at their command, ask
    about what the worlds make. Raises
    ValueError for a part that is none.
    """
    if part not in PARTS:
        raise ValueError(f"{part!r} is none of {', '.join(PARTS)}")
    usecases = catalog.names()
    yield from (f"usecases.{name}" for name in usecases)
    if part in ("client", "loadtest"):
        yield from (world for name in usecases if (world := catalog.load(name).world))
    if part == "client":
        yield "infra.local.topics"
    if part == "loadtest":
        yield from ("loadtests.__main__", "loadtests.sampler")
    else:
        yield from _modules_in("flywheel.client" if part == "client" else f"services.{part}")


def failures(names: Iterable[str]) -> list[str]:
    """A line about each of the modules that does not import."""
    failed = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            # Whatever a module raises, the others are told of as well.
            failed.append(f"{name}: {type(error).__name__}: {error}")
    return failed


def _modules_in(package: str) -> Iterator[str]:
    yield package
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        yield found.name


def main(part: str) -> int:
    """The process's exit status: 1 when some module does not import."""
    names = list(modules_of(part))
    failed = failures(names)
    print("\n".join([*failed, f"{part}: {len(names) - len(failed)} of {len(names)} modules import"]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
