"""Attributes on a real broker, Redis and Feast: loaded from a file, read by decisions and by Feast, erased."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flywheel.adapters import feast_fold
from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.feast_repo import apply_declaration, online_service, open_store
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.client import commands, erased_files
from flywheel.client.attributes import LoadReport, load, rows_in
from flywheel.client.commands import main
from flywheel.client.erasure import Erasure
from flywheel.client.errors import ClientError
from flywheel.contracts.events import from_us, to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import decisions_topic, parity_topic
from flywheel.kernel import catalog
from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeTable
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.hydration import Hydrator, Subject
from flywheel.kernel.ports import Lane, Record, StoreProgress
from services.features.parity.bootstrap import Parity
from services.features.settings import FeaturesSettings
from tests.archived_events import archive_events
from tests.attribute_scene import PLAN, PROFILE, PROFILE_DEFAULT, SEGMENTS, TRUST, USECASE, VALID_US
from tests.decision_rows import decided
from tests.feast_warnings import FEAST_WARNS
from tests.features_stack import Stack, engines
from usecases.fraud.events import Transaction

pytestmark = pytest.mark.engine

AT = datetime(2018, 6, 1, tzinfo=UTC)
ON_ITS_WAY = timedelta(microseconds=ONLINE_WITHIN_US)
FLOOR = "terminal_floor_limit_cents"
KEY = EraseKey(b"secret", USECASE.name)


def quiet(_line: str) -> None: ...


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with engines(tmp_path_factory.mktemp("attributes")) as started:
        with closing(RedisFeatureWriter(started.redis_url, PLAN)) as writer:
            # As the edge's process does: what is not in the store is then known not to be there.
            writer.absorb({0: 0}, None)
            writer.report(Lane.EDGE, StoreProgress(to_us(AT), to_us(AT)))
        yield started


def loaded(stack: Stack, table: AttributeTable, text: str) -> LoadReport:
    file = stack.data / f"{table.name}.csv"
    file.write_text(text)
    rows = rows_in(file, table, AT - timedelta(days=1), datetime.now(UTC), quiet)
    return load(USECASE, table, rows, stack.settings(), quiet)


def request(terminal: str, event_id: str = "tx", card: str = "c1") -> Transaction:
    return Transaction(event_id=event_id, event_time=AT, card_id=card, terminal_id=terminal, amount_cents=6_000)


def served(stack: Stack, event: Transaction) -> tuple[np.ndarray, dict[str, str]]:
    """The model's row and the statuses, as serving makes them."""

    async def read() -> tuple[np.ndarray, dict[str, str]]:
        reader, hydrator = RedisFeatureReader(stack.redis_url, PLAN), Hydrator(USECASE)
        try:
            subjects = [Subject(event)]
            hydrated = hydrator.hydrate(subjects, await reader.read(hydrator.question(subjects), 5.0), to_us(AT))
            return hydrated.rows[0], dict(hydrated.statuses(0))
        finally:
            await reader.close()

    return asyncio.run(read())


def value(stack: Stack, terminal: str, name: str) -> tuple[float, str]:
    row, status = served(stack, request(terminal))
    return float(row[USECASE.feature_names.index(name)]), status[PROFILE.name]


