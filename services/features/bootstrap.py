"""Puts the features service together: the only place that knows which parts it is made of."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pyspark.sql import SparkSession

from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.dead_letter_folder import FOLDER, DeadLetterFolder
from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_offsets import KafkaOffsets
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.metrics_server import MetricsServer
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.spark_arrivals import arrivals
from flywheel.adapters.spark_checkpoint import Checkpoint
from flywheel.adapters.spark_events import read_stream, without_erased_records
from flywheel.adapters.spark_session import start_session
from flywheel.adapters.tracing import Tracing, open_tracing
from flywheel.contracts.topics import event_topic, topics_of, training_requests_topic
from flywheel.kernel import catalog
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import FeaturePlan, compile_plan
from services.features.archive import LAKE, Archiver
from services.features.beginning import starting_offsets
from services.features.build import HistoryBuilder
from services.features.count import TileCounter
from services.features.decisions import DecisionArchive
from services.features.parity.bootstrap import Parity
from services.features.positions import counted_only
from services.features.rebuild import Rebuilder, Rebuilt
from services.features.settings import FeaturesSettings
from services.features.stream import StreamJob

STORE = "the online store"
REBUILD = "`make rebuild` fills it again from the lake, `make clean` starts afresh"
_HISTORY_LIMIT_S = 3600.0


@dataclass(frozen=True)
class FeaturesService:
    """All parts of the running service."""

    settings: FeaturesSettings
    plan: FeaturePlan
    session: SparkSession
    writer: RedisFeatureWriter
    lake: Lake
    tiles: StreamJob
    archive: StreamJob
    decisions: DecisionArchive
    parity: Parity
    erasures: KafkaErasures
    builder: HistoryBuilder
    offsets: KafkaOffsets
    requests: KafkaReader
    metrics: MetricsServer
    tracing: Tracing

    @classmethod
    def assemble(cls, settings: FeaturesSettings) -> Self:
        """The service, its session started and its streams not yet. Raises LostTrack, Unavailable or OtherKey."""
        plan = compile_plan(catalog.load(settings.usecase))
        names = tuple(event.event_name for event in plan.usecase.events)
        writer = RedisFeatureWriter(settings.redis_url, plan)
        lake = Lake(settings.lake_dir, plan.usecase)
        tiles_checkpoint(settings, plan).check(writer, STORE, REBUILD)
        archive_checkpoint(settings).check(lake.marker, LAKE)
        erasures = _erasures(settings)
        decisions = DecisionArchive.assemble(settings, plan.usecase, erasures)
        create_topics(settings.kafka_bootstrap, topics_of(settings.usecase, names, settings.event_partitions))
        # Under another key than before nobody erased would be recognized: that is to be found out before anything runs.
        erasures.current()
        session = open_session(settings)
        tracing = open_tracing("features", settings)
        tiles, archive = (StreamJob(settings.usecase, name, tracing) for name in ("tiles", "archive"))
        parity = Parity.assemble(settings, plan, erasures, lambda: archive.progress.visible_until_us)
        return cls(
            settings=settings,
            plan=plan,
            session=session,
            writer=writer,
            lake=lake,
            tiles=tiles,
            archive=archive,
            decisions=decisions,
            erasures=erasures,
            parity=parity,
            builder=HistoryBuilder(
                plan,
                session,
                lake,
                settings.history_dir,
                erasures,
                kept=settings.history_kept,
                parity=lambda: parity.watch.latest,
            ),
            offsets=KafkaOffsets(
                settings.kafka_bootstrap, [event_topic(settings.usecase, name).name for name in names]
            ),
            requests=KafkaReader(
                settings.kafka_bootstrap,
                [training_requests_topic(settings.usecase).name],
                "features",
                processing_limit_s=_HISTORY_LIMIT_S,
            ),
            metrics=MetricsServer(
                settings.features_metrics_port, lambda: _readiness(tiles, archive), host=settings.metrics_host
            ),
            tracing=tracing,
        )

    def start_streams(self) -> None:
        """Counting and archiving go on where they stopped."""
        usecase, checkpoint = self.plan.usecase, tiles_checkpoint(self.settings, self.plan)
        start = self._start(checkpoint)
        counter = TileCounter(
            self.plan,
            self.writer,
            claim=lambda: checkpoint.claim(self.writer, STORE, REBUILD),
            backlog=lambda: self.tiles.progress.backlog if self.tiles.is_ready else None,
        )
        records = without_erased_records(
            read_stream(self.session, self.settings.kafka_bootstrap, usecase.name, self.plan.events, start=start),
            usecase,
            self.erasures.current(),
        )
        self.tiles.start(
            arrivals(records, self.plan),
            counter,
            output="append",
            checkpoint=self.settings.tiles_checkpoint,
            trigger_ms=self.settings.tiles_trigger_ms,
        )
        self.archive.start(
            read_stream(self.session, self.settings.kafka_bootstrap, usecase.name, usecase.events),
            Archiver(
                usecase.name,
                self.lake,
                archive_checkpoint(self.settings),
                self.erasures,
                DeadLetterFolder(self.lake.directory / FOLDER, most=self.settings.dead_letters_kept),
            ),
            output="append",
            checkpoint=self.settings.archive_checkpoint,
            trigger_ms=self.settings.archive_trigger_ms,
        )
        self.decisions.start(self.session)

    def _start(self, checkpoint: Checkpoint) -> str:
        """Where the tile query begins if it never finished a batch: after a rebuild far enough before the rebuilt
        positions to know again the ids of events that may come twice."""
        rebuilt = checkpoint.beginning
        if not rebuilt:
            return "earliest"
        kept = counted_only(self.plan, self.offsets.firsts())
        lateness_us = parse_duration(self.plan.usecase.lateness)
        recent = self.lake.firsts_within(self.session, self.plan.events, lateness_us)
        return starting_offsets(rebuilt, recent, kept)

    def close(self) -> None:
        """Streams end between two micro-batches; then everything is let go of."""
        for close in (self.tiles.stop, self.archive.stop, self.decisions.close, self.session.stop):
            # The JVM may have been told to stop as well and be gone already.
            with contextlib.suppress(Exception):
                close()
        self.parity.close()
        self.requests.close()
        self.offsets.close()
        self.erasures.close()
        self.writer.close()
        self.metrics.close()
        self.tracing.close()


def rebuild_store(settings: FeaturesSettings, tell: Callable[[str], None]) -> Rebuilt:
    """The online store filled again from the lake. Raises NothingToRebuildFrom, LoadsUnreadable, OtherKey and
    Unavailable."""
    plan = compile_plan(catalog.load(settings.usecase))
    writer = RedisFeatureWriter(settings.redis_url, plan)
    lake = Lake(settings.lake_dir, plan.usecase)
    erasures = _erasures(settings)
    session = open_session(settings)
    try:
        rebuilder = Rebuilder(plan, session, lake, attribute_lake(settings), writer, erasures)
        return rebuilder.run(archive_checkpoint(settings), tiles_checkpoint(settings, plan), tell)
    finally:
        session.stop()
        erasures.close()
        writer.close()


def attribute_lake(settings: FeaturesSettings) -> AttributeLake:
    """The loaded attributes of the use case."""
    limits = JoinLimits(settings.attributes_memory_mib, settings.data_dir / "scratch" / "attributes")
    return AttributeLake(settings.lake_dir / settings.usecase, limits)


def _erasures(settings: FeaturesSettings) -> KafkaErasures:
    return KafkaErasures(settings.kafka_bootstrap, EraseKey(settings.erasure_key.encode(), settings.usecase))


def tiles_checkpoint(settings: FeaturesSettings, plan: FeaturePlan) -> Checkpoint:
    """Where the tile query keeps its state; other windows, another lateness or layout need other tiles."""
    parts = (
        plan.usecase.windowed_fingerprint,
        plan.usecase.lateness,
        # Positions in the log are numbered by these.
        ",".join(event.event_name for event in plan.events),
        *(f"{view.fingerprint:x}" for view in plan.views),
    )
    return Checkpoint(settings.tiles_checkpoint, "-".join(parts))


def archive_checkpoint(settings: FeaturesSettings) -> Checkpoint:
    """Where the archive query keeps its position; the lake holds events whatever is declared over them."""
    return Checkpoint(settings.archive_checkpoint, "events")


def open_session(settings: FeaturesSettings) -> SparkSession:
    """The one session of this process."""
    # What a killed driver left behind is of no use to the next one.
    shutil.rmtree(settings.scratch_dir, ignore_errors=True)
    # Where it is a volume of its own, it is emptied and stays.
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    return start_session(
        f"flywheel-features-{settings.usecase}",
        master=settings.spark_master,
        heap_mib=settings.spark_heap_mib,
        shuffle_partitions=settings.spark_shuffle_partitions,
        jars=sorted(settings.spark_jars_dir.absolute().glob("*.jar")),
        scratch_dir=settings.scratch_dir,
    )


def _readiness(tiles: StreamJob, archive: StreamJob) -> tuple[bool, str]:
    waiting = [f"{job.name} {job.progress.backlog or 'not known'}" for job in (tiles, archive) if not job.is_ready]
    if not waiting:
        return True, "both streams run"
    return False, f"not caught up yet, records behind: {', '.join(waiting)}"
