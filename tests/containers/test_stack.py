"""`docker compose up --wait` is enough: the loop turns in containers, each of them confined, and stops in order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from benchmarks.figures import write
from flywheel.client.decision_client import DecisionClient
from flywheel.client.errors import ServingUnreachable
from flywheel.contracts.proto.decision_pb2 import DecideResponse
from loadtests.accounts import await_that
from loadtests.result import Result
from tests.compose_file import is_task, services
from tests.composed_stack import Composed, docker

pytestmark = pytest.mark.containers

DECLARED = {name: service for name, service in services().items() if "profiles" not in service}
TASKS = {name for name, service in DECLARED.items() if is_task(service)}
SPARK = {"SPARK_MASTER": "spark://spark-master:7077"}
# As told to stop: by Python's and Redis' own end, or by the JVM's.
ENDED_BY_ITSELF = {0, 143}
GOALS = {"up_s": "<= 360", "up_again_s": "<= 120", "stop_s": "<= 60", "memory_mib": "<= 5120"}
FIGURES: dict[str, float] = {}
PASSED, FAILED, VOID = 0, 1, 3
"""How a load test ends that has measured something."""


@pytest.fixture(scope="module")
def running(stack: Composed) -> Composed:
    """The stack, up."""
    began = time.monotonic()
    stack.run("up", "--wait", timeout_s=900)
    FIGURES["up_s"] = round(time.monotonic() - began, 1)
    return stack


def present(stack: Composed) -> datetime:
    """The event time at which the world stands."""
    return datetime.fromisoformat(httpx.get(f"{stack.url('INGEST_PORT')}/v1/fraud/clock").json()["now"])


def state(stack: Composed) -> dict[str, Any]:
    """What the console shows."""
    found: dict[str, Any] = httpx.get(f"{stack.url('MONITOR_PORT')}/api/state", timeout=10).json()
    return found


def payment(stack: Composed, card: str, after: timedelta = timedelta()) -> dict[str, Any]:
    return {
        "event_id": f"e2e-{uuid.uuid4().hex}",
        "event_time": (present(stack) + after).isoformat(),
        "card_id": card,
        "terminal_id": "t000001",
        "amount_cents": 2_500,
    }


def decide_by_model(stack: Composed, fields: dict[str, Any]) -> DecideResponse:
    """A decision that did not fall back: on two shared cores one may for once exceed its budget."""
    found: list[DecideResponse] = []

    async def ask() -> DecideResponse:
        client = DecisionClient(f"127.0.0.1:{stack.environment['SERVING_PORT']}", timeout_s=5)
        try:
            return await client.decide("fraud", fields)
        finally:
            await client.close()

    def by_model() -> bool:
        try:
            found.append(asyncio.run(ask()))
        except ServingUnreachable as refusal:
            if "DEADLINE_EXCEEDED" not in str(refusal):
                raise
            return False
        return found[-1].fallback == "none"

    await_that("the model decides", by_model, 60)
    return found[-1]


def count(decision: DecideResponse) -> float:
    (value,) = [item.value for item in decision.features if item.name == "card_transaction_count_24h"]
    return float(value)


def test_everything_is_well_and_what_had_to_be_done_is_done(running: Composed) -> None:
    found = running.containers()
    assert set(found) == set(DECLARED)
    for name, container in found.items():
        told = container["State"]
        if name in TASKS:
            assert (told["Status"], told["ExitCode"]) == ("exited", 0), name
        else:
            assert told["Health"]["Status"] == "healthy", name
        assert not told["OOMKilled"], name
        assert container["RestartCount"] == 0, name


def test_a_payment_posted_over_http_changes_the_model_s_next_decision(running: Composed) -> None:
    card = f"e2e-{uuid.uuid4().hex}"
    first = payment(running, card)
    before = decide_by_model(running, first)
    assert before.model_version
    assert count(before) == 1
    answer = httpx.post(f"{running.url('INGEST_PORT')}/v1/fraud/transaction", json=first, timeout=10)
    assert answer.status_code == 202, answer.text
    second = payment(running, card, after=timedelta(seconds=1))
    await_that("the first payment is counted", lambda: count(decide_by_model(running, second)) == 2, 60)


def test_labels_mature_and_the_console_shows_them(running: Composed) -> None:
    page = httpx.get(running.url("MONITOR_PORT"), timeout=10)
    assert page.status_code == 200
    assert "<html" in page.text
    await_that("labels have matured", lambda: (state(running)["quality"]["positives"] or 0) > 0, 300)
    assert state(running)["loop"]["events"] > 0


def test_decisions_are_asked_for_over_http_as_well(running: Composed) -> None:
    body = payment(running, "e2e-rest")
    answer = httpx.post(f"{running.url('SERVING_REST_PORT')}/v1/usecases/fraud/decisions", json=body, timeout=10)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", sorted(set(DECLARED) - TASKS))
def test_a_container_is_nobody_and_cannot_change_itself(running: Composed, name: str) -> None:
    assert running.inside(name, "id", "-u").stdout.strip() not in ("", "0")
    assert running.inside(name, "sh", "-c", "echo x > /etc/here").returncode != 0
    assert running.containers()[name]["HostConfig"]["Memory"] > 0


def test_serving_brings_no_tools(running: Composed) -> None:
    assert running.inside("serving", "sh", "-c", "command -v python").returncode == 0
    for tool in ("java", "gcc", "cc", "make"):
        assert running.inside("serving", "sh", "-c", f"command -v {tool}").returncode != 0
    assert running.inside("serving", "python", "-c", "import pyspark").returncode != 0


def test_memory_and_images_are_measured(running: Composed) -> None:
    found = running.containers()
    sizes = {container["Config"]["Image"]: container["Image"] for container in found.values()}
    for image, identity in sizes.items():
        if image.startswith("flywheel-"):
            part = image.removeprefix("flywheel-").partition(":")[0]
            size = int(docker("image", "inspect", "--format", "{{.Size}}", identity))
            FIGURES[f"image_{part}_mib"] = round(size / 2**20)
    told = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
    ours = [line.split()[1] for line in told if line.startswith(running.name)]
    FIGURES["memory_mib"] = round(sum(mebibytes(each) for each in ours))


def mebibytes(told: str) -> float:
    units = {"KiB": 2**-10, "MiB": 1.0, "GiB": 2.0**10}
    return float(told[:-3]) * units[told[-3:]]


def test_prometheus_scrapes_every_part(running: Composed) -> None:
    running.run("--profile", "observability", "up", "--wait", "--no-deps", "prometheus", timeout_s=120)

    def targets() -> dict[str, str]:
        found = httpx.get(f"{running.url('PROMETHEUS_PORT')}/api/v1/targets", timeout=10).json()["data"][
            "activeTargets"
        ]
        return {each["labels"]["job"]: each["health"] for each in found}

    parts = {"ingest", "features", "edge", "trainer", "serving", "monitor", "world"}
    await_that("every part is scraped", lambda: parts == {name for name, how in targets().items() if how == "up"}, 60)
    rules = httpx.get(f"{running.url('PROMETHEUS_PORT')}/api/v1/rules", timeout=10).json()["data"]["groups"]
    assert rules
    assert all(rule["health"] != "err" for group in rules for rule in group["rules"])


def test_grafana_shows_the_dashboards(running: Composed) -> None:
    if not has_image(str(services()["grafana"]["image"])):
        pytest.skip("Grafana's image is neither here nor to be had")
    running.run("--profile", "observability", "up", "--wait", "--no-deps", "grafana", timeout_s=180)
    found = httpx.get(f"{running.url('GRAFANA_PORT')}/api/search?type=dash-db", timeout=10).json()
    assert len(found) >= 6


def has_image(name: str) -> bool:
    asked = (["docker", "image", "inspect", name], ["docker", "pull", "--quiet", name])
    return any(subprocess.run(each, capture_output=True, timeout=300, check=False).returncode == 0 for each in asked)


def test_features_run_on_a_spark_cluster_as_well(running: Composed) -> None:
    """From the checkpoints that they have: what was counted stays so, and counting goes on."""
    before = counted(running)
    running.run(
        *("--profile", "spark-cluster", "up", "--wait", "--no-recreate", "spark-master", "spark-worker"),
        timeout_s=180,
        environment=SPARK,
    )
    running.run("--profile", "spark-cluster", "up", "--wait", "--no-deps", "features", timeout_s=300, environment=SPARK)
    cluster = json.loads(page(running, "spark-master", "http://spark-master:8088/json/"))
    assert cluster["aliveworkers"] == 2
    assert cluster["coresused"] == 2
    await_that("the cluster counts further", lambda: counted(running) > before + 100, 90)


def counted(stack: Composed) -> float:
    """Events that the view with the most of them has counted since features began."""
    lines = page(stack, "features", "http://127.0.0.1:9101/metrics").splitlines()
    values = (line.rpartition(" ")[2] for line in lines if line.startswith("flywheel_features_counted_events{"))
    return max(map(float, values), default=0.0)


def page(stack: Composed, service: str, url: str) -> str:
    """What a page that is not published says, asked from inside."""
    asking = f"import urllib.request as r; print(r.urlopen('{url}', timeout=10).read().decode())"
    return stack.inside(service, "python", "-c", asking).stdout


def test_the_registry_has_a_page_of_its_own(running: Composed) -> None:
    running.run("--profile", "mlflow", "up", "--wait", "--no-deps", "mlflow", timeout_s=180)
    asked = f"{running.url('MLFLOW_PORT')}/api/2.0/mlflow/registered-models/search"
    found = httpx.get(asked, timeout=30).json()["registered_models"]
    assert [model["name"] for model in found] == ["fraud"]


def test_a_load_test_runs_beside_the_stack_and_leaves_its_report(running: Composed) -> None:
    where = "/var/lib/flywheel/loadtests/calm"
    calm = ("--capacity", "50", "--stretch", "0.2", "--out", f"{where}.json")
    running.run("--profile", "loadtest", "build", "--quiet", "loadtest", timeout_s=900)
    # So short a test says nothing of some objectives, and whether a busy machine meets the others is not asked here.
    ends = (PASSED, FAILED, VOID)
    running.run("run", "--rm", "loadtest", "loadtests", "run", "steady", *calm, timeout_s=120, may_end_with=ends)
    found = Result.model_validate_json(running.inside("serving", "cat", f"{where}.json").stdout)
    for traffic in found.traffic:
        assert sum(second.good for second in traffic.seconds) > 0, traffic.name
    assert found.gauges.at_s
    assert "<html" in running.inside("serving", "cat", f"{where}.html").stdout


def test_stopping_is_graceful_and_starting_again_goes_on(running: Composed) -> None:
    versions = decide_by_model(running, payment(running, "e2e-before")).model_version
    began = time.monotonic()
    running.run("--profile", "*", "stop", timeout_s=180)
    FIGURES["stop_s"] = round(time.monotonic() - began, 1)
    ended = {name: container["State"]["ExitCode"] for name, container in running.containers().items()}
    assert {name: code for name, code in ended.items() if code not in ENDED_BY_ITSELF} == {}

    began = time.monotonic()
    running.run("up", "--wait", timeout_s=300)
    FIGURES["up_again_s"] = round(time.monotonic() - began, 1)
    assert decide_by_model(running, payment(running, "e2e-after")).model_version == versions
    seen = state(running)["loop"]["events"]
    await_that("events flow again", lambda: state(running)["loop"]["events"] > seen, 60)
    write("containers", FIGURES, {name: goal for name, goal in GOALS.items() if name in FIGURES})
