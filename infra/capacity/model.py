"""From what one core carries to machines, money and what breaks first, for any multiple of the measured traffic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from infra.capacity.measured import Capacities

_HOURS_A_MONTH = 730
_MIB = 1024 * 1024
_GIB = 1024 * _MIB


@dataclass(frozen=True)
class Assumptions:
    """What is assumed about traffic, caution and prices. Bytes are those of one record; prices are in US dollars."""

    events_a_payment: float = 1.02
    """The payment, and for one in a hundred a chargeback and a duplicate."""
    redis_commands_a_payment: float = 6.0
    """A card and a terminal are read for the decision, and written by edge and stream."""
    event_bytes: int = 420
    decision_bytes: int = 1_536
    entities_a_payment_rate: float = 50.0
    """Cards and terminals for each payment a second: 15,000 at 300/s, as in the soak."""
    utilization: float = 0.6
    """Of processors at the peak that is planned for."""
    zones: int = 3
    """What is replicated carries the peak with one of them away."""
    replicas: int = 3
    retention_days: int = 28
    disk_use: float = 0.7
    core_hour: float = 0.04
    memory_gib_hour: float = 0.005
    disk_gib_month: float = 0.10


@dataclass(frozen=True)
class Part:
    """What one part needs, all its instances together."""

    name: str
    instances: int
    cores: float
    memory_gib: float
    disk_gib: float = 0.0

    def month(self, assumed: Assumptions) -> float:
        """What it costs in a month."""
        hourly = self.cores * assumed.core_hour + self.memory_gib * assumed.memory_gib_hour
        return hourly * _HOURS_A_MONTH + self.disk_gib * assumed.disk_gib_month


@dataclass(frozen=True)
class Limit:
    """What cannot grow by more of the same, and the payments a second at which it is full."""

    name: str
    payments: float
    consequence: str
    remedy: str


def parts(payments: float, known: Capacities, assumed: Assumptions) -> tuple[Part, ...]:
    """Everything that runs at so many payments a second, as if no limit stood in the way."""
    events = payments * assumed.events_a_payment
    serving = _spread(payments / known.decisions_a_core.value, assumed)
    ingest = _spread(events / known.ingest_events_a_core.value, assumed)
    features = _cores(events / known.feature_events_a_core.value, assumed)
    edges = math.ceil(events / known.edge_events.value)
    return (
        Part("serving", serving, serving, serving * 0.75),
        Part("ingest", ingest, ingest, ingest * 0.5),
        Part("features (driver and executors)", math.ceil(features / 2) + 1, features + 1, 2.5 * features + 2.5),
        Part("edge", edges, edges, edges * 0.5),
        Part("trainer, monitor", 2, 3.0, 3.0),
        _redis(payments, known, assumed),
        _kafka(payments, known, assumed),
    )


def limits(known: Capacities, assumed: Assumptions) -> tuple[Limit, ...]:
    """What does not grow, the first to be full first."""
    found = (
        Limit(
            "the edge lane, one process for all partitions",
            known.edge_events.value / assumed.events_a_payment,
            "features are fresh within hundreds of milliseconds, then seconds, instead of tens; no event is lost",
            "lanes that share the partitions (`FLYWHEEL_EDGE_REPLICAS`)",
        ),
        Limit(
            "one features pod with two cores",
            2 * known.feature_events_a_core.value * assumed.utilization / assumed.events_a_payment,
            "the stream falls behind and says so; decisions use older windows",
            "executors of its own (components/spark-workers) and more shuffle partitions",
        ),
        Limit(
            "one Redis primary",
            known.redis_commands.value * assumed.utilization / assumed.redis_commands_a_payment,
            "reads run into their time budget, the breaker opens, the rule decides",
            "a store for each use case; then shards by entity, which our reader does not speak",
        ),
        Limit(
            "two partitions a topic, one broker",
            known.broker_mib.value * _MIB * assumed.utilization / _broker_bytes(assumed),
            "ingest answers 503, decisions wait in their spools",
            "more partitions before the first start, more brokers",
        ),
    )
    return tuple(sorted(found, key=lambda limit: limit.payments))


def full_at(payments: float, known: Capacities, assumed: Assumptions) -> Iterator[Limit]:
    """The limits that so many payments a second exceed."""
    return (limit for limit in limits(known, assumed) if payments > limit.payments)


def log_bytes(payments: float, assumed: Assumptions) -> float:
    """What the broker's disks hold of the weeks that it keeps, replicas included."""
    return payments * _broker_bytes(assumed) * assumed.retention_days * 86_400 * assumed.replicas


def _redis(payments: float, known: Capacities, assumed: Assumptions) -> Part:
    primaries = _cores(payments * assumed.redis_commands_a_payment / known.redis_commands.value, assumed)
    state_gib = payments * assumed.entities_a_payment_rate * known.entity_bytes.value / _GIB
    # Each with a replica elsewhere; twice the state, for its copy while it writes its file.
    return Part(
        "Redis (primaries, a replica each)", 2 * primaries, 2 * primaries, 2 * max(primaries * 1.0, 2 * state_gib)
    )


def _kafka(payments: float, known: Capacities, assumed: Assumptions) -> Part:
    received = payments * _broker_bytes(assumed) * assumed.replicas / _MIB
    brokers = max(assumed.replicas, _cores(received / known.broker_mib.value, assumed))
    disk_gib = log_bytes(payments, assumed) / assumed.disk_use / _GIB
    return Part("Kafka", brokers, brokers * 2.0, brokers * 4.0, disk_gib)


def _broker_bytes(assumed: Assumptions) -> float:
    """Of one payment: its events and its decision."""
    return assumed.events_a_payment * assumed.event_bytes + assumed.decision_bytes


def _cores(busy: float, assumed: Assumptions) -> int:
    return max(1, math.ceil(busy / assumed.utilization))


def _spread(busy: float, assumed: Assumptions) -> int:
    """Cores so that those of all zones but one suffice, the same number in each."""
    a_zone = math.ceil(_cores(busy, assumed) / (assumed.zones - 1))
    return assumed.zones * a_zone
