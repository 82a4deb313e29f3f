"""The catalogue says of each feature what decisions, models and the drift watch say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.topics import decisions_topic
from flywheel.kernel import catalog
from services.monitor.bootstrap import Monitor
from services.monitor.contents import Contents, Entry
from tests import attribute_scene
from tests.monitor_scene import CHALLENGER, CHAMPION, LOAD_AGE_MS, MODEL, Scene
from usecases.fraud import usecase

Read = Callable[..., Contents]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    started: list[Monitor] = []

    def start(scene: Scene, decisions: int, **settings: object) -> Contents:
        chosen = {"monitor_refresh_s": 0.02, "monitor_window_least": 100, "data_dir": tmp_path, **settings}
        monitor = scene.monitor(**chosen)
        started.append(monitor)
        monitor.watch.start()
        until = time.monotonic() + 10
        while monitor.watch.state.loop.decisions < decisions or monitor.watch.state.loop.lag_records != 0:
            assert time.monotonic() < until, f"not reached; last loop: {monitor.watch.state.loop}"
            time.sleep(0.005)
        monitor.watch.stop()
        return Contents.model_validate_json(monitor.watch.catalogue_json)

    yield start
    for monitor in started:
        monitor.watch.stop()


def entry(contents: Contents, name: str) -> Entry:
    (found,) = (entry for entry in contents.features if entry.definition.name == name)
    return found


def test_without_a_model_what_is_declared_is_there(read: Read) -> None:
    scene = Scene(per_day=50)
    scene.days(0, 2)
    contents = read(scene, 100)
    assert [entry.definition.name for entry in contents.features] == list(usecase.feature_names)
    assert contents.champion is None
    assert contents.decisions == 0
    assert {(entry.values, entry.distribution, entry.drift) for entry in contents.features} == {(None, None, None)}
    assert all(entry.models == () for entry in contents.features)
    assert [event.name for event in contents.events] == ["transaction", "chargeback"]


def test_values_are_those_of_the_newest_comparable_decisions(read: Read) -> None:
    scene = Scene(per_day=600)
    scene.deploy()
    scene.days(0, 1)
    name = "card_transaction_count_1h"
    place = usecase.feature_names.index(name)
    records = scene.broker.records(decisions_topic("fraud").name)
    logged = [DecisionLogged.model_validate_json(record.value) for record in records]
    values = [decision.features[place] for decision in logged if decision.fallback == "none"][-400:]
    # One of the 600 was decided by fallback and lies among the newest.
    contents = read(scene, 600, monitor_window=401)
    found = entry(contents, name).values
    assert contents.decisions == 400
    assert found is not None
    assert found.default_share == pytest.approx(values.count(0.0) / 400)
    assert found.median == sorted(values)[200]
    assert found.null_share == 0


def test_shares_of_bins_are_of_the_numbers_and_nulls_of_all(read: Read) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 1)
    topic = decisions_topic("fraud").name
    gaps = [DecisionLogged.model_validate_json(record.value) for record in scene.broker.records(topic)[:100]]
    for logged in gaps:
        blank = logged.model_copy(
            update={"event_id": f"gap-{logged.event_id}", "features": (float("nan"), *logged.features[1:])}
        )
        scene.broker.append(topic, b"k", blank.to_bytes())
    found = entry(read(scene, 400), usecase.feature_names[0])
    assert found.values is not None
    assert found.distribution is not None
    assert found.values.null_share == pytest.approx(0.25)
    assert found.values.default_share is None
    assert sum(found.distribution.current) == pytest.approx(1)
    assert sum(found.distribution.reference) == pytest.approx(1)
    assert len(found.distribution.current) == len(found.distribution.reference) == len(found.distribution.edges) + 1


def test_of_nothing_but_nulls_nothing_is_said_but_that(read: Read) -> None:
    scene = Scene(per_day=10)
    scene.deploy()
    scene.days(0, 1)
    topic = decisions_topic("fraud").name
    for record in scene.broker.records(topic)[:10]:
        logged = DecisionLogged.model_validate_json(record.value)
        nulls = (float("nan"),) * len(logged.features)
        blank = logged.model_copy(update={"event_id": f"blank-{logged.event_id}", "features": nulls})
        scene.broker.append(topic, b"k", blank.to_bytes())
    found = entry(read(scene, 20, monitor_window=10), "hour_of_day")
    assert found.values is not None
    assert found.distribution is not None
    assert found.values.null_share == 1
    assert found.values.median is None
    assert found.distribution.current == ()


def test_models_importance_and_drift_come_with_each_feature(read: Read) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 1, amounts_times=3)
    contents = read(scene, 300)
    assert {(model.version, model.role) for model in contents.models} == {
        (CHAMPION, "champion"),
        (CHALLENGER, "challenger"),
    }
    amount = entry(contents, "amount_cents")
    assert amount.models == (0, 1)
    assert amount.importance == 0.5
    assert amount.drift is not None
    assert amount.drift.exceeds
    assert contents.freshness.bound_ms == 10_000


def test_a_version_that_reads_other_features_is_told_apart_and_a_broken_one_left_out(
    read: Read, tmp_path: Path
) -> None:
    scene = Scene(per_day=50, models=FileModelStore(tmp_path / "models"))
    scene.deploy()
    manifest, _ = scene.models.load("fraud", CHAMPION)
    narrow = manifest.model_copy(update={"version": "v0", "feature_names": ("amount_cents",)})
    scene.models.publish(narrow, MODEL)
    scene.models.publish(manifest.model_copy(update={"version": "v9"}), MODEL)
    (tmp_path / "models" / "fraud" / "v9" / "model.onnx").write_bytes(b"damaged")
    scene.days(0, 1)
    contents = read(scene, 50)
    versions = [model.version for model in contents.models]
    assert sorted(versions) == ["v0", CHAMPION, CHALLENGER]
    assert versions.index("v0") in entry(contents, "amount_cents").models
    assert versions.index("v0") not in entry(contents, "hour_of_day").models


def test_of_an_attribute_its_table_its_default_and_the_state_of_its_loads_are_told(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "load", lambda _name: attribute_scene.USECASE)
    scene = Scene(per_day=400, declared=attribute_scene.USECASE)
    scene.deploy()
    scene.days(0, 1)
    contents = read(scene, 400, monitor_window=400)
    floor = entry(contents, "terminal_floor_limit_cents")
    attribute = floor.definition.attribute
    assert attribute is not None
    assert (attribute.table, attribute.column) == ("terminal_profile", "floor_limit_cents")
    assert (attribute.entity, attribute.key, attribute.valid_for) == ("terminal", ("terminal_id",), "30 d")
    assert floor.values is not None
    # Of each fourth nothing is loaded; what is loaded may be zero, which is no default here.
    assert floor.values.default_share == pytest.approx(100 / 400)
    assert contents.freshness.statuses["terminal_profile"] == {"fresh": 300, "missing": 100}
    assert contents.freshness.load_age_p50_ms == dict.fromkeys(
        ("segments", "terminal_profile", "trust"), pytest.approx(LOAD_AGE_MS)
    )
    assert entry(contents, "over_limit").definition.attribute is None


async def test_the_page_and_its_data_are_served(tmp_path: Path) -> None:
    monitor = Scene().monitor(data_dir=tmp_path)
    async with AsyncClient(transport=ASGITransport(monitor.app), base_url="http://monitor") as client:
        page = await client.get("/catalogue")
        data = await client.get("/api/catalogue")
    assert page.status_code == 200
    assert "/*include" not in page.text
    assert "//cdn" not in page.text
    assert Contents.model_validate_json(data.content).usecase == "fraud"
    assert data.headers["cache-control"] == "no-store"
