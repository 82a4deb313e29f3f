"""Starts the monitor: `python -m services.monitor`."""

from __future__ import annotations

import signal
import sys
from urllib.parse import urlsplit

import uvicorn

from flywheel.adapters import logs
from services.monitor.bootstrap import build
from services.monitor.settings import MonitorSettings


def main() -> int:
    """Runs until SIGTERM; 1 when the log could not be read any more."""
    settings = MonitorSettings()
    logs.configure("monitor", settings.log_level)
    monitor = build(settings)
    address = urlsplit(settings.monitor_url)
    server = uvicorn.Server(
        uvicorn.Config(
            monitor.app,
            host=address.hostname or "127.0.0.1",
            port=address.port or 8080,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=5,
        )
    )

    def give_up() -> None:
        server.should_exit = True

    # The server hands the signal on once it has shut down; the parts below are still to be stopped then.
    signal.signal(signal.SIGTERM, lambda *_: None)
    monitor.watch.on_failure = give_up
    monitor.watch.start()
    try:
        server.run()
    finally:
        monitor.watch.stop()
    return int(monitor.watch.failed)


if __name__ == "__main__":
    sys.exit(main())
