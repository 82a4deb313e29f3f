"""Starts the trainer: `python -m services.trainer`. SIGTERM gives up a run, which is then made again at next start."""

from __future__ import annotations

import signal
import threading

from flywheel.adapters import logs
from flywheel.adapters.metrics_server import MetricsServer
from services.trainer.bootstrap import build
from services.trainer.settings import TrainerSettings


def main() -> None:
    """Trains on every history that is built, until told to stop."""
    settings = TrainerSettings()
    logs.configure("trainer", settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reception, reader = build(settings, stop)
    server = MetricsServer(settings.trainer_metrics_port, reception.ready, host=settings.metrics_host)
    server.start()
    try:
        reception.run()
    finally:
        reader.close()
        server.close()


if __name__ == "__main__":
    main()
