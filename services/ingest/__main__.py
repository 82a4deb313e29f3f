"""Starts ingest: `python -m services.ingest`. SIGTERM lets requests finish and flushes what they sent."""

from __future__ import annotations

import gc
from urllib.parse import urlsplit

import uvicorn

from flywheel.adapters import logs
from services.ingest.bootstrap import kafka_app
from services.ingest.settings import IngestSettings


def main() -> None:
    """Serves until told to stop."""
    settings = IngestSettings()
    logs.configure("ingest", settings.log_level)
    address = urlsplit(settings.ingest_url)
    app = kafka_app(settings)
    # What is loaded now stays; scanning it again and again would only make pauses.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.ingest_delivery_timeout_s) + 2,
    )


if __name__ == "__main__":
    main()
