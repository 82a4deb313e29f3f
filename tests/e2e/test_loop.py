"""The loop turns: what a person does by the README changes what the platform decides, measures and learns."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.client.decision_client import DecisionClient
from flywheel.client.errors import ServingUnreachable
from flywheel.contracts.proto.decision_pb2 import DecideResponse
from flywheel.contracts.settings import PlatformSettings
from infra.local import prometheus
from infra.local.processes import declaration, processes
from infra.local.sandbox import Sandbox
from infra.local.supervision import ALIVE, Supervisor
from infra.observability import dashboards
from infra.observability.scraping import ports
from loadtests.accounts import await_that, balance, settle

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
LARGEST_CENTS = 100_000_000


def present(stack: Sandbox) -> datetime:
    """The event time at which the world stands."""
    answer = httpx.get(f"{stack.settings.ingest_url}/v1/fraud/clock").json()
    return datetime.fromisoformat(answer["now"])


def state(stack: Sandbox) -> dict[str, Any]:
    """What the console shows."""
    found: dict[str, Any] = httpx.get(f"{stack.settings.monitor_url}/api/state", timeout=10).json()
    return found


def send(stack: Sandbox, event_name: str, **fields: Any) -> None:
    answer = httpx.post(f"{stack.settings.ingest_url}/v1/fraud/{event_name}", json=fields, timeout=10)
    assert answer.status_code == 202, answer.text
    SENT_HERE.append(fields["event_id"])


SENT_HERE: list[str] = []
"""Events that these tests sent beside the world."""


def payment(card: str, moment: datetime, amount_cents: int, terminal: str = "t000001") -> dict[str, Any]:
    return {
        "event_id": f"e2e-{uuid.uuid4().hex}",
        "event_time": moment.isoformat(),
        "card_id": card,
        "terminal_id": terminal,
        "amount_cents": amount_cents,
    }


def decide(stack: Sandbox, fields: dict[str, Any]) -> DecideResponse:
    async def ask() -> DecideResponse:
        client = DecisionClient(stack.settings.serving_address, timeout_s=5)
        try:
            return await client.decide("fraud", fields)
        finally:
            await client.close()

    return asyncio.run(ask())


def decide_by_model(stack: Sandbox, fields: dict[str, Any]) -> DecideResponse:
    """A decision that did not fall back: on two shared cores a read, or the whole, may for once exceed its budget."""
    found: list[DecideResponse] = []

    def by_model() -> bool:
        try:
            found.append(decide(stack, fields))
        except ServingUnreachable as refusal:
            if "DEADLINE_EXCEEDED" not in str(refusal):
                raise
            return False
        return found[-1].fallback == "none"

    await_that("the model decides", by_model, 30)
    return found[-1]


def feature(decision: DecideResponse, name: str) -> float:
    (value,) = [item.value for item in decision.features if item.name == name]
    return float(value)


def test_a_payment_posted_over_http_changes_the_next_decision_for_its_card(stack: Sandbox) -> None:
    card, moment = f"e2e-{uuid.uuid4().hex}", present(stack)
    first = payment(card, moment, 1_000)
    before = decide_by_model(stack, first)
    assert before.feature_status["card"] == "missing"
    assert feature(before, "card_transaction_count_24h") == 1
    send(stack, "transaction", **first)

    second = payment(card, moment + timedelta(seconds=1), 3_000)
    await_that(
        "the first payment is counted",
        lambda: feature(decide_by_model(stack, second), "card_transaction_count_24h") == 2,
        30,
    )
    after = decide_by_model(stack, second)
    assert feature(after, "card_transaction_amount_cents_mean_24h") == 2_000
    assert after.feature_status["card"] == "fresh"
    # Its own payment counts once, also when it has arrived.
    assert feature(decide_by_model(stack, first), "card_transaction_count_24h") == 1


def test_a_known_fraud_pattern_is_declined_by_the_model_and_explained(stack: Sandbox) -> None:
    """A large amount at a terminal whose payments come back as frauds."""
    usual = decide_by_model(stack, payment("e2e-usual", present(stack), 2_500))
    assert usual.action == "approve"

    terminal = compromised_terminal(stack)
    moment, victim = present(stack), f"e2e-{uuid.uuid4().hex}"
    send(stack, "transaction", **payment(victim, moment, 3_000))
    large = payment(victim, moment + timedelta(minutes=1), 90_000, terminal)

    def history_is_visible() -> bool:
        seen = decide_by_model(stack, large)
        return (feature(seen, "terminal_chargeback_count_7d"), feature(seen, "card_transaction_count_24h")) == (6, 2)

    await_that("the terminal's chargebacks are counted", history_is_visible, 30)
    fraud = decide_by_model(stack, large)
    assert fraud.model_version
    assert fraud.action == "decline"
    assert fraud.score > 10 * usual.score
    assert {"terminal_has_chargebacks", "amount_high"} <= set(fraud.reasons)
    assert fraud.stage_ms["total"] < 50


def compromised_terminal(stack: Sandbox) -> str:
    """A new terminal with six payments, all disputed."""
    moment, terminal = present(stack), f"e2e-{uuid.uuid4().hex[:8]}"
    for number in range(6):
        paid = payment(f"{terminal}-{number}", moment, 4_000, terminal)
        send(stack, "transaction", **paid)
        chargeback(stack, paid, moment)
    return terminal


def chargeback(stack: Sandbox, paid: dict[str, Any], moment: datetime) -> None:
    """The cardholder disputes that payment."""
    send(
        stack,
        "chargeback",
        event_id=f"cb-{paid['event_id']}",
        event_time=moment.isoformat(),
        transaction_id=paid["event_id"],
        card_id=paid["card_id"],
        terminal_id=paid["terminal_id"],
        amount_cents=paid["amount_cents"],
    )


def test_a_bad_event_is_refused_by_field_and_reason(stack: Sandbox) -> None:
    bad = payment("c", present(stack), 1) | {"amount_cents": -5}
    answer = httpx.post(f"{stack.settings.ingest_url}/v1/fraud/transaction", json=bad)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["field"] == "amount_cents"
    assert "greater than 0" in error["reason"]


def test_a_chargeback_changes_the_matured_metrics(stack: Sandbox) -> None:
    """A payment far larger than all others together: declining it was right only if its chargeback is joined."""
    terminal = compromised_terminal(stack)
    moment = present(stack)
    large = payment(f"e2e-{uuid.uuid4().hex}", moment, LARGEST_CENTS, terminal)
    await_that("it is declined", lambda: decide_by_model(stack, large).action == "decline", 30)
    send(stack, "transaction", **large)
    chargeback(stack, large, moment + timedelta(hours=1))
    assert (state(stack)["quality"]["saved_cents"] or 0) < LARGEST_CENTS / 2
    await_that("seven days of event time pass", lambda: present(stack) > moment + timedelta(days=7, hours=1), 300)
    await_that(
        "the declined payment counts as money saved",
        lambda: (state(stack)["quality"]["saved_cents"] or 0) > LARGEST_CENTS / 2,
        60,
    )
    quality = state(stack)["quality"]
    assert quality["positives"] > 0
    assert quality["auc"] > 0.6


def test_both_arms_of_the_experiment_are_measured(stack: Sandbox) -> None:
    experiment = state(stack)["experiment"]
    arms = {arm["role"]: arm for arm in experiment["arms"]}
    assert set(arms) == {"champion", "challenger"}
    assert all(arm["matured"] > 0 for arm in arms.values())
    assert 0.1 < experiment["challenger_share_seen"] < 0.3
    assert experiment["sample_ratio_p"] > 1e-4


def test_every_service_exports_its_metrics(stack: Sandbox) -> None:
    settings = stack.settings
    pages = {
        "flywheel_ingest_events_total": settings.ingest_url,
        "flywheel_monitor_psi": settings.monitor_url,
        "flywheel_features_counted_events": f"http://127.0.0.1:{settings.features_metrics_port}",
        "flywheel_edge_events_total": f"http://127.0.0.1:{settings.edge_metrics_port}",
        "flywheel_serving_decisions_total": f"http://127.0.0.1:{settings.serving_metrics_port}",
        "flywheel_trainer_runs_total": f"http://127.0.0.1:{settings.trainer_metrics_port}",
        "flywheel_world_events_total": f"http://127.0.0.1:{settings.world_metrics_port}",
    }
    for metric, url in pages.items():
        text = httpx.get(f"{url}/metrics", timeout=10).text
        assert re.search(rf"^{metric}\{{[^}}]*fraud", text, re.MULTILINE), metric


QUIET = frozenset(
    {
        *("Alerts that fire", "Restarts", "Model failures", "Corrupt feature states", "States found corrupt"),
        *("Events put on edges", "Absorbed and forgotten", "Mismatches by feature", "Worst difference"),
        "Mismatched values",
        *("Candidates of a ranking", "Candidates not ranked", "Cached rows found", "Age of cached rows"),
        *("Requests for scores", "Age of loaded attributes", "Explanations", "Workers that were lost"),
        *("Decisions of the canary", "Steps of canaries", "Arms that serving stopped", "Too late to be answered"),
        *("Shadow's decisions", "Would decide otherwise", "Scores against the served"),
    }
)
"""Panels of which a query says nothing while nothing is wrong, nobody ranks and no model is tried out."""


@pytest.mark.skipif(prometheus.binary(PlatformSettings()) is None, reason="no Prometheus on this machine")
def test_prometheus_answers_what_the_dashboards_ask(stack: Sandbox) -> None:
    url = prometheus.url(stack.settings)

    def silent() -> set[str]:
        return {
            panel.title
            for dashboard in dashboards.ALL
            for panel in dashboard.panels
            for query in panel.queries
            if not answer(url, query.expr)
        } - QUIET

    with suppress(SystemExit):
        await_that("every panel shows something", lambda: not silent(), 120)
    assert silent() == set()
    rules = httpx.get(f"{url}/api/v1/rules", timeout=10).json()["data"]["groups"]
    assert [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"] == []
    targets = httpx.get(f"{url}/api/v1/targets", timeout=10).json()["data"]["activeTargets"]
    assert {target["labels"]["job"] for target in targets if target["health"] == "up"} == set(ports(stack.settings))


def answer(url: str, expr: str) -> list[Any]:
    """What Prometheus says to a panel's query."""
    query = expr.replace("$__rate_interval", "1m").replace("$usecase", ".*")
    told = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).raise_for_status().json()
    found: list[Any] = told["data"]["result"]
    return found


