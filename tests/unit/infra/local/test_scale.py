"""What is declared when parts run more than once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local import balancer, scale, settings_check, spark_cluster
from infra.local.failures import CannotStart
from infra.local.processes import Process, declaration, processes
from infra.local.scale import PORTS, serving_metrics_urls, serving_replicas
from infra.observability.scraping import on_one_machine
from services.serving.settings import ServingSettings


@pytest.fixture(autouse=True)
def _without_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_PROMETHEUS", "off")


def declared(settings: PlatformSettings) -> dict[str, Process]:
    return {process.name: process for process in processes(declaration(settings))}


def test_replicas_of_serving_stand_behind_the_balancer_at_ports_of_their_own(tmp_path: Path) -> None:
    settings = PlatformSettings(data_dir=tmp_path, serving_replicas=3)
    found = declared(settings)
    assert "serving" not in found
    front = found["balancer"]
    assert set(front.after) == {"serving-1", "serving-2", "serving-3"}
    assert front.address == settings.serving_address
    assert balancer.NAME in found["world"].after
    ports = [port for process in found.values() for port in process.ports.values()]
    assert len(ports) == len(set(ports))
    environments = [found[name].environment for name in sorted(front.after)]
    assert len({each["FLYWHEEL_SERVING_ADDRESS"] for each in environments}) == 3
    assert {port for name in front.after for port in found[name].ports.values()} <= {
        settings.serving_metrics_port,
        *range(settings.replica_ports, settings.replica_ports + PORTS),
    }


def test_a_replica_is_given_the_time_for_its_notice_too(tmp_path: Path) -> None:
    one, several = (declared(PlatformSettings(data_dir=tmp_path, serving_replicas=number)) for number in (1, 2))
    own = ServingSettings(serving_notice_s=float(several["serving-1"].environment["FLYWHEEL_SERVING_NOTICE_S"]))
    assert own.serving_notice_s > 0
    assert several["serving-1"].stop_within_s > own.stop_within_s > ServingSettings().stop_within_s
    assert "FLYWHEEL_SERVING_NOTICE_S" not in one["serving"].environment


def test_prometheus_and_load_tests_ask_every_replica() -> None:
    settings = PlatformSettings(serving_replicas=2)
    first, second = (replica.metrics_port for replica in serving_replicas(settings))
    assert first == settings.serving_metrics_port
    jobs = on_one_machine(settings, "rules")["scrape_configs"]
    assert isinstance(jobs, list)
    (targets,) = [job["static_configs"][0]["targets"] for job in jobs if job["job_name"] == "serving"]
    assert targets == [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
    assert serving_metrics_urls(settings) == [f"http://{target}/metrics" for target in targets]


def test_the_balancer_knows_every_replica_by_the_addresses_it_is_started_with() -> None:
    settings = PlatformSettings(serving_replicas=2)
    text = balancer.configuration(settings, serving_replicas(settings))
    assert text.count(f"bind {settings.serving_address} proto h2") == 1
    for name in ("serving-1", "serving-2"):
        own = declared(settings)[name].environment
        check = f"check port {own['FLYWHEEL_SERVING_METRICS_PORT']}"
        assert f"server {name} {own['FLYWHEEL_SERVING_ADDRESS']} proto h2 {check}" in text
        assert f"server {name} {own['FLYWHEEL_SERVING_REST_ADDRESS']} proto h1 track grpc/{name}" in text
    silent = settings.model_copy(update={"serving_rest_address": ""})
    assert "listen rest" not in balancer.configuration(silent, serving_replicas(silent))


def test_without_haproxy_several_replicas_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_HAPROXY", "nowhere/haproxy")
    monkeypatch.setenv("FLYWHEEL_SERVING_REPLICAS", "2")
    with pytest.raises(CannotStart, match="FLYWHEEL_HAPROXY names nowhere/haproxy, which is no program: install it"):
        settings_check.check(PlatformSettings())
    monkeypatch.setenv("FLYWHEEL_SERVING_REPLICAS", "1")
    settings_check.check(PlatformSettings())


def test_a_balancer_that_speaks_plain_text_is_refused_where_serving_speaks_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLYWHEEL_HAPROXY", sys.executable)
    monkeypatch.setenv("FLYWHEEL_SERVING_REPLICAS", "2")
    monkeypatch.setenv("FLYWHEEL_SERVING_TLS_CERTIFICATE", str(tmp_path / "certificate.pem"))
    with pytest.raises(CannotStart, match="the balancer of one machine speaks plain text"):
        settings_check.check(PlatformSettings())


def test_features_compute_on_the_cluster_of_this_machine_where_there_is_one(tmp_path: Path) -> None:
    settings = PlatformSettings(data_dir=tmp_path, spark_workers=2)
    found = declared(settings)
    assert {"spark-worker-1", "spark-worker-2"} <= set(found["features"].after)
    assert found["spark-worker-1"].after == ("spark-master",)
    told = found["features"].environment["FLYWHEEL_SPARK_MASTER"]
    assert told == f"spark://127.0.0.1:{scale.spark_master(settings).port}"
    for daemon in (scale.spark_master(settings), *scale.spark_workers(settings)):
        assert set(found[daemon.name].ports.values()) == {daemon.port, daemon.page_port}
    workers = [spark_cluster.command(settings, worker) for worker in scale.spark_workers(settings)]
    assert {command[-1] for command in workers} == {told}
    assert len({tuple(command) for command in workers}) == 2
    alone = declared(PlatformSettings(data_dir=tmp_path))
    assert "spark-master" not in alone
    assert "FLYWHEEL_SPARK_MASTER" not in alone["features"].environment


def test_nothing_that_runs_more_than_once_shares_a_port() -> None:
    found = declared(PlatformSettings(serving_replicas=8, spark_workers=8))
    ports = [port for process in found.values() for port in process.ports.values()]
    assert len(ports) == len(set(ports))
