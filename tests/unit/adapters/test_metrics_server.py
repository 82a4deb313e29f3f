"""The metrics server answers what Prometheus and a supervisor ask."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter

from flywheel.adapters.metrics_server import MetricsServer


class Subject:
    """A process whose readiness the test decides."""

    def __init__(self) -> None:
        self.state = (True, "all is well")
        self.fails = False
        self.registry = CollectorRegistry()
        self.server = MetricsServer(0, self.ready, registry=self.registry)

    def ready(self) -> tuple[bool, str]:
        if self.fails:
            raise RuntimeError("the probe broke")
        return self.state

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def subject() -> Iterator[Subject]:
    made = Subject()
    made.server.start()
    yield made
    made.server.close()


def test_metrics_of_its_registry(subject: Subject) -> None:
    Counter("seen", "Things seen.", registry=subject.registry).inc(3)
    status, body = subject.get("/metrics")
    assert status == 200
    assert b"seen_total 3.0" in body


def test_ready_tells_what_it_is_told(subject: Subject) -> None:
    assert subject.get("/readyz")[0] == 200
    subject.state = (False, "redis is away")
    status, body = subject.get("/readyz")
    assert status == 503
    assert orjson.loads(body) == {"status": "not ready", "detail": "redis is away"}


def test_a_probe_that_raises_means_not_ready_but_alive(subject: Subject) -> None:
    subject.fails = True
    status, body = subject.get("/readyz")
    assert status == 503
    assert b"the probe broke" in body
    assert subject.get("/healthz")[0] == 200


def test_other_paths_are_not_found(subject: Subject) -> None:
    assert subject.get("/elsewhere")[0] == 404


def test_close_frees_the_port(subject: Subject) -> None:
    subject.server.close()
    with pytest.raises(ConnectionRefusedError):
        subject.get("/healthz")
