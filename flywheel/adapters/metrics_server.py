"""A small HTTP server in a thread: metrics and health of a process that serves no HTTP itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

Readiness = Callable[[], tuple[bool, str]]
"""Whether the process can do its work, and a sentence that says so."""


class MetricsServer:
    """Serves `/metrics`, `/healthz` (the process lives) and `/readyz` (`ready` says whether it can work).

    Port 0 takes any free one; `port` tells which. `ready` is called for each request, in the server's own threads.
    """

    def __init__(
        self, port: int, ready: Readiness, *, host: str = "127.0.0.1", registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(ready, registry))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stops answering and frees the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _handler(ready: Readiness, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    def answer(path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)
        if path == "/healthz":
            return HTTPStatus.OK, "application/json", orjson.dumps({"status": "alive"})
        if path == "/readyz":
            return _readiness(ready)
        return HTTPStatus.NOT_FOUND, "application/json", orjson.dumps({"status": "not found"})

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, content_type, body = answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            # Who asks for the status alone may have gone by now.
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not worth a line each."""

    return Handler


def _readiness(ready: Readiness) -> tuple[HTTPStatus, str, bytes]:
    try:
        is_ready, detail = ready()
    except Exception as error:
        # A probe that fails is an answer: the process lives and cannot work.
        is_ready, detail = False, f"{type(error).__name__}: {error}"
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", orjson.dumps({"status": "ready" if is_ready else "not ready", "detail": detail})
