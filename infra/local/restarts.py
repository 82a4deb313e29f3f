"""Counts how often a process died and was started again, since the stack was started.

`python -m infra.local.restarts <run directory>` is run by supervisord, which tells it of every start.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from supervisor import childutils

FILE = "restarts.json"
_AFTER_A_DEATH = {"EXITED", "BACKOFF"}


def read(run_dir: Path) -> dict[str, int]:
    """Restarts by process; a process that never died is not in it."""
    try:
        found: dict[str, int] = json.loads((run_dir / FILE).read_text())
    except FileNotFoundError:
        return {}
    return found


def reset(run_dir: Path) -> None:
    """Starts counting anew."""
    _write(run_dir, {})


def counted(restarts: dict[str, int], process: str, from_state: str) -> dict[str, int]:
    """The counts after a process was started out of `from_state`: only a death before it makes it a restart."""
    if from_state not in _AFTER_A_DEATH:
        return restarts
    return {**restarts, process: restarts.get(process, 0) + 1}


def _write(run_dir: Path, restarts: dict[str, int]) -> None:
    unfinished = run_dir / f"{FILE}.part"
    unfinished.write_text(json.dumps(restarts))
    unfinished.replace(run_dir / FILE)


def main() -> None:
    """Listens to supervisord until it ends."""
    run_dir = Path(sys.argv[1])
    while True:
        _, payload = childutils.listener.wait()
        told = childutils.get_headers(payload)
        before = read(run_dir)
        after = counted(before, told["processname"], told["from_state"])
        if after != before:
            _write(run_dir, after)
        childutils.listener.ok()


if __name__ == "__main__":
    main()
