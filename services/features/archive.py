"""Archives micro-batches in the lake, without erased persons; what is no event goes to the dead letters."""

from __future__ import annotations

from pyspark.sql import DataFrame

from flywheel.adapters.lake_lock import writing
from flywheel.adapters.logs import logger
from flywheel.adapters.spark_archive import Lake, Written
from flywheel.adapters.spark_checkpoint import Checkpoint
from flywheel.contracts.metrics import FEATURES_ARCHIVED, FEATURES_DEAD_LETTERS, FEATURES_ERASED
from flywheel.kernel.erasure import Erasures
from flywheel.kernel.ports import DeadLetters, ErasureLog
from services.features.patience import patiently

LAKE = "the lake"
UNREADABLE, ERASED = "unreadable", "erased"
_LETTERS_A_BATCH = 1_000
_PATIENCE_S = 60.0

_log = logger(__name__)


class Archiver:
    """Sink of the archive query. A batch that comes again replaces its own files.

    Every record ends in one of three accounts: archived, unreadable, erased.
    """

    def __init__(
        self,
        usecase: str,
        lake: Lake,
        checkpoint: Checkpoint,
        erasures: ErasureLog,
        letters: DeadLetters,
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._usecase = usecase
        self._lake = lake
        self._checkpoint = checkpoint
        self._erasures = erasures
        self._letters = letters
        self._patience_s = patience_s
        self._known: Erasures | None = None
        self._publish()

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        self._checkpoint.claim(self._lake.marker, LAKE)
        with writing(self._lake.directory):
            # Asked for inside the lock: whoever is erased after this finds the batch in the lake when the lock is free.
            erasures = current_erasures(self._erasures, self._patience_s)
            if erasures != self._known:
                self._lake.recount()
                self._known = erasures
            written = self._lake.write(batch, batch_id, erasures)
            if written.unreadable or written.erased:
                self._set_aside(batch, batch_id, written, erasures)
        self._publish()

    def _set_aside(self, batch: DataFrame, batch_id: int, written: Written, erasures: Erasures) -> None:
        found = self._lake.unreadable(batch, _LETTERS_A_BATCH) if written.unreadable else []
        letters = [letter for letter in found if not letter.names_anyone_in(erasures)]
        self._letters.write(batch_id, letters, {UNREADABLE: written.unreadable, ERASED: written.erased})
        if written.unreadable:
            faults = sorted({f"{letter.topic}: {letter.fault}" for letter in letters})
            _log.error("records_are_no_event", batch_id=batch_id, count=written.unreadable, faults=faults)

    def _publish(self) -> None:
        for name, number in self._lake.counts().items():
            FEATURES_ARCHIVED.labels(self._usecase, name).set(number)
        seen, kept = self._letters.seen(), self._letters.kept()
        FEATURES_DEAD_LETTERS.labels(self._usecase, "yes").set(kept)
        FEATURES_DEAD_LETTERS.labels(self._usecase, "no").set(seen.get(UNREADABLE, 0) - kept)
        FEATURES_ERASED.labels(self._usecase).set(seen.get(ERASED, 0))


def current_erasures(erasures: ErasureLog, patience_s: float = _PATIENCE_S) -> Erasures:
    """The erasures, asked for again while the broker is away. Raises Unavailable when it stays away."""
    return patiently(erasures.current, patience_s, event="erasures_not_known")
