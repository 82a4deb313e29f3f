"""Erases one person, or whatever else features are about, from everything that the platform keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_residue import Residue, find_residue
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.logs import logger
from flywheel.adapters.redis_erasure import RedisEraser
from flywheel.client.erased_files import Files, Subject
from flywheel.client.errors import ClientError
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import decisions_topic, erasures_topic, event_topic
from flywheel.kernel.erasure import EraseKey, Erasures
from flywheel.kernel.features import join_id
from flywheel.kernel.ports import Unavailable

_STREAM_TIMEOUT_S = 60.0
_STREAM_LIVES_S = 5.0
_ON_ITS_WAY_US = 6_000_000
_LOOK_AGAIN_S = 0.1

_log = logger(__name__)


@dataclass
class Report:
    """What was removed where, and what the broker's log still holds.

    `stream_waited` is False when the stream was too far behind to be waited for.
    """

    removed: dict[str, int] = field(default_factory=dict)
    residue: list[Residue] = field(default_factory=list)
    stream_waited: bool = True


@dataclass(frozen=True)
class Erasure:
    """One run of the command; one that was cut short is simply given again.

    In the order in which it must happen: first every reader is told, so that nothing of before comes in any more; then
    the stream finishes what it had read; then everything stored goes.
    """

    subject: Subject
    settings: PlatformSettings
    at: datetime
    by: str
    dry_run: bool = False
    read_log: bool = True
    wall: Callable[[], float] = time.time

    def run(self) -> Report:
        """Raises ClientError; what was erased before that stays erased."""
        report = Report()
        usecase, key = self.subject.usecase.name, self._key
        try:
            with ExitStack() as stack:
                online = RedisEraser(self.settings.redis_url, usecase)
                stack.callback(online.close)
                if not self.dry_run:
                    create_topics(self.settings.kafka_bootstrap, [erasures_topic(usecase)])
                    log = KafkaErasures(self.settings.kafka_bootstrap, key)
                    stack.callback(log.close)
                    # Earlier erasures under another key refuse here, before anything is removed.
                    log.current()
                    log.publish(self._erased())
                    report.stream_waited = self._await_stream(online)
                self._remove(online, report)
                if not self.dry_run:
                    self._audit(log, report)
                if self.read_log:
                    report.residue = self._residue()
        except (Unavailable, ValueError) as error:
            raise ClientError(f"not erased everywhere: {error}; then give the command again") from error
        return report

    @property
    def _key(self) -> EraseKey:
        return EraseKey(self.settings.erasure_key.encode(), self.subject.usecase.name)

    def _erased(self, report: Report | None = None) -> Erased:
        entity = self.subject.entity.name
        return Erased(
            usecase=self.subject.usecase.name,
            entity=entity,
            pseudonym=self._key.pseudonym(entity, join_id(self.subject.parts)),
            key_check=self._key.check,
            erased_at=self.at,
            erased_by=self.by,
            removed=report.removed if report else {},
        )

    def _await_stream(self, online: RedisEraser) -> bool:
        """Whether the lanes that live have counted all that arrived before: they write no more of it.

        An event is stamped before the broker has it, so a little more than ingest waits for the broker is added.
        """
        wanted_us = to_us(self.at) + _ON_ITS_WAY_US
        deadline_s = time.monotonic() + _STREAM_TIMEOUT_S
        while True:
            living = [p for p in online.progress().values() if self.wall() - p.updated_us / 1e6 <= _STREAM_LIVES_S]
            if all(progress.visible_until_us >= wanted_us for progress in living):
                return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_LOOK_AGAIN_S)

    def _remove(self, online: RedisEraser, report: Report) -> None:
        keys = self.subject.keys
        erasures = Erasures(self._key).including([self._erased()])
        files = Files(self.subject, self.settings, to_us(self.at))
        # Loads and rebuilds bring online what they read in the lake: between the two nothing of it may be left.
        with files.held(dry_run=self.dry_run):
            report.removed["online store"] = online.count(keys) if self.dry_run else online.remove(keys)
            report.removed |= dict(files.erase(erasures, dry_run=self.dry_run))

    def _audit(self, log: KafkaErasures, report: Report) -> None:
        erased = self._erased(report)
        log.publish(erased)
        _log.info("erased", **erased.model_dump(mode="json", exclude={"key_check"}))

    def _residue(self) -> list[Residue]:
        usecase, until_us = self.subject.usecase, to_us(self.at)
        topics = [event_topic(usecase.name, event.event_name).name for event in usecase.events]

        def wanted(key: bytes, value: bytes, arrived_us: int) -> bool:
            return arrived_us <= until_us and self.subject.is_in(key + b" " + value)

        return find_residue(self.settings.kafka_bootstrap, [*topics, decisions_topic(usecase.name).name], wanted)
