"""Records out of Kafka's consumer: as the kernel knows them, as soon as there are any, or up to the end of a topic."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, Message, TopicPartition

from flywheel.contracts.metadata import TRACEPARENT
from flywheel.kernel.ports import Record, Unavailable

_READ_AT_ONCE = 10_000


def record_of(message: Message) -> Record:
    """The record that a message without an error is."""
    headers = message.headers()
    trace = _trace(headers) if headers else ""
    return Record(message.topic(), message.partition(), message.offset(), message.key(), message.value() or b"", trace)


def _trace(headers: list[tuple[str, bytes]]) -> str:
    # Whoever else writes to the topic may send anything there.
    return next((value.decode("ascii", "replace") for name, value in headers if name == TRACEPARENT and value), "")


def consume(consumer: Consumer, timeout_s: float, limit: int) -> list[Message]:
    """Up to `limit` messages, as soon as there is one; empty when none came within `timeout_s`."""
    # Asked for several at once, it would wait for all of them.
    found: list[Message] = consumer.consume(1, timeout_s)
    if found and limit > 1:
        found += consumer.consume(limit - 1, 0)
    return found


def read_to_end(consumer: Consumer, topic: str, timeout_s: float, *, last: int | None = None) -> Iterator[Message]:
    """What each partition holds by now, or the `last` so many of it.

    Raises KafkaException when the broker does not answer, Unavailable when it gives nothing for `timeout_s`.
    """
    starts, ends = [], {}
    for number in consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)
        if high > low:
            starts.append(TopicPartition(topic, number, low if last is None else max(low, high - last)))
            ends[number] = high
    consumer.assign(starts)
    while ends:
        found = consume(consumer, timeout_s, _READ_AT_ONCE)
        if not found:
            raise Unavailable(f"{topic}: the broker gave nothing for {timeout_s:g} s")
        for message in found:
            number = message.partition()
            if message.error() is None and number in ends:
                if message.offset() < ends[number]:
                    yield message
                if message.offset() + 1 >= ends[number]:
                    del ends[number]
