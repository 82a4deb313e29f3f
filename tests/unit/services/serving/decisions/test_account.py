"""Every record carries its number among its writer's and what was lost before it; every end has a series."""

from __future__ import annotations

import orjson
from prometheus_client import REGISTRY

from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.contracts.decisions import DecisionLogged
from services.serving.decisions.account import Account, NumberedLog
from tests.decided import decided


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"flywheel_serving_{name}", {"usecase": "account", **labels})


def numbered(account: Account) -> tuple[NumberedLog, MemoryDecisionLog]:
    behind = MemoryDecisionLog(on_acknowledged=account.told.acknowledged, on_lost=account.told.lost, capacity=1)
    return NumberedLog(behind, "w1", account), behind


def test_a_record_is_numbered_and_says_what_was_lost_before_it() -> None:
    log, behind = numbered(Account("account"))
    behind.away = True
    log.append_many([(b"k", b'{"a":1}'), (b"k", b'{"a":2}')])
    behind.away = False
    assert log.in_flight == 1
    behind._deliver()
    log.append_many([(b"l", b'{"a":3}')])
    assert [(key, orjson.loads(value)) for key, value in behind.records] == [
        (b"k", {"a": 1, "writer": "w1", "sequence": 1, "lost_before": 0}),
        (b"l", {"a": 3, "writer": "w1", "sequence": 3, "lost_before": 1}),
    ]


def test_a_numbered_decision_reads_as_one() -> None:
    made = decided()
    log, behind = numbered(Account("account"))
    log.append_many([(b"k", made.to_bytes())])
    read = DecisionLogged.model_validate_json(behind.records[0][1])
    assert read == made.logged().model_copy(update={"writer": "w1", "sequence": 1})


def test_each_end_has_a_series_before_it_happens() -> None:
    told = Account("account").told
    for reason in ("queue_full", "undelivered", "refused", "shutdown", "damaged"):
        assert sample("log_lost_total", reason=reason) is not None
    before = sample("log_unprotected_total", reason="full") or 0.0
    told.unprotected("full", 3)
    assert sample("log_unprotected_total", reason="full") == before + 3
    acknowledged = sample("log_acknowledged_total") or 0.0
    told.acknowledged()
    told.replayed()
    assert sample("log_acknowledged_total") == acknowledged + 1
    assert sample("log_replayed_total")


def test_a_lost_record_of_an_earlier_process_is_no_loss_of_this_writer() -> None:
    account = Account("account")
    before = sample("log_lost_total", reason="inherited") or 0.0
    account.told.lost("inherited")
    account.told.lost("damaged")
    assert account.lost == 1
    assert sample("log_lost_total", reason="inherited") == before + 1
