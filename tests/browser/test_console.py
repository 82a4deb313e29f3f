"""The console page in a real browser: the numbers of the state are on it, and its scripts raise nothing."""

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
from services.monitor.state import State
from tests.monitor_scene import Scene

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
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


def test_the_numbers_of_the_state_are_on_the_page(tmp_path: Path) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 14)
    scene.training_run()
    monitor = scene.monitor(data_dir=tmp_path)
    with served(monitor) as address:
        state = monitor.watch.state
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert state.experiment is not None
    assert state.quality.auc is not None
    for expected in (
        "Card-fraud detection",
        "simulated data",
        f"{state.loop.events:,}",
        f"{state.quality.decisions:,} matured decisions",
        f"{state.quality.auc:.3f}",
        state.experiment.verdict,
        "lightgbm v3",
        "feature drifted" if sum(v.drifted for v in state.drift.variables) == 1 else "features drifted",
        "onnx parity",
        state.last_decisions[0].unit,
        "of event time",
    ):
        assert expected in text, f"{expected!r} is not on the page"
    assert page.count("<svg") >= 6


@pytest.mark.parametrize("young", [False, True])
def test_an_empty_or_young_loop_tells_what_is_awaited(tmp_path: Path, young: bool) -> None:
    scene = Scene(per_day=50)
    if young:
        scene.days(0, 1)
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert "No model is deployed yet" in text
    assert ("No matured decision yet: the first matures at event time 2018-06-08" in text) is young
    assert ("No decision yet: they appear as soon as somebody asks serving" in text) is not young


def test_an_error_in_a_script_would_be_seen(tmp_path: Path) -> None:
    scene = Scene()
    monitor = scene.monitor(data_dir=tmp_path)
    broken = State.model_validate(monitor.watch.state.model_dump()).model_dump()
    del broken["loop"]
    monitor.app.router.routes[:] = [r for r in monitor.app.router.routes if getattr(r, "path", "") != "/api/state"]
    monitor.app.add_api_route("/api/state", lambda: broken)
    with served(monitor) as address:
        _, console = opened(address, tmp_path / "profile")
    assert "TypeError" in console