@pytest.mark.usefixtures("feast_environment")
@FEAST_WARNS
def test_a_file_is_loaded_and_read_alike_by_decisions_feast_and_training(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = from_us(to_us(AT) - VALID_US - 1).isoformat()
    said = loaded(
        stack,
        PROFILE,
        "terminal_id,floor_limit_cents,opened_days,as_of\n"
        f"fresh,5000,400,\nnull,,12,\nexpired,7000,3,{expired}\nlater,8000,3,2018-06-02T00:00:00Z\n",
    )
    assert str(said) == "terminal_profile: 4 rows loaded; the newest of 4 entities are online"
    loaded(stack, TRUST, "terminal_id,card_id,share\nfresh,c1,0.25\n")
    assert value(stack, "fresh", "terminal_floor_limit_cents") == (5_000.0, "fresh")
    assert value(stack, "null", "terminal_floor_limit_cents") == (PROFILE_DEFAULT, "fresh")
    assert value(stack, "expired", "terminal_floor_limit_cents") == (PROFILE_DEFAULT, "stale")
    assert value(stack, "later", "terminal_floor_limit_cents") == (PROFILE_DEFAULT, "stale")
    assert value(stack, "never", "terminal_floor_limit_cents") == (PROFILE_DEFAULT, "missing")

    terminals = ["fresh", "null", "expired", "later", "never"]
    events = [request(terminal, f"tx-{terminal}") for terminal in terminals]
    expected = np.vstack([served(stack, event)[0] for event in events])
    monkeypatch.setattr(catalog, "load", lambda _name: USECASE)
    feast_fold._compiled.cache_clear()
    settings = stack.settings()
    apply_declaration(settings, PLAN)
    store = open_store(settings, PLAN)
    rows = [
        {
            "card_id": event.card_id,
            "terminal_id": event.terminal_id,
            "request_event_id": event.event_id,
            "request_event_time_us": event.event_time_us,
            "request_amount_cents": event.amount_cents,
            "request_card_id": event.card_id,
            "request_terminal_id": event.terminal_id,
        }
        for event in events
    ]
    answer = store.get_online_features(
        features=store.get_feature_service(online_service("fraud")), entity_rows=rows
    ).to_dict()
    feast_fold._compiled.cache_clear()
    found = np.column_stack([answer[name] for name in USECASE.feature_names]).astype(np.float32)
    assert np.array_equal(found, expected)

    history = store.get_historical_features(
        entity_df=pd.DataFrame({"terminal_id": terminals, "event_timestamp": [pd.Timestamp(AT)] * len(terminals)}),
        features=[f"fraud_terminal_profile:{PROFILE.stored_name('floor_limit_cents')}"],
    ).to_df()
    of_feast = dict(zip(history["terminal_id"], history[PROFILE.stored_name("floor_limit_cents")], strict=True))
    ours = known(settings, terminals)
    assert {name: PROFILE_DEFAULT if np.isnan(limit) else limit for name, limit in of_feast.items()} == ours
    assert ours == dict(
        zip(terminals, expected[:, USECASE.feature_names.index("terminal_floor_limit_cents")], strict=True)
    )


def known(settings: PlatformSettings, terminals: list[str]) -> dict[str, float]:
    """As training has them."""
    moment = pa.timestamp("us", "UTC")
    requests = pa.table(
        {
            "terminal_id": terminals,
            "event_timestamp": pa.array([AT] * len(terminals), moment),
            "ingest_time": pa.array([datetime.now(UTC) + ON_ITS_WAY] * len(terminals), moment),
            "backfilled": [False] * len(terminals),
        }
    )
    lake = AttributeLake(settings.lake_dir / "fraud", JoinLimits(64, settings.data_dir / "spill"))
    found = lake.known_at(requests, (PROFILE,))
    return dict(zip(terminals, found["terminal_floor_limit_cents"].to_pylist(), strict=True))


def test_whoever_is_erased_goes_and_does_not_come_back_with_the_same_file(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "terminal_id,floor_limit_cents,opened_days\ngone,5000,\nstays,6000,\n"
    loaded(stack, PROFILE, rows)
    loaded(stack, TRUST, "terminal_id,card_id,share\ngone,c1,0.25\n")
    subject = erased_files.Subject.named(USECASE, "terminal", ["gone"])
    report = Erasure(subject, stack.settings(), at=datetime.now(UTC), by="test").run()
    assert report.removed["online store"] == 2
    assert report.removed["lake: attribute_tables"] == 2
    monkeypatch.setattr(catalog, "load", lambda _name: USECASE)
    for name in ("data_dir", "redis_url", "kafka_bootstrap"):
        monkeypatch.setenv(f"FLYWHEEL_{name.upper()}", str(getattr(stack.settings(), name)))

    async def wall(*_: object) -> datetime:
        return datetime.now(UTC)

    # Without a played world the stream is where the wall's clock is, which is after the erasure.
    monkeypatch.setattr(commands, "_present", wall)
    assert main(["attributes", USECASE.name, PROFILE.name, str(stack.data / "terminal_profile.csv")]) == 0
    assert "terminal_profile: 1 row loaded, 1 of erased entities left out" in capsys.readouterr().out
    assert value(stack, "gone", "terminal_floor_limit_cents") == (PROFILE_DEFAULT, "missing")
    assert value(stack, "stays", "terminal_floor_limit_cents") == (PROFILE_DEFAULT, "stale")


def test_a_store_that_is_away_leaves_the_load_in_the_lake_and_says_so(stack: Stack, tmp_path: Path) -> None:
    away = stack.settings().model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "data_dir": tmp_path})
    file = tmp_path / "segments.csv"
    file.write_text("card_id,rank\nc1,3\n")
    rows = rows_in(file, SEGMENTS, AT, datetime.now(UTC), quiet)
    with pytest.raises(ClientError, match=r"kept in the lake, but not all of it online: .*give the command again"):
        load(USECASE, SEGMENTS, rows, away, quiet)
    lake = AttributeLake(tmp_path / "lake" / "fraud", JoinLimits(64, tmp_path / "spill"))
    assert [row.key for found in lake.newest(SEGMENTS) for row in found] == [("c1",)]


def test_the_parity_job_finds_right_what_was_loaded_and_a_spoilt_value_by_name(stack: Stack) -> None:
    loaded(stack, PROFILE, "terminal_id,floor_limit_cents,opened_days\nparity,5000,400\n")
    # By then whatever was loaded just now has long come online.
    decided_at = datetime.now(UTC) + 2 * timedelta(microseconds=ONLINE_WITHIN_US)
    event = request("parity", "tx-parity")
    archive_events(stack.data / "lake" / USECASE.name, {event: to_us(AT)})
    row, status = served(stack, event)
    about = {"decided_at": decided_at, "feature_names": USECASE.feature_names, "feature_status": status}
    right = decided(event.event_id, AT, row.tolist(), **about)
    settings = FeaturesSettings(
        data_dir=stack.data,
        redis_url=stack.redis_url,
        kafka_bootstrap=stack.bootstrap,
        parity_every_s=1e-6,
        parity_settle_s=0,
    )
    create_topics(stack.bootstrap, [decisions_topic(USECASE.name), parity_topic(USECASE.name)])
    for logged, wrong in (right, []), (right.model_copy(update={"features": spoilt(right.features)}), [FLOOR]):
        parity = Parity.assemble(settings, PLAN, MemoryErasures(KEY), lambda: 2**62)
        try:
            parity.watch.step([Record("decisions", 0, 0, None, logged.to_bytes())])
        finally:
            parity.close()
        found = parity.watch.latest
        assert found is not None
        assert (found.values, found.undecidable) == (len(USECASE.retrieved), 0)
        assert [each.feature for each in found.mismatched] == wrong


def spoilt(features: tuple[float, ...]) -> tuple[float, ...]:
    place = USECASE.feature_names.index(FLOOR)
    return tuple(value + (number == place) for number, value in enumerate(features))
