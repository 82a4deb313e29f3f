"""The declaration of what runs: complete, in order, movable by settings alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.contracts.settings import PlatformSettings
from infra.local.down import layers
from infra.local.processes import Step, Task, declaration, environment, processes
from services.serving.settings import ServingSettings
from tests.serving_parts import deploy, publish


@pytest.fixture(autouse=True)
def _without_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this machine has one decides nothing here."""
    monkeypatch.setenv("FLYWHEEL_PROMETHEUS", "off")


@pytest.fixture
def steps(tmp_path: Path) -> tuple[Step, ...]:
    return declaration(PlatformSettings(data_dir=tmp_path))


def test_each_step_comes_after_those_it_waits_for(steps: tuple[Step, ...]) -> None:
    seen: set[str] = set()
    for step in steps:
        assert seen.issuperset(step.after), step.name
        assert step.name not in seen
        seen.add(step.name)


def test_the_loop_is_closed_before_live_traffic(steps: tuple[Step, ...]) -> None:
    before = waited_for("world", {step.name: step.after for step in steps})
    assert before == {step.name for step in steps} - {"world"}


def test_stopping_goes_against_the_order_of_starting(steps: tuple[Step, ...]) -> None:
    order = [process.name for layer in layers(steps) for process in layer]
    assert order[0] == "world"
    assert set(order[-2:]) == {"kafka", "redis"}
    position = {name: index for index, name in enumerate(order)}
    for process in processes(steps):
        for name in set(process.after) & set(position):
            assert position[process.name] < position[name]


def test_every_port_belongs_to_one_process(steps: tuple[Step, ...]) -> None:
    ports = [port for process in processes(steps) for port in process.ports.values()]
    assert len(ports) == len(set(ports)) == 12


def test_two_stacks_share_no_port_when_settings_say_so(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    other = PlatformSettings(
        data_dir=tmp_path / "other",
        kafka_bootstrap="127.0.0.1:29092",
        redis_url="redis://127.0.0.1:26379/0",
        ingest_url="http://127.0.0.1:28081",
        monitor_url="http://127.0.0.1:28080",
        serving_address="127.0.0.1:25051",
        serving_rest_address="127.0.0.1:28082",
        features_metrics_port=29101,
        edge_metrics_port=29105,
        serving_metrics_port=29102,
        trainer_metrics_port=29103,
        world_metrics_port=29104,
    )
    assert ports_of(steps).isdisjoint(ports_of(declaration(other)))


def test_data_is_found_from_any_directory(
    steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = PlatformSettings(data_dir=Path("here"))
    assert environment(steps[0], settings)["FLYWHEEL_DATA_DIR"] == str(tmp_path / "here")


def test_training_is_needed_until_a_model_of_the_declared_features_is_deployed(
    tmp_path: Path, steps: tuple[Step, ...]
) -> None:
    (training,) = [step for step in steps if step.name == "training"]
    assert isinstance(training, Task)
    assert training.needed()
    store = FileModelStore(tmp_path / "models")
    publish(store, "of-others", feature_fingerprint="0" * 16)
    deploy(store, "of-others")
    assert training.needed()
    publish(store, "of-these")
    deploy(store, "of-these")
    assert not training.needed()


def test_a_redis_cluster_is_a_process_for_each_address_and_is_waited_for_as_a_whole(
    tmp_path: Path, steps: tuple[Step, ...]
) -> None:
    url = "redis+cluster://127.0.0.1:17001,127.0.0.1:17002,127.0.0.1:17003"
    clustered = declaration(PlatformSettings(data_dir=tmp_path, redis_url=url))
    nodes = [process for process in processes(clustered) if process.name.startswith("redis")]
    assert [(node.name, set(node.ports.values())) for node in nodes] == [
        (f"redis-{place}", {17_000 + place, 27_000 + place}) for place in (1, 2, 3)
    ]
    after = {step.name: step.after for step in clustered}
    assert after["redis-cluster"] == ("redis-1", "redis-2", "redis-3")
    waiting = {step.name for step in steps if "redis" in step.after}
    assert waiting == {name for name, names in after.items() if "redis-cluster" in names}
    assert {"features", "edge", "serving", "feast"} <= waiting


def ports_of(steps: tuple[Step, ...]) -> set[int]:
    return {port for process in processes(steps) for port in process.ports.values()}


def waited_for(name: str, after: dict[str, tuple[str, ...]]) -> set[str]:
    return {found for direct in after[name] for found in {direct, *waited_for(direct, after)}}


def test_serving_is_given_the_time_that_its_workers_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_SERVING_DRAIN_S", "30")
    serving = next(process for process in processes(declaration(PlatformSettings())) if process.name == "serving")
    assert serving.stop_within_s > ServingSettings().stop_within_s > 60
