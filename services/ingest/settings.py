"""What can be set for ingest."""

from __future__ import annotations

from pydantic import Field

from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog


class IngestSettings(PlatformSettings):
    """The platform's settings and ingest's limits; `FLYWHEEL_INGEST_<NAME>` in the environment overrides one."""

    ingest_usecases: tuple[str, ...] = ()
    """Use cases whose events are accepted; empty means all there are."""

    ingest_max_event_bytes: int = Field(default=64 * 1024, gt=0)
    """A larger event is refused."""
    ingest_max_batch_bytes: int = Field(default=5 * 1024 * 1024, gt=0)
    """A larger body is refused before it is decoded."""
    ingest_max_batch_events: int = Field(default=5_000, gt=0)
    """A batch of more events is refused."""
    ingest_max_requests: int = Field(default=128, gt=0)
    """Requests at once; with the bound on a body it bounds memory."""
    ingest_max_in_flight_events: int = Field(default=50_000, gt=0)
    """Events that may wait for the broker's acknowledgement; more are answered with 503."""
    ingest_body_timeout_s: float = Field(default=10.0, gt=0)
    """A client that takes longer to send its body is refused."""
    ingest_delivery_timeout_s: float = Field(default=5.0, gt=0)
    """An event that the broker has not acknowledged by then is answered with 503."""
    ingest_max_ahead_s: float = Field(default=300.0, ge=0)
    """An event may claim a time this far ahead of the wall clock."""

    @property
    def served_usecases(self) -> tuple[str, ...]:
        return self.ingest_usecases or catalog.names()
