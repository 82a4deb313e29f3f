"""Prometheus beside the stack: it runs where its binary is, asks this stack's ports, and says so where it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from flywheel.contracts.settings import PlatformSettings
from infra.local import prometheus
from infra.local.down import layers
from infra.local.failures import CannotStart
from infra.local.processes import declaration, processes
from infra.local.up import summary


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A binary that is the only one on PATH."""
    found = tmp_path / "bin" / "prometheus"
    found.parent.mkdir()
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(found.parent))
    monkeypatch.delenv("FLYWHEEL_PROMETHEUS", raising=False)
    return found


def test_the_one_on_path_runs(program: Path) -> None:
    assert prometheus.binary(PlatformSettings()) == program
    (ours,) = [each for each in processes(declaration(PlatformSettings())) if each.name == "prometheus"]
    assert ours.address == "http://127.0.0.1:19090"
    assert ours.ports == {"FLYWHEEL_PROMETHEUS_PORT": 19090}


def test_it_stops_before_what_it_watches_has_gone(program: Path) -> None:  # noqa: ARG001
    order = [[process.name for process in layer] for layer in layers(declaration(PlatformSettings()))]
    assert "world" in order[0]
    assert set(order[-1]) == {"kafka", "redis"}
    assert any("prometheus" in layer for layer in order[:-1])


def test_the_named_one_runs(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert prometheus.binary(PlatformSettings(prometheus=str(program))) == program


def test_a_name_that_is_no_program_stops_the_start() -> None:
    with pytest.raises(CannotStart, match="names /nowhere/prometheus, which is no program"):
        prometheus.binary(PlatformSettings(prometheus="/nowhere/prometheus"))


def test_without_one_the_stack_runs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FLYWHEEL_PROMETHEUS", raising=False)
    settings = PlatformSettings(data_dir=tmp_path)
    assert prometheus.binary(settings) is None
    assert "prometheus" not in [process.name for process in processes(declaration(settings))]
    assert "Prometheus       does not run: there is no `prometheus` on PATH" in summary(settings, (), 1.0)


def test_who_does_not_want_it_is_told_that_it_is_off(program: Path) -> None:  # noqa: ARG001
    settings = PlatformSettings(prometheus="off")
    assert prometheus.binary(settings) is None
    assert prometheus.told(settings) == "does not run (FLYWHEEL_PROMETHEUS=off)"


def test_it_asks_the_ports_of_this_stack(tmp_path: Path) -> None:
    settings = PlatformSettings(
        data_dir=tmp_path,
        serving_metrics_port=29102,
        ingest_url="http://127.0.0.1:28081",
        world_enabled=False,
    )
    written = yaml.safe_load(prometheus.prepare(settings).read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in written["scrape_configs"]}
    assert targets["serving"] == "127.0.0.1:29102"
    assert targets["ingest"] == "127.0.0.1:28081"
    assert "world" not in targets
    (rules,) = written["rule_files"]
    assert len(list(Path(rules).parent.glob(Path(rules).name))) == 3


def test_what_it_scraped_stays_with_the_stack_s_data(tmp_path: Path) -> None:
    settings = PlatformSettings(data_dir=tmp_path, prometheus_port=29090)
    command = prometheus.command(settings, Path(sys.executable), tmp_path / "prometheus.yml")
    assert f"--storage.tsdb.path={tmp_path}/prometheus/series" in command
    assert "--web.listen-address=127.0.0.1:29090" in command
