"""The topics of a use case as an operator of Kafka (Strimzi) takes them."""

from __future__ import annotations

from typing import Any

from flywheel.adapters.kafka_topics import topic_config
from flywheel.contracts.topics import Topic, topics_of
from flywheel.kernel import catalog


def kafka_topics(usecase: str, cluster: str, *, replicas: int, partitions: int) -> list[dict[str, Any]]:
    """A KafkaTopic for each topic of the use case: replicated, writable while one replica is away.

    Topics that are declared with more than one partition get `partitions`, if these are more.
    """
    names = tuple(event.event_name for event in catalog.load(usecase).events)
    return [_resource(topic, cluster, replicas, partitions) for topic in topics_of(usecase, names)]


def _resource(topic: Topic, cluster: str, replicas: int, partitions: int) -> dict[str, Any]:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {
            "name": topic.name.replace("_", "-").lower(),
            "labels": {"strimzi.io/cluster": cluster, "app.kubernetes.io/part-of": "flywheel"},
        },
        "spec": {
            "topicName": topic.name,
            "partitions": max(partitions, topic.partitions) if topic.partitions > 1 else topic.partitions,
            "replicas": replicas,
            "config": {**topic_config(topic), "min.insync.replicas": str(max(1, replicas - 1))},
        },
    }
