"""Starts serving: `python -m services.serving`. SIGTERM lets requests finish and flushes their decisions.

With several workers this process only accepts; SIGHUP then replaces them one by one. A single one it leaves alone.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from flywheel.adapters import logs
from services.serving.bootstrap import real_server
from services.serving.port.port import CannotServe
from services.serving.running import begin, told_to_stop
from services.serving.settings import ServingSettings
from services.serving.workers.parent import Workers

_log = logs.logger(__name__)


async def serve(settings: ServingSettings) -> None:
    """Answers until the process is told to stop. Raises CannotServe."""
    told = told_to_stop()
    if settings.serving_workers > 1:
        await Workers(settings).run(told)
        return
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _log.warning, "a_single_worker_is_not_replaced")
    server = real_server(settings)
    await begin(server)
    await told.wait()
    await server.stop()


def main() -> None:
    """Serves until told to stop."""
    settings = ServingSettings()
    logs.configure("serving", settings.log_level)
    try:
        uvloop.run(serve(settings))
    except CannotServe as error:
        sys.exit(f"serving cannot start: {error}")


if __name__ == "__main__":
    main()
