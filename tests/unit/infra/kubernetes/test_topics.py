"""Topics for an operator are the declared ones, replicated."""

from __future__ import annotations

import re

import pytest

from flywheel.contracts.topics import topics_of
from flywheel.kernel import catalog
from infra.kubernetes.topics import kafka_topics


@pytest.mark.parametrize("usecase", catalog.names())
def test_every_declared_topic_is_there_once(usecase: str) -> None:
    made = kafka_topics(usecase, "flywheel", replicas=3, partitions=12)
    declared = topics_of(usecase, tuple(event.event_name for event in catalog.load(usecase).events))
    assert [one["spec"]["topicName"] for one in made] == [topic.name for topic in declared]
    names = [one["metadata"]["name"] for one in made]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) for name in names)


def test_only_what_may_be_read_in_parallel_gets_more_partitions() -> None:
    made = {one["spec"]["topicName"]: one["spec"] for one in kafka_topics("fraud", "x", replicas=3, partitions=12)}
    assert made["fraud.decisions"]["partitions"] == 12
    assert made["fraud.erasures"]["partitions"] == 1
    assert made["fraud.erasures"]["config"]["cleanup.policy"] == "compact"
    assert {spec["config"]["min.insync.replicas"] for spec in made.values()} == {"2"}


def test_one_replica_is_enough_where_there_is_one_broker() -> None:
    (first, *_) = kafka_topics("fraud", "x", replicas=1, partitions=1)
    assert first["spec"]["config"]["min.insync.replicas"] == "1"
    assert first["spec"]["partitions"] == 2