def readme_commands() -> list[str]:
    start = (ROOT / "README.md").read_text().partition("## Start")[2].partition("## Test")[0]
    blocks = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_the_readme_s_commands_do_what_it_says(stack: Sandbox) -> None:
    """All in the README's order but two that end the stack and one that loads it; `make up` again is harmless."""
    commands = readme_commands()
    assert {"make up", "make down", "make clean", "make status", "make train", "make loadtest"} <= set(commands)
    for command in commands:
        if command not in ("make down", "make clean", "make loadtest"):
            done = stack.run("sh", "-c", command, timeout_s=400)
            assert done.returncode == 0, f"{command}\n{done.stdout}"


def test_a_file_of_one_s_own_enters_by_the_same_door(stack: Sandbox, tmp_path: Path) -> None:
    ids = [f"own-{uuid.uuid4().hex}" for _ in range(3)]
    rows = [f"{name},2024-05-01T10:0{minute}:00Z,own,t000001,{100 + minute}" for minute, name in enumerate(ids)]
    file = tmp_path / "payments.csv"
    header = "event_id,event_time,card_id,terminal_id,amount_cents"
    file.write_text("\n".join([header, *rows, "own-bad,2024-05-01T10:09:00Z,own,t000001,-1"]))

    refused = stack.run("make", "replay", f"FILE={file}", timeout_s=60)
    assert refused.returncode != 0
    assert "0 accepted, 4 rejected" in refused.stdout
    assert "ahead of the stream" in refused.stdout
    aligned = stack.run("make", "replay", f"FILE={file}", "ARGS=--align", timeout_s=60)
    assert "3 accepted, 1 rejected" in aligned.stdout
    assert "row 4: amount_cents" in aligned.stdout
    SENT_HERE.extend(ids)


