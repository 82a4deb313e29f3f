"""Nobody speaks to anybody but where a policy says so, and everybody may speak to what he needs."""

from __future__ import annotations

import pytest

from infra.kubernetes.rendering import Resource
from tests.kubernetes_manifests import (
    ENGINES,
    OVERLAYS,
    by_number,
    configured,
    containers_of,
    matches,
    of_kind,
    pods_of,
    workloads,
)


def policies(overlay: str, resource: Resource, direction: str) -> list[Resource]:
    """The rules of one direction that hold for a workload's pods."""
    labels = pods_of(resource)["metadata"]["labels"]
    return [
        rule
        for policy in of_kind(overlay, "NetworkPolicy")
        if matches(policy["spec"]["podSelector"], labels) and direction in policy["spec"]["policyTypes"]
        for rule in policy["spec"].get(direction.lower(), ())
    ]


def allowed(rules: list[Resource]) -> set[str | int]:
    return {port["port"] for rule in rules for port in rule.get("ports", ())}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_allowed_that_is_not_said(overlay: str) -> None:
    (deny,) = (one for one in of_kind(overlay, "NetworkPolicy") if one["metadata"]["name"] == "default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_rule_is_open_to_everybody(overlay: str) -> None:
    for policy in of_kind(overlay, "NetworkPolicy"):
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, ()):
                assert rule[side]
                for peer in rule[side]:
                    assert all(peer[selector].get("matchLabels") for selector in peer)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_reads_an_address_may_reach_it(overlay: str) -> None:
    for resource in workloads(overlay):
        name = resource["metadata"]["name"]
        environment: dict[str, str] = {}
        for container in containers_of(resource):
            environment |= configured(overlay, container)
        ports = allowed(policies(overlay, resource, "Egress"))
        assert 53 in ports
        if name in ENGINES | {"spark-master"}:
            continue
        assert 9092 in ports, name
        assert ("FLYWHEEL_REDIS_URL" in environment or name == "spark-worker") == (6379 in ports), name
        if name == "trainer":
            assert 5000 in ports


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_prometheus_reaches_every_metrics_port(overlay: str) -> None:
    (policy,) = (one for one in of_kind(overlay, "NetworkPolicy") if one["metadata"]["name"] == "from-prometheus")
    assert allowed(policy["spec"]["ingress"]) == {"metrics"}
    for resource in workloads(overlay):
        assert matches(policy["spec"]["podSelector"], pods_of(resource)["metadata"]["labels"])


@pytest.mark.parametrize(
    ("name", "label", "ports"),
    [
        ("ingest", {"flywheel.dev/sends": "events"}, {8081}),
        ("serving", {"flywheel.dev/asks": "decisions"}, {50051, 8082}),
        ("monitor", {"flywheel.dev/sees": "console"}, {8080}),
    ],
)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_callers_are_let_in_by_their_label(overlay: str, name: str, label: dict[str, str], ports: set[int]) -> None:
    (policy,) = (one for one in of_kind(overlay, "NetworkPolicy") if one["metadata"]["name"] == name)
    (rule,) = policy["spec"]["ingress"]
    assert [next(iter(peer.values()))["matchLabels"] for peer in rule["from"]] == [label, label]
    assert allowed([rule]) == ports
    (resource,) = (one for one in workloads(overlay) if one["metadata"]["name"] == name)
    (container,) = pods_of(resource)["spec"]["containers"]
    assert ports <= {by_number(container, port["name"]) for port in container["ports"]}


def test_the_world_may_ask_and_send() -> None:
    (world,) = (one for one in workloads("local") if one["metadata"]["name"] == "world")
    labels = pods_of(world)["metadata"]["labels"]
    assert {"flywheel.dev/sends": "events", "flywheel.dev/asks": "decisions"}.items() <= labels.items()
    assert {8081, 50051, 9092} <= allowed(policies("local", world, "Egress"))
