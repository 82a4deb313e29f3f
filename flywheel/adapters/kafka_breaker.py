"""A breaker in front of the broker: open while deliveries fail or stall, closed again by an answer."""

from __future__ import annotations

from flywheel.adapters.logs import logger

_log = logger(__name__)


class Breaker:
    """Whether records may be sent; told what happens to them, with times in seconds on any one clock.

    >>> breaker = Breaker(stalled_after_s=1.5)
    >>> breaker.progressed(10.0); breaker.waited(11.0); breaker.is_open
    False
    >>> breaker.waited(12.0); breaker.is_open
    True
    >>> breaker.acknowledged(); breaker.is_open
    False
    """

    def __init__(self, stalled_after_s: float) -> None:
        self._stalled_after_s = stalled_after_s
        self._progress_at = 0.0
        self.is_open = False

    def progressed(self, now: float) -> None:
        """Records began to wait or reports came in, at `now`."""
        self._progress_at = now

    def waited(self, now: float) -> None:
        """Records wait and nothing came in until `now`."""
        if now - self._progress_at > self._stalled_after_s:
            self.failed(f"no acknowledgement for {now - self._progress_at:.1f} s")

    def failed(self, reason: str) -> None:
        """A record was not delivered, or no broker can be reached."""
        if not self.is_open:
            self.is_open = True
            _log.warning("broker_away", reason=reason)

    def acknowledged(self) -> None:
        """The broker took a record."""
        self._close("acknowledged")

    def probed(self) -> None:
        """The broker answered a question."""
        self._close("answered a probe")

    def _close(self, reason: str) -> None:
        if self.is_open:
            self.is_open = False
            _log.info("broker_back", reason=reason)
