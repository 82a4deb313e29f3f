"""Ids of requests: logged and kept, and so never just anything that a caller sends."""

from __future__ import annotations

import os
import re

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def new_id() -> str:
    """Thirty-two hexadecimal digits that nobody had before."""
    return os.urandom(16).hex()


def admitted(claimed: str | None) -> str:
    """The caller's own id where it is 1 to 64 letters, digits and `. _ : -`, else a new one."""
    return claimed if claimed and _ACCEPTABLE.fullmatch(claimed) else new_id()
