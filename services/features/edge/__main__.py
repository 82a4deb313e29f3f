"""`python -m services.features.edge` keeps the edges of all entities up to the last acknowledged event."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time

from flywheel.adapters.logs import configure, logger
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.erasure import OtherKey
from flywheel.kernel.ports import Unavailable
from services.features.edge.bootstrap import EdgeService

_OBSERVE_EVERY_S = 0.1
_AGAIN_AFTER_S = 0.5


def main() -> int:
    """The process's exit status: not 0 when it must not go on."""
    settings = PlatformSettings()
    configure("edge", settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        service = EdgeService.assemble(settings)
    except ValueError as error:
        logger("services.features.edge").error("edge_cannot_run", reason=str(error))
        return 1
    # What is loaded now stays; collecting it again and again would make events wait.
    gc.freeze()
    try:
        run(service, stopping)
    except OtherKey as error:
        # Nobody erased would be recognized: it must not put events on edges that may be about them.
        logger("services.features.edge").error("edge_cannot_run", reason=str(error))
        return 1
    finally:
        service.close()
    return 0


def run(service: EdgeService, stopping: threading.Event) -> None:
    """Follows the log until `stopping`; whatever is away is waited for. Raises OtherKey."""
    log = logger("services.features.edge")
    service.metrics.start()
    pursuit, due_s = service.pursuit, 0.0
    while not stopping.is_set():
        try:
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + _OBSERVE_EVERY_S
                pursuit.observe()
            if not pursuit.step():
                stopping.wait(_OBSERVE_EVERY_S)
        except Unavailable as error:
            log.warning("edge_waits", reason=str(error))
            pursuit.restart()
            stopping.wait(_AGAIN_AFTER_S)


if __name__ == "__main__":
    sys.exit(main())
