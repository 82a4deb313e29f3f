"""History and live play: nothing is skipped or repeated over restarts, and serving's failures stop no event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from flywheel.client.deliveries import Deliveries
from flywheel.client.errors import ClientError, ServingUnreachable
from flywheel.client.history import BATCH_EVENTS, BATCH_SPAN_US, load_history
from flywheel.client.ledger import Ledger
from flywheel.client.live import Decider, LivePlay
from flywheel.client.sender import Sender
from flywheel.client.world_driver import build_world, drive_world, knobs_from_environment
from flywheel.contracts.proto.decision_pb2 import DecideResponse
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from flywheel.kernel.world import World, WorldKnobs
from usecases.fraud.world import Knobs

KNOBS = WorldKnobs(late_share=0.2, duplicate_share=0.1, malformed_share=0.1, history_days=5)
A_DAY_IN_60_MS = 86_400 / 0.06


def everything(world: World, first: int, last: int) -> list[str]:
    """Ids of what is to be accepted on those days, in order of delivery."""
    deliveries = Deliveries(world, KNOBS, "transaction")
    days = [deliveries.of_day(number)[0] for number in range(first, last)]
    return [str(d.fields["event_id"]) for day in days for d in day if d.sends and d.kind != "malformed"]


async def load(world: World, ingest: Any, directory: Path, days: int = 5) -> tuple[list[str], Ledger]:
    ledger = Ledger(directory, KNOBS)
    lines: list[str] = []
    try:
        sender = Sender(ingest.client(), ledger, "fraud")
        await load_history(Deliveries(world, KNOBS, "transaction"), days, sender, ledger, report=lines.append)
    finally:
        ledger.close()
    return lines, ledger


async def test_history_is_sent_whole_and_counted(world: World, ingest: Any, tmp_path: Path) -> None:
    lines, _ = await load(world, ingest, tmp_path)
    assert sorted(ingest.ids) == sorted(everything(world, 0, 5))
    for prefix in ("tx-", "cb-"):
        arrived = [name for name in ingest.ids if name.startswith(prefix)]
        assert arrived == [name for name in everything(world, 0, 5) if name.startswith(prefix)]
    counts = orjson.loads((tmp_path / "counts.json").read_bytes())["events"]
    assert sum(count["accepted"] for count in counts.values()) == len(ingest.kept)
    for count in counts.values():
        assert count["sent"] == count["accepted"] + count["rejected"]
        assert count["rejected"] == count["malformed"]
    assert counts["transaction"]["late"] > 0
    assert "100%" in lines[-1]
    assert all(ingest.backfilled)


async def test_loading_again_sends_nothing(world: World, ingest: Any, tmp_path: Path) -> None:
    await load(world, ingest, tmp_path)
    before = list(ingest.ids)
    lines, _ = await load(world, ingest, tmp_path)
    assert ingest.ids == before
    assert "loaded before" in lines[-1]


async def test_a_crash_between_answer_and_bookkeeping_repeats_one_batch_and_skips_none(
    world: World, ingest: Any, tmp_path: Path
) -> None:
    ingest.keep_despite_failure = True
    ingest.failures = [None, None, None, ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await load(world, ingest, tmp_path)
    sent_before = len(ingest.ids)
    assert 0 < sent_before < len(everything(world, 0, 5))
    await load(world, ingest, tmp_path)
    assert set(ingest.ids) == set(everything(world, 0, 5))
    counts = orjson.loads((tmp_path / "counts.json").read_bytes())["events"]
    assert sum(count["accepted"] for count in counts.values()) == len(everything(world, 0, 5))


async def test_an_outage_delays_history_and_loses_nothing(world: World, ingest: Any, tmp_path: Path) -> None:
    ingest.failures = [503, httpx.ConnectError("refused"), 503]
    _, ledger = await load(world, ingest, tmp_path)
    assert sorted(ingest.ids) == sorted(everything(world, 0, 5))
    assert ledger.resent_batches == 3


async def test_truth_is_written_aside(world: World, ingest: Any, tmp_path: Path) -> None:
    await load(world, ingest, tmp_path, days=2)
    lines = (tmp_path / "truth" / "day-00001.jsonl").read_text().splitlines()
    assert [orjson.loads(line) for line in lines] == [{"event_id": "tx-1-0", "cause": "made_up"}]
    assert not any("cause" in item for _, item in ingest.kept)


class Approving:
    """Approves everything it is asked about; may be away, may be slow."""

    def __init__(self, ingest: Any, *, away: bool = False) -> None:
        self.ingest = ingest
        self.away = away
        self.asked: list[str] = []
        self.too_late: list[str] = []

    async def decide(self, usecase: str, event: Mapping[str, Any]) -> DecideResponse:
        assert usecase == "fraud"
        self.asked.append(str(event["event_id"]))
        if event["event_id"] in self.ingest.ids:
            self.too_late.append(str(event["event_id"]))
        await asyncio.sleep(0)
        if self.away:
            raise ServingUnreachable("127.0.0.1:1", "no connection")
        return DecideResponse(action="approve")


async def play(
    world: World, ingest: Any, directory: Path, decider: Decider | None, *, until: int, speed: float = A_DAY_IN_60_MS
) -> Ledger:
    """Plays live until that many events are kept, then stops in the ordinary way."""
    ledger = Ledger(directory, KNOBS)
    live = LivePlay(
        Deliveries(world, KNOBS, "transaction"),
        Sender(ingest.client(), ledger, "fraud"),
        ledger,
        decider,
        usecase="fraud",
        speed=speed,
        queued=100,
    )
    ingest.on_request = lambda: live.stop() if len(ingest.kept) >= until else None
    try:
        async with asyncio.timeout(20):
            await live.run()
    finally:
        ledger.close()
    return ledger


async def test_live_play_continues_where_it_stopped(world: World, ingest: Any, tmp_path: Path) -> None:
    decider = Approving(ingest)
    for until in (10, 40, 80):
        ledger = await play(world, ingest, tmp_path, decider, until=until)
    expected = everything(world, 0, ledger.day + 1)
    assert len(ingest.ids) >= 80
    for name in ("tx", "cb"):
        arrived = [i for i in ingest.ids if i.startswith(name)]
        assert arrived == [i for i in expected if i.startswith(name)][: len(arrived)]
    assert not any(ingest.backfilled)
    assert len(decider.asked) == len(set(decider.asked)) == ledger.decisions["approve"]
    assert decider.too_late == []


async def test_events_go_on_while_serving_is_away(world: World, ingest: Any, tmp_path: Path) -> None:
    ledger = await play(world, ingest, tmp_path, Approving(ingest, away=True), until=50)
    assert len(ingest.ids) >= 50
    assert ledger.decisions.keys() == {"failed"}


async def test_live_play_survives_an_outage_of_ingest(world: World, ingest: Any, tmp_path: Path) -> None:
    ingest.failures = [503, 503, httpx.ConnectError("refused")]
    ledger = await play(world, ingest, tmp_path, None, until=30)
    expected = everything(world, 0, ledger.day + 1)
    assert sorted(ingest.ids) == sorted(expected[: len(ingest.ids)])


async def test_an_error_ends_the_play_as_itself(world: World, ingest: Any, tmp_path: Path) -> None:
    ingest.failures = [404]
    with pytest.raises(ClientError, match="404"):
        await play(world, ingest, tmp_path, None, until=30)


def test_a_world_is_played_by_one_process_at_a_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, KNOBS)
    with pytest.raises(ClientError, match="already being played"):
        Ledger(tmp_path, KNOBS)
    ledger.close()
    Ledger(tmp_path, KNOBS).close()


def test_other_knobs_do_not_continue_a_world_but_rate_and_drift_may_change(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, KNOBS)
    ledger.advance(1, 2, 3)
    ledger.close()
    with pytest.raises(ClientError, match="seed"):
        Ledger(tmp_path, KNOBS.model_copy(update={"seed": 1}))
    again = Ledger(tmp_path, KNOBS.model_copy(update={"rate": 7.0, "drift_day": 3}))
    assert (again.day, again.index, again.event_time_us) == (1, 2, 3)
    again.close()


def test_knobs_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_WORLD_CUSTOMERS", "50")
    monkeypatch.setenv("FLYWHEEL_WORLD_DRIFT_KIND", "amounts")
    knobs = knobs_from_environment(Knobs)
    assert isinstance(knobs, Knobs)
    assert (knobs.customers, knobs.terminal_count, knobs.drift_kind) == (50, 100, "amounts")
    monkeypatch.setenv("FLYWHEEL_WORLD_RATE", "-1")
    with pytest.raises(ClientError, match="FLYWHEEL_WORLD_RATE: "):
        knobs_from_environment(Knobs)


def test_the_declared_world_is_built_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_WORLD_CUSTOMERS", "50")
    world, knobs = build_world(catalog.load("fraud"))
    assert world.day(0).events
    assert knobs.history_days == 60


def test_loading_history_beside_the_playing_world_is_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PlatformSettings(data_dir=tmp_path)
    playing = Ledger(tmp_path / "world" / "fraud", knobs_from_environment(Knobs))
    try:
        drive_world("fraud", settings, history_only=True)
        assert "played already" in capsys.readouterr().out
        with pytest.raises(ClientError, match="already being played"):
            drive_world("fraud", settings, history_only=False)
    finally:
        playing.close()


async def test_no_batch_of_history_spans_more_than_lateness_forgives(world: World, tmp_path: Path) -> None:
    spans: list[int] = []

    class Watching(Sender):
        async def send(self, deliveries: Any, *, backfilled: bool = False) -> int:
            assert backfilled
            batch = list(deliveries)
            assert len(batch) <= BATCH_EVENTS
            spans.append(batch[-1].at_us - batch[0].at_us)
            return len(batch)

    ledger = Ledger(tmp_path, KNOBS)
    try:
        watching = Watching(None, ledger, "fraud")  # type: ignore[arg-type]
        await load_history(Deliveries(world, KNOBS, "transaction"), 5, watching, ledger, report=lambda _: None)
    finally:
        ledger.close()
    assert 0 < max(spans) <= BATCH_SPAN_US
    assert len(spans) >= 5 * 4
