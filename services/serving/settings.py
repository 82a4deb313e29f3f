"""What can be set for serving."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from flywheel.contracts.settings import PlatformSettings

_STOP_SPARE_S = 5.0
"""For the last metrics, closed connections and the end of Python, on a machine that does other things as well."""


class ServingSettings(PlatformSettings):
    """The platform's settings and serving's limits; `FLYWHEEL_SERVING_<NAME>` in the environment overrides one."""

    serving_max_in_flight: int = Field(default=256, gt=0)
    """At most so many decisions at once; how many it really are follows the time they take. One more is refused."""
    serving_max_subject_bytes: int = Field(default=64 * 1024, gt=0)
    """A larger request is refused before it is decoded, with RESOURCE_EXHAUSTED."""
    serving_max_batch_bytes: int = Field(default=1024 * 1024, gt=0)
    """The same of a batch as a whole; a thousand subjects of a kilobyte."""
    serving_workers: int = Field(default=1, gt=0)
    """Processes behind the one port, one for each core that serving may have; SIGHUP to the pid
    that `make status` shows replaces them one by one, and does nothing where there is one. Callers need as many
    connections to use them all."""
    serving_worker_silence_s: float = Field(default=5.0, ge=1)
    """One of several workers that is not heard for so long, because its event loop is blocked or it was stopped, is
    killed and replaced; while no other serves, only after three times as long."""
    serving_tls_certificate: Path | None = None
    """Certificate chain (PEM) of gRPC and HTTP; without one both speak plain text. Read again when the file changes."""
    serving_tls_key: Path | None = None
    """Its private key (PEM, without a passphrase)."""
    serving_tls_client_ca: Path | None = None
    """Certificates (PEM) that must have signed those of callers: mutual TLS."""
    serving_connection_age_s: float = Field(default=0.0, ge=0)
    """A client's connection that is about so old is asked to go, and ends with its calls: the client looks up the name
    of serving again and finds replicas that were added. 0: never."""
    serving_max_candidates: int = Field(default=500, gt=0)
    """Candidates that one ranking may have; with names of 64 characters these are half of the subject's bytes."""
    serving_cached_entities: int = Field(default=50_000, gt=0)
    """Of each kind of entity whose tables are declared to be cached, so many rows are kept, of a few hundred bytes."""
    serving_model_poll_s: float = Field(default=1.0, gt=0)
    """How often the deployment log is looked at."""
    serving_log_capacity: int = Field(default=50_000, gt=0)
    """Answered decisions that may wait for the broker; at 1.5 KiB each this bounds memory."""
    serving_spool_promise: Literal["process", "disk"] = "process"
    """What a decision that is declared durable survives once it is answered: the death of serving, or with `disk` that
    of the machine, for a write and fdatasync that decisions under way share."""
    serving_spool_mib: int = Field(default=1024, gt=0)
    """Durable decisions on disk while the broker is away; beyond it they wait in memory like the others."""
    serving_spool_patience_ms: float = Field(default=10.0, gt=0)
    """At most so long an answer waits for the disk. What is answered before it is there is counted as unprotected; a
    disk that is slower again and again is left alone for a second."""
    serving_shadow_capacity: int = Field(default=1_024, gt=0)
    """Decisions that may wait for the shadow; one more is not scored by it."""
    serving_notice_s: float = Field(default=0.0, ge=0)
    """After SIGTERM it says for so long that it is not ready, and answers all the same: a balancer before it turns to
    others first. Longer than the balancer takes to ask and to see; without one, 0."""
    serving_drain_s: float = Field(default=5.0, gt=0)
    """After SIGTERM and the notice: for requests under way, and again for decisions that wait for the broker."""
    serving_inference_max_rows: int = Field(default=1_000, gt=0)
    """Rows that one request for a model's scores may bring."""
    serving_inference_max_bytes: int = Field(default=1024 * 1024, gt=0)
    """A larger request of that kind is refused before it is decoded."""
    serving_rest_body_timeout_s: float = Field(default=10.0, gt=0)
    """A client that takes longer to send its body is refused."""

    @property
    def last_good_dir(self) -> Path:
        """Serving's own copy of the models it answers with."""
        return self.data_dir / "serving" / "models"

    @property
    def stop_within_s(self) -> float:
        """One serving process has ended so long after SIGTERM; who ends it waits that long before killing it."""
        return self.serving_notice_s + 2 * self.serving_drain_s + _STOP_SPARE_S

    @property
    def heartbeat_s(self) -> float:
        """A worker says so often that it turns."""
        return self.serving_worker_silence_s / 5