_CALM = """
title = "Calm"
about = "A few decisions."
[[traffic]]
name = "decisions"
skew = 0.9
cold_share = 0.1
[[phase]]
name = "calm"
seconds = 5
per_s = 40
[[objective]]
name = "Answered"
measure = "served_share"
phase = "calm"
bound = ">= 0.5"
"""


def test_a_load_test_of_the_running_stack_writes_its_page(stack: Sandbox, tmp_path: Path) -> None:
    scenario, result = tmp_path / "calm.toml", tmp_path / "calm.json"
    scenario.write_text(_CALM)
    done = stack.run("make", "loadtest", f"SCENARIO={scenario}", f"ARGS=--out {result}", timeout_s=90)
    # On two cores that everything shares the generator may have to call its own run void.
    assert "passed  Answered" in done.stdout or "VOID    Answered" in done.stdout, done.stdout
    found = json.loads(result.read_text())
    assert {"features", "model"} <= {stage["stage"] for stage in found["stretches"][0]["stages"]}
    assert {"serving", "redis", "kafka", "load generator"} <= {usage["process"] for usage in found["usage"]}
    assert found["traffic"][0]["statuses"]["0"] > 0
    assert "Where decisions spend their time" in result.with_suffix(".html").read_text()


def test_a_busy_port_is_told_in_one_sentence(stack: Sandbox, busy_port: int, tmp_path: Path) -> None:
    environment = dict(stack.environment)
    environment |= {"FLYWHEEL_INGEST_URL": f"http://127.0.0.1:{busy_port}", "FLYWHEEL_DATA_DIR": str(tmp_path)}
    for name in ("FLYWHEEL_KAFKA_BOOTSTRAP", "FLYWHEEL_REDIS_URL"):
        environment.pop(name)
    done = Sandbox(environment).python("infra.local", "up", timeout_s=60)
    assert done.returncode == 1
    assert f"Port {busy_port}" in done.stdout
    assert "FLYWHEEL_INGEST_URL" in done.stdout
    assert "Traceback" not in done.stdout


