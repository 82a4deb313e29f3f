"""What a scenario means by a process: it, or, where it runs several times, its replicas."""

from __future__ import annotations

import re
from collections.abc import Iterable


def replicas_of(process: str, names: Iterable[str]) -> list[str]:
    """Those of the names that are the process or a numbered replica of it, in the order of their numbers.

    >>> replicas_of("serving", ["edge", "serving-10", "serving-2", "redis-1"])
    ['serving-2', 'serving-10']
    >>> replicas_of("redis", ["redis", "serving-2"])
    ['redis']
    """
    wanted = re.compile(rf"{re.escape(process)}(?:-(\d+))?")
    found = [(int(match[1] or 0), name) for name in names if (match := wanted.fullmatch(name))]
    return [name for _, name in sorted(found)]
