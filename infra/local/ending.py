"""How a process is ended that was started here."""

from __future__ import annotations

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], within_s: float) -> None:
    """Returns when it is gone: by itself after SIGTERM, or killed when it takes longer than that."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