def test_any_process_may_be_killed_under_traffic_and_nothing_is_lost_or_counted_twice(stack: Sandbox) -> None:
    supervisor = Supervisor(stack.settings)
    declared = {process.name: process for process in processes(declaration(stack.settings))}
    for name, process in declared.items():
        pid = supervisor.statuses()[name].pid
        os.kill(pid, signal.SIGKILL)

        def back(name: str = name, pid: int = pid) -> bool:
            status = supervisor.statuses()[name]
            return status.state in ALIVE and status.pid not in (0, pid) and declared[name].ready()

        await_that(f"{name} is back", back, process.within_s)
    for name, process in declared.items():
        await_that(f"{name} is ready", process.ready, 60)
    events = state(stack)["loop"]["events"]
    await_that("events flow again", lambda: state(stack)["loop"]["events"] > events + 100, 60)

    settle(stack, 180)
    books = balance(stack)
    distinct = books["events_sent"] - books["events_rejected"] - books["duplicates"]
    assert books["events_archived_distinct"] == distinct + len(SENT_HERE) + sent_by_readme()
    assert books["events_counted"] == books["events_counted_most"] == books["events_archived_distinct"]
    supervisor.begin("world")
    await_that("the world plays again", declared["world"].ready, 60)


def sent_by_readme() -> int:
    """Events that the README's commands send: one each, and the rows of the files that they replay."""
    commands = readme_commands()
    files = [match[1] for command in commands if (match := re.match(r"make replay FILE=(\S+)", command))]
    rows = sum(len((ROOT / file).read_text().splitlines()) - 1 for file in files)
    return rows + sum(command.startswith("make send") for command in commands)


def test_down_and_up_keep_data_offsets_and_models(stack: Sandbox) -> None:
    deployments = (stack.settings.model_dir / "fraud" / "deployments.jsonl").read_text()
    settle(stack, 180)
    before = balance(stack)
    assert stack.run("make", "down", timeout_s=180).returncode == 0
    counts = json.loads((stack.settings.data_dir / "world" / "fraud" / "counts.json").read_text())
    started = stack.run("make", "up", timeout_s=300)
    assert started.returncode == 0, started.stdout
    assert (stack.settings.model_dir / "fraud" / "deployments.jsonl").read_text().startswith(deployments)
    assert decide_by_model(stack, payment("e2e-again", present(stack), 2_500)).action == "approve"
    events = state(stack)["loop"]["events"]
    await_that("events flow again", lambda: state(stack)["loop"]["events"] > events + 100, 60)
    settle(stack, 180)
    after = balance(stack)
    assert after["events_counted"] > before["events_counted"]
    assert after["events_counted"] == after["events_counted_most"] == after["events_archived_distinct"]
    assert sum(event["sent"] for event in counts["events"].values()) <= after["events_sent"]
