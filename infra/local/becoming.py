"""How a command of this package becomes the program that it prepares."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from infra.local.failures import CannotStart


def become(prepared: Callable[[], list[str]], variables: Callable[[], Mapping[str, str]] = dict) -> NoReturn:
    """Runs the prepared command in the place of this process, with these variables besides those of this process.

    Ends with the reason where it cannot start.
    """
    try:
        command, environment = prepared(), {**os.environ, **variables()}
    except CannotStart as reason:
        sys.exit(str(reason))
    os.execve(command[0], command, environment)
