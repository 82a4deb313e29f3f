"""Puts the parity job together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from pydantic import ValidationError

from flywheel.adapters.duckdb_lake import ArchivedEvents
from flywheel.adapters.kafka_follower import KafkaFollower
from flywheel.adapters.kafka_offsets import KafkaOffsets
from flywheel.adapters.kafka_tail import newest_records
from flywheel.adapters.kafka_topics import publish
from flywheel.contracts.parity import ParityReport
from flywheel.contracts.topics import decisions_topic, parity_topic
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import ErasureLog
from services.features.parity.attributes import AttributeCheck
from services.features.parity.check import ParityCheck
from services.features.parity.sampling import Sampler
from services.features.parity.watch import ParityWatch
from services.features.settings import FeaturesSettings

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Parity:
    """The job and what it reads from."""

    watch: ParityWatch
    follower: KafkaFollower
    ends: KafkaOffsets

    @classmethod
    def assemble(
        cls,
        settings: FeaturesSettings,
        plan: FeaturePlan,
        erasures: ErasureLog,
        archived_until_us: Callable[[], int | None],
    ) -> Self:
        """The job, reading nothing yet. Raises Unavailable."""
        usecase, topic = settings.usecase, parity_topic(settings.usecase).name
        decisions = [decisions_topic(usecase).name]

        def open_archive() -> ArchivedEvents:
            spill = settings.data_dir / "scratch" / "parity"
            return ArchivedEvents(settings.lake_dir / usecase, settings.parity_memory_mib, spill)

        def announce(report: ParityReport) -> None:
            publish(settings.kafka_bootstrap, topic, usecase.encode(), report.to_bytes())

        attributes = AttributeCheck(plan.usecase, settings.lake_dir / usecase)
        sampler = Sampler(
            settings.parity_decisions,
            settings.parity_every_s,
            int(settings.parity_settle_s * 1_000_000),
            seed=settings.parity_seed,
            ranks=plan.usecase.ranks,
        )
        watch = ParityWatch(
            usecase,
            sampler,
            ParityCheck(plan, open_archive, attributes, erasures, settings.parity_margin_ms * 1000),
            archived_until_us=archived_until_us,
            publish=announce,
            kept=timedelta(minutes=settings.parity_kept_minutes),
            latest=_last(settings.kafka_bootstrap, topic),
        )
        ends = KafkaOffsets(settings.kafka_bootstrap, decisions)
        return cls(watch, KafkaFollower(settings.kafka_bootstrap, decisions), ends)

    def run(self, stopping: threading.Event) -> None:
        """Compares until `stopping`."""
        self.watch.run(lambda: self.follower.start(self.ends.ends()), self.follower.poll, stopping)

    def close(self) -> None:
        """Lets go of everything; `run` has ended, or is about to."""
        self.follower.close()
        self.ends.close()


def _last(bootstrap: str, topic: str) -> ParityReport | None:
    records = newest_records(bootstrap, topic, per_partition=1, timeout_s=_TIMEOUT_S)
    try:
        return ParityReport.model_validate_json(records[-1].value) if records else None
    except ValidationError:
        # Of another version of the platform: what it measured is not known.
        return None
