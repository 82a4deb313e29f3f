"""What is set is checked before anything is started: all that is wrong at once, by name, reason and way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.local import places
from infra.local.console import Console
from infra.local.failures import CannotStart
from infra.local.settings_check import check, declared, read_platform, unknown
from infra.local.up import up


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("FLYWHEEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLYWHEEL_DATA_DIR", str(tmp_path / "data"))


def told(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    for name, value in settings.items():
        monkeypatch.setenv(f"FLYWHEEL_{name}", value)
    with pytest.raises(CannotStart) as refused:
        check(read_platform())
    return str(refused.value)


def test_the_defaults_are_fine() -> None:
    settings = read_platform()
    check(settings)
    assert list(unknown(declared(settings))) == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SERVING_WORKERS", "0", "input should be greater than 0, unlike '0'"),
        ("SPARK_HEAP_MIB", "lots", "unable to parse string as an integer, unlike 'lots'"),
        ("TRAINING_JOIN", "sql", "input should be 'duckdb' or 'feast', unlike 'sql'"),
        ("MONITOR_AUC_DROP", "2", "input should be less than 1"),
        ("INGEST_MAX_BATCH_EVENTS", "-1", "input should be greater than 0"),
        ("INGEST_USECASES", "fraud", 'a list is written ["one", "another"]'),
        ("LOG_LEVEL", "LOUD", "none of DEBUG, INFO, WARNING, ERROR"),
        ("MONITOR_URL", "127.0.0.1:8080", "is no http://host:port"),
        ("REDIS_URL", "redis://127.0.0.1:99999/0", "is no redis://host:port"),
        ("REDIS_URL", "redis+cluster://127.0.0.1:7000,127.0.0.1:x", "is no redis+cluster://host:port"),
        ("REDIS_URL", "redis+cluster://127.0.0.1:60000", "at its port + 10000; there is none so large"),
        ("SERVING_ADDRESS", "localhost", "'localhost' is no host:port"),
        ("KAFKA_BOOTSTRAP", "127.0.0.1:1,b", "'b' is no host:port"),
        ("EDGE_METRICS_PORT", "0", "0 is no port"),
        ("WORLD_RATE", "-1", "Input should be greater than 0"),
        ("SERVING_TLS_KEY", "none.pem", "TLS needs both"),
    ],
)
def test_a_wrong_setting_of_any_process_is_named_with_its_reason(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = told(monkeypatch, **{name: value})
    assert f"FLYWHEEL_{name}" in sentence
    assert reason in sentence
    assert "unset them for their defaults" in sentence


def test_all_that_is_wrong_is_told_at_once_and_a_password_never(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = told(monkeypatch, SERVING_WORKERS="x", TILES_TRIGGER_MS="y", MONITOR_WINDOW="1")
    assert sentence.count("\n  FLYWHEEL_") == 3
    for name in ("SERVING_WORKERS", "TILES_TRIGGER_MS", "MONITOR_WINDOW"):
        monkeypatch.delenv(f"FLYWHEEL_{name}")
    assert "secret" not in told(monkeypatch, REDIS_URL="redis://:secret@nowhere/0")
    assert "secret" not in told(monkeypatch, REDIS_URL="redis+cluster://:secret@nowhere:1,:2")


def test_two_processes_cannot_have_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = told(monkeypatch, TRAINER_METRICS_PORT="9102")
    assert "FLYWHEEL_TRAINER_METRICS_PORT and FLYWHEEL_SERVING_METRICS_PORT: each needs a port of its own" in sentence


def test_an_unknown_use_case_is_told_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fraud" in told(monkeypatch, USECASE="fruad")


def test_names_that_are_no_setting_are_told_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_SERVING_WORKER", "2")
    monkeypatch.setenv("FLYWHEEL_WORLD_RATE", "20")
    Path(".env").write_text("FLYWHEEL_NONSENSE=1\nFLYWHEEL_LOG_LEVEL=INFO\nOTHER=1\n")
    assert list(unknown(declared(read_platform()))) == [
        "FLYWHEEL_NONSENSE is no setting and changes nothing",
        "FLYWHEEL_SERVING_WORKER is no setting and changes nothing; is FLYWHEEL_SERVING_WORKERS meant?",
    ]


def test_up_does_nothing_where_a_setting_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_platform()
    monkeypatch.setenv("FLYWHEEL_MONITOR_WINDOW", "none")
    with pytest.raises(CannotStart, match="FLYWHEEL_MONITOR_WINDOW"):
        up(settings, Console())
    assert not places.run_dir(settings).exists()
