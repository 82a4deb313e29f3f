"""The configuration that supervisord gets."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local.processes import declaration, processes
from infra.local.supervision import configuration, socket_path


@pytest.fixture
def parsed(tmp_path: Path) -> configparser.RawConfigParser:
    settings = PlatformSettings(data_dir=tmp_path)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read_string(configuration(settings, processes(declaration(settings))))
    return parser


def test_every_process_is_watched_and_none_starts_by_itself(
    parsed: configparser.RawConfigParser, tmp_path: Path
) -> None:
    declared = processes(declaration(PlatformSettings(data_dir=tmp_path)))
    programs = [name for name in parsed.sections() if name.startswith("program:")]
    assert programs == [f"program:{process.name}" for process in declared]
    for process, program in zip(declared, programs, strict=True):
        assert parsed[program]["autostart"] == "false"
        assert parsed[program]["autorestart"] == "true"
        rank = ["nice", "-n", str(process.niceness)] if process.niceness else []
        assert shlex.split(parsed[program]["command"]) == [*rank, *process.command]
        assert parsed[program]["stopwaitsecs"] == str(process.stop_within_s)
        assert parsed[program]["startsecs"] == str(process.fails_within_s)


def test_a_slow_crash_loop_is_backed_off_from(parsed: configparser.RawConfigParser) -> None:
    # Without a broker features gives up after some 15 s; a busy machine needs longer.
    assert int(parsed["program:features"]["startsecs"]) >= 45


def test_a_broker_that_is_away_for_a_day_is_outlasted(parsed: configparser.RawConfigParser) -> None:
    for program in (name for name in parsed.sections() if name.startswith("program:")):
        retries = int(parsed[program]["startretries"])
        waits_s = retries * (retries + 1) // 2
        assert waits_s > 24 * 3600


def test_only_this_user_may_command_it(parsed: configparser.RawConfigParser) -> None:
    assert parsed["unix_http_server"]["chmod"] == "0700"
    assert not parsed.has_section("inet_http_server")


def test_caps_reach_the_processes(parsed: configparser.RawConfigParser) -> None:
    assert 'MALLOC_ARENA_MAX="2"' in parsed["program:serving"]["environment"]
    assert 'FLYWHEEL_SPARK_HEAP_MIB="1024"' in parsed["program:features"]["environment"]


def test_percent_signs_are_no_expansions(tmp_path: Path) -> None:
    settings = PlatformSettings(data_dir=tmp_path / "100%")
    assert "100%%/logs/kafka.log" in configuration(settings, processes(declaration(settings)))


def test_a_deep_data_directory_gets_a_socket_that_the_system_accepts(tmp_path: Path) -> None:
    shallow, deep, deeper = tmp_path, tmp_path / ("d" * 120), tmp_path / ("e" * 120)
    assert socket_path(Path("/data/run")) == Path("/data/run/supervisor.sock")
    assert len(str(socket_path(deep))) < 108
    assert len({socket_path(shallow), socket_path(deep), socket_path(deeper)}) == 3
