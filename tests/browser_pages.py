"""The monitor's pages in a real browser, for the tests that open them."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import pytest
import uvicorn

from services.monitor.bootstrap import Monitor

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine: the page cannot be opened"),
]


@contextmanager
def served(monitor: Monitor) -> Iterator[str]:
    """The monitor's address while it runs on a free port."""
    server = uvicorn.Server(uvicorn.Config(monitor.app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    monitor.watch.start()
    thread.start()
    try:
        until = time.monotonic() + 20
        while not (server.started and monitor.watch.state.loop.lag_records == 0):
            assert time.monotonic() < until, "the monitor has not read its log"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        monitor.watch.stop()


def opened(address: str, profile: Path) -> tuple[str, str]:
    """The page's text after its scripts ran, and what the browser's console said."""
    command = [
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
        *("--enable-logging=stderr", "--log-level=0", f"--user-data-dir={profile}", "--window-size=1280,1600"),
        *("--virtual-time-budget=4000", "--dump-dom", address),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    console = "\n".join(line for line in ran.stderr.splitlines() if ":CONSOLE" in line)
    return ran.stdout, console


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))
