"""What goes wrong for somebody who uses the platform from outside, each with the way out in its message."""

from __future__ import annotations

_LOOK = "is the stack up? `make status`"


class ClientError(Exception):
    """Ends a command; the message is one sentence for a person."""


class WorldInPlay(ClientError):
    """Another process plays this world."""


class IngestUnreachable(ClientError):
    """Ingest does not answer, or answers that the broker is away."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"ingest does not accept events at {url} ({detail}); {_LOOK}")


class PresentUnknown(ClientError):
    """Ingest does not tell at what time the stream is; `status` is of its HTTP answer, None when it gave none."""

    def __init__(self, url: str, detail: str, status: int | None = None) -> None:
        self.detail = detail
        self.status = status
        super().__init__(
            f"the stream's present is not known, as ingest at {url} does not tell it ({detail}); "
            "see whether the stack is up: `make status`; an event may also be sent with an event_time of its own"
        )


class RequestRefused(ClientError):
    """Ingest refuses a request as a whole; sending it again would not help."""


class ServingUnreachable(ClientError):
    """Serving gave no answer: it is away, overloaded, late or broken."""

    def __init__(self, address: str, detail: str, said: str = "does not answer", hint: str = _LOOK) -> None:
        super().__init__(f"serving {said} at {address} ({detail}); {hint}")
