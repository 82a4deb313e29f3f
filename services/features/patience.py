"""Waits for what is away for a while, instead of failing a whole micro-batch at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from flywheel.adapters.logs import logger
from flywheel.kernel.ports import Unavailable

_AGAIN_AFTER_S = 0.5

_log = logger(__name__)

Answer = TypeVar("Answer")


def patiently(step: Callable[[], Answer], patience_s: float, *, event: str) -> Answer:
    """What the step gives, taken again while it raises Unavailable; every time that is logged as `event`.

    Raises Unavailable when it still does so after `patience_s`.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return step()
        except Unavailable as error:
            if time.monotonic() > deadline_s:
                raise
            _log.warning(event, reason=str(error))
            time.sleep(_AGAIN_AFTER_S)
