"""What can be set for serving."""

from __future__ import annotations

from pydantic import Field

from flywheel.contracts.settings import PlatformSettings


class ServingSettings(PlatformSettings):
    """The platform's settings and serving's limits; `FLYWHEEL_SERVING_<NAME>` in the environment overrides one."""

    serving_max_in_flight: int = Field(default=128, gt=0)
    """Decisions at once, and connections to the feature store; one more is refused with RESOURCE_EXHAUSTED.

    gRPC hands requests over one by one: what arrives faster than that waits, unseen by this limit.
    """
    serving_max_subject_bytes: int = Field(default=64 * 1024, gt=0)
    """A larger request is refused before it is decoded, with RESOURCE_EXHAUSTED."""
    serving_model_poll_s: float = Field(default=1.0, gt=0)
    """How often the deployment log is looked at."""
    serving_log_capacity: int = Field(default=50_000, gt=0)
    """Answered decisions that may wait for the broker; at 1.5 KiB each this bounds memory."""
    serving_drain_s: float = Field(default=5.0, gt=0)
    """After SIGTERM: for requests under way, and again for decisions that wait for the broker."""
