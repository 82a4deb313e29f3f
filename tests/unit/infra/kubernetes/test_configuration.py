"""Processes in pods find settings that exist, with values that they take, and commands that run."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flywheel.client.commands import _parser
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.world import WorldKnobs
from infra.kubernetes import configuration
from infra.kubernetes.configuration import ON_CLUSTERS, UnknownSetting, check, rendered
from infra.kubernetes.rendering import Resource
from infra.settings_reference import SETTINGS
from tests.kubernetes_manifests import OVERLAYS, configured, every_container, is_ours, objects, of_kind

# What the images' programs read beside our settings.
OTHERS = {
    "HOME",
    "OMP_NUM_THREADS",
    "FEAST_USAGE",
    "MLFLOW_DISABLE_TELEMETRY",
    "PYTHONPATH",
    "POD_IP",
    "SPARK_DAEMON_MEMORY",
    "SPARK_MASTER_OPTS",
    "SPARK_LOCAL_IP",
    "SPARK_LOCAL_HOSTNAME",
    "SPARK_LOCAL_DIRS",
}
OURS = [
    pytest.param(overlay, container, id=f"{overlay}-{name}-{container['name']}")
    for overlay in OVERLAYS
    for name, container in every_container(overlay)
    if is_ours(container)
]
COMMANDS = [pytest.param(*parameters.values[1:], id=parameters.id) for parameters in OURS]


def settings_of(container: Resource) -> type[PlatformSettings]:
    """The settings that a container's process reads."""
    module = container.get("args", ["python"])[0]
    service = module.removeprefix("services.")
    return SETTINGS.get(service, PlatformSettings) if module.startswith("services.") else PlatformSettings


@pytest.mark.parametrize("part", ON_CLUSTERS)
def test_files_are_what_the_command_writes(part: str) -> None:
    assert (configuration.BASE / "config" / f"{part}.env").read_text() == rendered(part)


def test_every_file_is_written_by_the_command() -> None:
    assert {path.stem for path in (configuration.BASE / "config").iterdir()} == set(ON_CLUSTERS)


def test_a_setting_that_does_not_exist_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "ON_CLUSTERS", {"serving": {"serving_drian_s": "5"}})
    with pytest.raises(UnknownSetting, match="serving_drian_s"):
        rendered("serving")


def test_a_value_that_would_be_refused_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "ON_CLUSTERS", {"serving": {"serving_workers": "none"}})
    with pytest.raises(ValueError, match="serving_workers"):
        rendered("serving")


@pytest.mark.parametrize(("overlay", "container"), OURS)
def test_every_variable_is_a_setting_of_its_process(overlay: str, container: Resource) -> None:
    environment = configured(overlay, container)
    plays = "world" in container["args"] if "args" in container else False
    knobs = {f"FLYWHEEL_WORLD_{knob.upper()}" for knob in WorldKnobs.model_fields} if plays else set()
    ours = {key: value for key, value in environment.items() if key.startswith("FLYWHEEL_")}
    check(settings_of(container), {key: value for key, value in ours.items() if key not in knobs})
    assert environment.keys() - ours.keys() <= OTHERS


@pytest.mark.parametrize("container", COMMANDS)
def test_every_command_runs_something(container: Resource) -> None:
    if "command" not in container:
        # The image's entry point is `python -m`.
        module, *arguments = container["args"]
        found = importlib.util.find_spec(f"{module}.__main__")
        assert found is not None
        if module == "flywheel":
            _parser().parse_args([each.replace("$(FLYWHEEL_USECASE)", "fraud") for each in arguments])
        else:
            assert arguments in ([], ["apply"])
        return
    program, *rest = container["command"]
    assert shutil.which(program, path=str(Path(sys.executable).parent))
    if program == "python":
        compile(rest[1], "command", "exec")


@pytest.mark.parametrize(("overlay", "container"), OURS)
def test_addresses_lead_to_services(overlay: str, container: Resource) -> None:
    environment = configured(overlay, container)
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(overlay, "Service")}
    for key in ("INGEST_URL", "SERVING_ADDRESS", "SERVING_REST_ADDRESS", "MONITOR_URL"):
        if f"FLYWHEEL_{key}" in environment:
            address = environment[f"FLYWHEEL_{key}"]
            parts = urlsplit(address if "//" in address else f"//{address}")
            service = key.partition("_")[0].lower()
            listens = container["name"] == service
            assert parts.hostname == ("0.0.0.0" if listens else service)
            assert parts.port in {port["port"] for port in services[service]["ports"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_referred_to_is_there(overlay: str) -> None:
    names = {kind: {one["metadata"]["name"] for one in of_kind(overlay, kind)} for kind in ("ConfigMap", "Secret")}
    keys = {"redis-url", "pseudonym-key", "erasure-key"}
    for name, container in every_container(overlay):
        for source in container.get("envFrom", ()):
            assert source["configMapRef"]["name"] in names["ConfigMap"], name
        for entry in container.get("env", ()):
            if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["name"] == "flywheel"
                assert reference["key"] in keys
    assert names["Secret"] == ({"flywheel"} if overlay == "local" else set())
    for secret in of_kind(overlay, "Secret"):
        assert set(secret["stringData"]) == keys


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_never_written_down(overlay: str) -> None:
    for _, container in every_container(overlay):
        for entry in container.get("env", ()):
            assert "value" not in entry or not entry["name"].endswith(("_KEY", "REDIS_URL")), entry
    for one in objects(overlay):
        if one["kind"] == "ConfigMap":
            assert not [key for key in one["data"] if key.endswith(("PSEUDONYM_KEY", "ERASURE_KEY", "REDIS_URL"))]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_hashes_persons_has_the_keys(overlay: str) -> None:
    wanted = {
        "serving": {"PSEUDONYM"},
        "monitor": {"PSEUDONYM", "ERASURE"},
        "edge": {"ERASURE"},
        "features": {"ERASURE"},
    }
    for name, container in every_container(overlay):
        if name == container["name"] and name in wanted:
            assert {f"FLYWHEEL_{key}_KEY" for key in wanted[name]} <= configured(overlay, container).keys()
