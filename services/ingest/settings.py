"""What can be set for ingest."""

from __future__ import annotations

from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog


class IngestSettings(PlatformSettings):
    """The platform's settings and ingest's limits; `FLYWHEEL_INGEST_<NAME>` in the environment overrides one."""

    ingest_usecases: tuple[str, ...] = ()
    """Use cases whose events are accepted; empty means all there are."""

    ingest_max_event_bytes: int = 64 * 1024
    """A larger event is refused."""
    ingest_max_batch_bytes: int = 5 * 1024 * 1024
    """A larger body is refused before it is decoded."""
    ingest_max_batch_events: int = 5_000
    """A batch of more events is refused."""
    ingest_max_requests: int = 128
    """Requests at once; with the bound on a body it bounds memory."""
    ingest_max_in_flight_events: int = 50_000
    """Events that may wait for the broker's acknowledgement; more are answered with 503."""
    ingest_body_timeout_s: float = 10.0
    """A client that takes longer to send its body is refused."""
    ingest_delivery_timeout_s: float = 5.0
    """An event that the broker has not acknowledged by then is answered with 503."""
    ingest_max_ahead_s: float = 300.0
    """An event may claim a time this far ahead of the wall clock."""

    @property
    def served_usecases(self) -> tuple[str, ...]:
        return self.ingest_usecases or catalog.names()
