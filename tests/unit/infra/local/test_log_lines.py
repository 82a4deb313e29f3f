"""The line of a log that tells what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.log_lines import dated_telling_line, last_line, newest_event, telling_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("starts\nKafkaException: no space left\nshutting down\n", "KafkaException: no space left"),
        (
            '{"event": "scoring", "level": "error"}\nserving cannot start: TLS needs both, a certificate and its key\n',
            "serving cannot start: TLS needs both, a certificate and its key",
        ),
        ("starts\nlistens\n\n", "listens"),
        ('Traceback (most recent call last):\n  File "x.py"\nValueError: bad port\n', "ValueError: bad port"),
        (
            '{"event": "stopped", "level": "error", "exception": "Traceback\\n  x\\nOSError: full"}\n',
            "error: stopped: OSError: full",
        ),
        ("", ""),
    ],
)
def test_trouble_is_told_before_anything_else(tmp_path: Path, text: str, line: str) -> None:
    log = tmp_path / "x.log"
    log.write_text(text)
    assert telling_line(log) == line


def test_earlier_runs_are_not_told(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("fatal: of yesterday\n")
    since = log.stat().st_size
    assert telling_line(log, since) == ""
    with log.open("a") as file:
        file.write("listens\n")
    assert telling_line(log, since) == "listens"


def test_a_rotated_log_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("new\n")
    assert last_line(log, since=10_000) == "new"


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none.log") == ""


def test_trouble_of_the_past_says_when_it_was(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('{"event": "stopped", "level": "error", "timestamp": "2026-01-02T03:04:05.678Z"}\nlistens\n')
    assert dated_telling_line(log) == "2026-01-02 03:04:05 UTC error: stopped"
    log.write_text("fatal: no date\n")
    assert dated_telling_line(log) == "fatal: no date"
    log.write_text('{"event": "starts", "timestamp": "2026-01-02T03:04:05.678Z"}\nValueError: bad port\n')
    assert dated_telling_line(log) == "after 2026-01-02 03:04:05 UTC ValueError: bad port"
    with log.open("a") as file:
        file.write("2026-01-02T03:04:06,100 ERROR of an engine\n")
    assert dated_telling_line(log) == "2026-01-02T03:04:06,100 ERROR of an engine"


CONNECTS = (
    '{"event": "<KafkaConnection node_id=bootstrap-0>: Connected", "level": "info", "logger": "kafka.net.connection"}\n'
)
FAILS = '{"event": "<KafkaConnection>: error 111", "level": "error", "logger": "kafka.net.connection"}\n'
RDKAFKA = "%3|1795306513.099|FAIL|rdkafka#producer-1| [thrd:main]: Connect to ipv4#127.0.0.1:1 failed\n"
WAITS = '{"event": "waits_for_broker", "level": "info", "logger": "services.ingest.bootstrap", "backlog": 12}\n'


def test_progress_is_told_in_the_platforms_words_and_not_in_those_of_the_brokers_clients(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(WAITS + CONNECTS + FAILS + RDKAFKA)
    assert newest_event(log)[1] == "waits for broker, backlog 12"
    log.write_text(CONNECTS + RDKAFKA)
    assert newest_event(log) == ("", "")
    log.write_text("9 topics made\n" + RDKAFKA + CONNECTS)
    assert last_line(log) == "9 topics made"


def test_trouble_is_told_in_the_platforms_words_where_it_has_any(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('{"event": "cannot start", "level": "error", "logger": "services.x"}\n' + FAILS + RDKAFKA)
    assert telling_line(log) == "error: cannot start"
    log.write_text(FAILS + "stops\n")
    assert telling_line(log) == "error: <KafkaConnection>: error 111"
