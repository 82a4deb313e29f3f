"""Puts the edge lane together. It needs no Spark, so that it goes on when Spark does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_follower import KafkaFollower
from flywheel.adapters.kafka_offsets import KafkaOffsets
from flywheel.adapters.kafka_positions import KafkaPositions
from flywheel.adapters.metrics_server import MetricsServer
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.adapters.tracing import Tracing, open_tracing
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import compile_plan
from services.features.edge.lane import EdgeLane
from services.features.edge.peers import KafkaPeers
from services.features.edge.pursuit import Pursuit
from services.features.edge.share import share_of
from services.features.positions import events_by_topic

_ERASURES_WITHIN_S = 2.0
_OTHERS_WITHIN_S = 0.2
"""No more, because nothing is read meanwhile."""


@dataclass(frozen=True)
class EdgeService:
    """All parts of the running lane."""

    pursuit: Pursuit
    writer: RedisFeatureWriter
    follower: KafkaFollower
    offsets: KafkaOffsets
    positions: KafkaPositions
    erasures: KafkaErasures
    metrics: MetricsServer
    tracing: Tracing

    @classmethod
    def assemble(cls, settings: PlatformSettings) -> Self:
        """The service, reading nothing yet. Raises ValueError for a share that there is not."""
        plan = compile_plan(catalog.load(settings.usecase))
        topics = list(events_by_topic(plan))
        writer = RedisFeatureWriter(settings.redis_url, plan)
        share = share_of(settings)
        follower = KafkaFollower(settings.kafka_bootstrap, topics, wanted=share.has)
        offsets = KafkaOffsets(settings.kafka_bootstrap, topics)
        erasures = KafkaErasures(
            settings.kafka_bootstrap,
            EraseKey(settings.erasure_key.encode(), settings.usecase),
            timeout_s=_ERASURES_WITHIN_S,
        )
        tracing = open_tracing("edge", settings)
        positions = KafkaPositions(settings.kafka_bootstrap, f"{settings.usecase}.edge", timeout_s=_OTHERS_WITHIN_S)
        lane = EdgeLane(plan, writer, erasures)
        pursuit = Pursuit(
            plan, lane, writer, follower, offsets, share=share, peers=KafkaPeers(positions), tracing=tracing
        )
        metrics = MetricsServer(settings.edge_metrics_port, pursuit.readiness, host=settings.metrics_host)
        return cls(pursuit, writer, follower, offsets, positions, erasures, metrics, tracing)

    def close(self) -> None:
        """Lets go of everything."""
        self.follower.close()
        self.offsets.close()
        self.positions.close()
        self.erasures.close()
        self.writer.close()
        self.metrics.close()
        self.tracing.close()
