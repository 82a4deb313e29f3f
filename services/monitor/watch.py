"""Reads the log in a thread of its own and keeps a fresh state for whoever asks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime

from flywheel.adapters.logs import logger
from flywheel.kernel.ports import RecordReader, Unavailable
from services.monitor.catalogue import Catalogue
from services.monitor.contents import Contents
from services.monitor.exposition import Exposition
from services.monitor.observations import Observations
from services.monitor.overview import Overview, Reading
from services.monitor.state import State

_POLL_S = 0.25
_BATCH = 1_000
_RETRY_S = 1.0
_CLOSE_TO_THE_END = 1_000

_log = logger(__name__)


class Watch:
    """Reads until stopped. The state is computed in the reading thread, so nothing it is made of needs a lock."""

    def __init__(
        self,
        reader: RecordReader,
        observations: Observations,
        overview: Overview,
        catalogue: Catalogue,
        *,
        clock: Callable[[], datetime],
        refresh_s: float,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._reader = reader
        self._observations = observations
        self._overview = overview
        self._catalogue = catalogue
        self._contents: Contents | None = None
        self._clock = clock
        self._refresh_s = refresh_s
        self.on_failure = on_failure
        self._exposition = Exposition()
        self._catching_up = True
        self._behind = math.inf
        self._read = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.failed = False
        self._publish(None)

    @property
    def state(self) -> State:
        """The newest state."""
        return self._state

    @property
    def state_json(self) -> bytes:
        """The newest state as JSON, rendered once for all who ask."""
        return self._state_json

    @property
    def catalogue_json(self) -> bytes:
        """The newest feature catalogue as JSON."""
        return self._catalogue_json

    def start(self) -> None:
        """Reads from now on."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stops reading and lets go of the log."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def ready(self) -> tuple[bool, str]:
        """Whether the log is being read."""
        if self.failed or not self._thread.is_alive():
            return False, "the log is not read any more"
        if not self.state.loop.broker_answers:
            return False, "the broker does not answer"
        return True, "the log is read"

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._read_until(time.monotonic() + self._refresh_s)
                self._publish(self._lag())
        except Exception:
            # Nobody would notice a dead thread: the process ends, and its supervisor starts it anew.
            _log.exception("watch_failed")
            self.failed = True
            self.on_failure()
        finally:
            self._reader.close()

    def _read_until(self, deadline: float) -> None:
        while not self._stopping.is_set() and time.monotonic() < deadline:
            try:
                records = self._reader.poll(_POLL_S, _BATCH)
                self._observations.read(records)
                self._read += len(records)
            except Unavailable as error:
                _log.warning("log_unavailable", error=str(error))
                self._stopping.wait(_RETRY_S)

    def _lag(self) -> int | None:
        try:
            return self._reader.lag()
        except Unavailable:
            return None

    def _is_catching_up(self, lag: int) -> bool:
        if lag > _CLOSE_TO_THE_END:
            return True
        # Close to the end of all topics together, one of them may not have been read at all yet: what was behind
        # when last looked must have been read.
        return self._catching_up and lag > 0 and self._read < self._behind

    def _publish(self, lag: int | None) -> None:
        if lag is not None:
            self._catching_up = self._is_catching_up(lag)
            self._behind, self._read = lag, 0
        now = self._clock()
        state = self._overview.state(Reading(lag, self._catching_up), now)
        contents = self._catalogue.contents(state, now)
        if contents is not self._contents:
            self._contents = contents
            self._catalogue_json = contents.model_dump_json().encode()
        self._exposition.show(state)
        self._state_json = state.model_dump_json().encode()
        self._state = state
