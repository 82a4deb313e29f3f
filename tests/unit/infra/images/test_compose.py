"""The containers are the native stack again: the same steps, order, commands and engines; and each is confined."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from flywheel.contracts.settings import PlatformSettings
from infra import settings_reference
from infra.images.imports import PARTS
from infra.local import broker, online_store
from infra.local.broker import Broker
from infra.local.processes import Process, Step, declaration
from tests.compose_file import ROOT, Service, is_own, is_task, mebibytes, part, services

SERVICES = services()
OWN = {name: service for name, service in SERVICES.items() if is_own(service)}
STEPS = {step.name: step for step in declaration(PlatformSettings(prometheus="off"))}
# Their images run as a user of their own.
UNPRIVILEGED_BY_IMAGE = ("apache/kafka", "prom/prometheus", "grafana/grafana")
ADDRESSES = ("listeners", "voters", "log.dirs", "security.protocol.map")
ENGINES = ("kafka", "redis")


def waited_for(name: str) -> set[str]:
    """Everything that has to be there before a service starts."""
    direct = {other for other, how in SERVICES[name].get("depends_on", {}).items() if how.get("required", True)}
    return direct | {found for other in direct for found in waited_for(other)}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_step_of_the_native_stack_has_its_container(step: Step) -> None:
    service = SERVICES[step.name]
    assert "profiles" not in service
    assert is_task(service) == (not isinstance(step, Process))
    assert set(step.after) <= waited_for(step.name)


@pytest.mark.parametrize(
    "step", [step for step in STEPS.values() if step.name not in ENGINES], ids=lambda step: step.name
)
def test_a_container_runs_what_the_native_step_runs(step: Step) -> None:
    command = SERVICES[step.name]["command"]
    native = [
        argument for argument in step.command[2:] if argument not in ("--reason", "no model of these features yet")
    ]
    # Whether training is needed is asked natively before the command, in a container by it.
    assert [argument for argument in command if argument not in ("--unless-deployed", "--timeout", "900")] == native
    assert "entrypoint" not in SERVICES[step.name]


def test_what_is_waited_for_is_waited_for_until_it_is_well_or_done() -> None:
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if is_task(SERVICES[name]) else "service_healthy"
            assert how["condition"] == done


@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if isinstance(step, Process)])
def test_a_container_is_given_the_time_to_stop_that_the_process_is_given(name: str) -> None:
    step = STEPS[name]
    assert isinstance(step, Process)
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= step.stop_within_s


@pytest.mark.parametrize("name", [name for name in SERVICES if not is_task(SERVICES[name])])
def test_what_stays_has_a_health_check_and_time_to_stop(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    assert "stop_grace_period" in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert 128 <= mebibytes(service["mem_limit"]) <= 4096
    image = service["image"].partition(":")[0]
    assert is_own(service) or "user" in service or image in UNPRIVILEGED_BY_IMAGE
    assert service.get("user") not in ("root", "0")
    assert "privileged" not in service


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in OWN])
def test_images_of_others_are_of_an_exact_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?", SERVICES[name]["image"])


def test_every_image_of_ours_is_built_once() -> None:
    built = [part(service) for service in OWN.values() if "build" in service]
    assert sorted(built) == sorted(PARTS)
    for service in OWN.values():
        assert part(service) in PARTS
        if build := service.get("build"):
            assert build["args"]["PART"] == part(service)
            assert build["target"] == ("spark-service" if part(service) == "features" else "service")
            # LightGBM's wheel brings no OpenMP.
            assert build["args"].get("LIBRARIES", "") == ("libgomp1" if part(service) == "trainer" else "")


def test_what_a_container_is_told_is_a_setting() -> None:
    tables = settings_reference.PAGE.read_text()
    known = set(re.findall(r"^\| `(FLYWHEEL_[A-Z_]+)`", tables, re.MULTILINE))
    told = {name for service in OWN.values() for name in service["environment"]}
    assert {name for name in told if name.startswith("FLYWHEEL_")} <= known


def test_the_knobs_that_make_knows_reach_the_world() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (knobs,) = re.findall(r"^\$\(foreach name,([A-Z_ ]+),\$\(eval \$\(call knob", makefile, re.MULTILINE)
    environment = SERVICES["world"]["environment"]
    assert {f"FLYWHEEL_WORLD_{name}" for name in knobs.split()} <= set(environment)
    # Without a value: handed on where they are set, absent otherwise.
    assert all(environment[f"FLYWHEEL_WORLD_{name}"] is None for name in knobs.split())


@pytest.mark.parametrize("name", [name for name in OWN if not is_task(OWN[name]) and "profiles" not in OWN[name]])
def test_a_service_is_asked_for_its_health_where_it_answers(name: str) -> None:
    environment = PlatformSettings()
    url = {
        "ingest": environment.ingest_url,
        "monitor": environment.monitor_url,
    }.get(name) or f"http://127.0.0.1:{getattr(environment, f'{name}_metrics_port')}"
    assert OWN[name]["healthcheck"]["test"][-1] == f"127.0.0.1:{urlsplit(url).port}/readyz"


def test_callers_find_who_listens() -> None:
    for setting, name in (("INGEST_URL", "ingest"), ("SERVING_ADDRESS", "serving"), ("MONITOR_URL", "monitor")):
        called = SERVICES["world"]["environment"][f"FLYWHEEL_{setting}"]
        bound = SERVICES[name]["environment"][f"FLYWHEEL_{setting}"]
        assert called == bound.replace("0.0.0.0", name)
        assert any(port.endswith(f":{bound.rpartition(':')[2]}") for port in SERVICES[name]["ports"])


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_published_ports_are_those_of_the_native_stack() -> None:
    published = {int(port.split(":")[1]) for name in STEPS for port in SERVICES[name].get("ports", [])}
    native = {port for step in STEPS.values() if isinstance(step, Process) for port in step.ports.values()}
    assert published <= native


def test_the_broker_is_set_as_natively() -> None:
    native = broker.properties(Broker(Path("kafka"), 19092, 19093))
    lines = (ROOT / "infra" / "images" / "kafka" / "server.properties").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert set(native) - set(told) == {"listeners", "advertised.listeners"}
    for name, value in native.items():
        if not any(part in name for part in ADDRESSES):
            assert told[name] == value, name
    heap = SERVICES["kafka"]["environment"]["KAFKA_HEAP_OPTS"]
    assert f"-Xmx{broker.HEAP_MIB}m" in heap
    assert mebibytes(SERVICES["kafka"]["mem_limit"]) >= 2 * broker.HEAP_MIB


def test_the_online_store_is_set_as_natively() -> None:
    command = SERVICES["redis"]["command"]
    native = " ".join(online_store.command(Path(), 6379)[1:]).partition("--appendonly")[2]
    assert native.replace("--save ", '--save ""') in command
    assert mebibytes(SERVICES["redis"]["mem_limit"]) > online_store.MAX_MEMORY_MIB


def test_every_volume_is_declared() -> None:
    declared = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == set(declared)


def test_what_is_mounted_from_the_checkout_is_there() -> None:
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    own = [parts for parts in mounted if parts[0].startswith(".")]
    assert own
    for source, _, mode in own:
        assert (ROOT / source).exists()
        assert mode == "ro"


def test_the_spark_cluster_runs_what_the_driver_runs() -> None:
    """Executors import the declaration and share the driver's files."""
    for name in ("spark-master", "spark-worker"):
        assert SERVICES[name]["image"] == SERVICES["features"]["image"]
        assert SERVICES[name]["profiles"] == ["spark-cluster"]
    worker: Service = SERVICES["spark-worker"]
    assert worker["deploy"]["replicas"] == 2
    assert worker["volumes"] == SERVICES["features"]["volumes"]
    assert SERVICES["features"]["depends_on"]["spark-worker"]["required"] is False
