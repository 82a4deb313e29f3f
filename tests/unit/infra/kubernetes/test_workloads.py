"""Workloads are asked where they answer, end in time, may do no more than they must, and their services find them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from flywheel.contracts import metrics
from infra.kubernetes.configuration import check
from infra.kubernetes.rendering import Resource
from services.ingest.settings import IngestSettings
from services.serving.settings import ServingSettings
from tests.kubernetes_manifests import (
    ENGINES,
    OVERLAYS,
    by_number,
    configured,
    containers_of,
    every_container,
    is_ours,
    matches,
    of_kind,
    pods_of,
    workload,
    workloads,
)

LIVES, IS_READY = "/healthz", "/readyz"
METRICS_PORT = {"features": 9101, "edge": 9105, "serving": 9102, "trainer": 9103, "world": 9104}
SERVICES = ("ingest", "features", "edge", "trainer", "serving", "monitor")
EVERY_WORKLOAD = [
    pytest.param(overlay, one, id=f"{overlay}-{one['metadata']['name']}")
    for overlay in OVERLAYS
    for one in workloads(overlay)
]
ALONE = [pytest.param(*parameters.values[1:], id=parameters.id) for parameters in EVERY_WORKLOAD]


def main_container(overlay: str, name: str) -> Resource:
    (found,) = pods_of(workload(overlay, name))["spec"]["containers"]
    return dict(found)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_every_service_is_there_in_every_overlay() -> None:
    for overlay in OVERLAYS:
        assert set(SERVICES) <= {one["metadata"]["name"] for one in workloads(overlay)}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_probed_three_ways(overlay: str, name: str) -> None:
    container = main_container(overlay, name)
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    # What it waits for must never be a reason to kill it.
    assert container["livenessProbe"].get("httpGet", {"path": LIVES})["path"] == LIVES
    patience_s = container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"]
    assert patience_s >= 60


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", SERVICES)
def test_http_probes_ask_where_it_answers(overlay: str, name: str) -> None:
    container = main_container(overlay, name)
    environment = configured(overlay, container)
    answers = METRICS_PORT.get(name) or port_of(environment[f"FLYWHEEL_{name.upper()}_URL"])
    assert by_number(container, "metrics") == answers
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if request := container[probe].get("httpGet"):
            assert request["path"] in (LIVES, IS_READY)
            assert by_number(container, request["port"]) == answers


def test_metrics_ports_are_the_declared_ones() -> None:
    declared = ServingSettings.model_fields
    assert {name: declared[f"{name}_metrics_port"].default for name in METRICS_PORT} == METRICS_PORT


def test_serving_is_asked_by_grpc_in_plain_text_and_by_http_with_tls() -> None:
    plain = main_container("local", "serving")
    port = port_of(configured("local", plain)["FLYWHEEL_SERVING_ADDRESS"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert plain[probe]["grpc"] == {"port": port}
    secured = main_container("production", "serving")
    assert "FLYWHEEL_SERVING_TLS_CERTIFICATE" in configured("production", secured)
    assert not [probe for probe in ("startupProbe", "readinessProbe", "livenessProbe") if "grpc" in secured[probe]]


def test_certificates_are_mounted_where_serving_looks() -> None:
    container = main_container("production", "serving")
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    environment = configured("production", container)
    for key in ("CERTIFICATE", "KEY"):
        assert str(Path(environment[f"FLYWHEEL_SERVING_TLS_{key}"]).parent) in mounted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_serving_has_time_to_drain(overlay: str) -> None:
    container = main_container(overlay, "serving")
    settings = check(ServingSettings, {k: v for k, v in configured(overlay, container).items() if "REDIS" not in k})
    assert isinstance(settings, ServingSettings)
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace_s = pods_of(workload(overlay, "serving"))["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= pause_s + math.ceil(settings.stop_within_s)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ingest_has_time_to_flush(overlay: str) -> None:
    container = main_container(overlay, "ingest")
    settings = check(IngestSettings, configured(overlay, container))
    assert isinstance(settings, IngestSettings)
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace_s = pods_of(workload(overlay, "ingest"))["spec"]["terminationGracePeriodSeconds"]
    # Requests under way, and then what they sent.
    assert grace_s >= pause_s + 2 * settings.ingest_delivery_timeout_s + 2


@pytest.mark.parametrize(("overlay", "resource"), EVERY_WORKLOAD)
def test_pods_may_do_no_more_than_they_must(overlay: str, resource: Resource) -> None:
    spec = pods_of(resource)["spec"]
    assert spec["automountServiceAccountToken"] is False
    accounts = {one["metadata"]["name"]: one for one in of_kind(overlay, "ServiceAccount")}
    assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    for container in containers_of(resource):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        # Of the engines' stand-ins, the broker writes its configuration into its own image.
        assert context.get("readOnlyRootFilesystem", False) or container["name"] == "kafka"


@pytest.mark.parametrize("resource", ALONE)
def test_memory_is_reserved_and_bounded(resource: Resource) -> None:
    for container in containers_of(resource):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert "memory" in resources["limits"]
        # A limit on CPU would throttle decisions at their worst moment.
        assert "cpu" not in resources["limits"]


@pytest.mark.parametrize(("overlay", "resource"), EVERY_WORKLOAD)
def test_every_mount_has_its_volume(overlay: str, resource: Resource) -> None:
    spec = pods_of(resource)["spec"]
    own = {claim["metadata"]["name"] for claim in resource["spec"].get("volumeClaimTemplates", ())}
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
    for container in containers_of(resource):
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes.keys() | own
    claims = {one["metadata"]["name"] for one in of_kind(overlay, "PersistentVolumeClaim")}
    for volume in volumes.values():
        if claim := volume.get("persistentVolumeClaim"):
            assert claim["claimName"] in claims
        if empty := volume.get("emptyDir"):
            assert "sizeLimit" in empty


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whom_the_world_reaches_cannot_change_models(overlay: str) -> None:
    container = main_container(overlay, "serving")
    shared = [mount for mount in container["volumeMounts"] if mount["name"] == "data"]
    assert [(mount["subPath"], mount["readOnly"]) for mount in shared] == [("models", True)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_find_their_pods_and_ports(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        found = [one for one in workloads(overlay) if service["spec"]["selector"].items() <= labels_of(one).items()]
        assert len(found) == 1, service["metadata"]["name"]
        (container,) = pods_of(found[0])["spec"]["containers"]
        for port in service["spec"]["ports"]:
            assert by_number(container, port["targetPort"]) == port["port"]


@pytest.mark.parametrize("resource", ALONE)
def test_workloads_select_their_own_pods(resource: Resource) -> None:
    if resource["kind"] == "CronJob":
        return
    assert matches(resource["spec"]["selector"], labels_of(resource))
    for constraint in pods_of(resource)["spec"].get("topologySpreadConstraints", ()):
        assert matches(constraint["labelSelector"], labels_of(resource))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_stateful_sets_have_their_headless_service(overlay: str) -> None:
    headless = {
        one["metadata"]["name"] for one in of_kind(overlay, "Service") if one["spec"].get("clusterIP") == "None"
    }
    names = {one["spec"]["serviceName"] for one in of_kind(overlay, "StatefulSet")}
    assert names <= headless
    # gRPC keeps its connections: its callers share their calls out over all pods.
    assert "serving" in headless


def test_what_grows_is_spread_and_protected() -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind("production", "HorizontalPodAutoscaler")}
    assert scaled == {"ingest", "serving", "spark-worker"}
    budgets = of_kind("production", "PodDisruptionBudget")
    for name in scaled:
        resource = workload("production", name)
        assert "replicas" not in resource["spec"]
        (budget,) = (one for one in budgets if matches(one["spec"]["selector"], labels_of(resource)))
        # Enough to let a node be emptied, one pod after the other.
        assert budget["spec"]["maxUnavailable"] == 1
    for name in ("ingest", "serving"):
        spread = pods_of(workload("production", name))["spec"]["topologySpreadConstraints"]
        assert {one["topologyKey"] for one in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


def test_what_must_be_one_is_one() -> None:
    for overlay in OVERLAYS:
        for name in ("features", "edge", "trainer", "monitor"):
            resource = workload(overlay, name)
            assert resource["spec"]["replicas"] == 1
            # The old one is gone before the next begins.
            assert resource["kind"] == "StatefulSet" or resource["spec"]["strategy"] == {"type": "Recreate"}


def test_autoscalers_follow_metrics_that_exist() -> None:
    exposed = {
        sample.name: set(collector._labelnames)
        for collector in vars(metrics).values()
        if isinstance(collector, MetricWrapperBase)
        for sample in collector.describe()
    }
    followed = set()
    for one in of_kind("production", "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        assert workload("production", target["name"])["kind"] == target["kind"]
        for metric in one["spec"]["metrics"]:
            if metric["type"] != "Resource":
                named = metric[metric["type"].lower()]["metric"]
                followed.add(named["name"])
                assert named.get("selector", {}).get("matchLabels", {}).keys() <= exposed[named["name"]]
    assert {"flywheel_serving_in_flight_requests", "flywheel_features_backlog_events"} <= followed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_of_the_project_and_carry_a_tag(overlay: str) -> None:
    parts = {"ingest", "features", "trainer", "serving", "monitor", "client"}
    for name, container in every_container(overlay):
        image, _, tag = container["image"].partition(":")
        assert tag not in ("", "latest")
        assert (image.removeprefix("flywheel-") in parts) if is_ours(container) else name in ENGINES


def labels_of(resource: Resource) -> dict[str, str]:
    """Those of the workload's pods."""
    return dict(pods_of(resource)["metadata"]["labels"])
