"""What goes wrong for somebody who uses the platform from outside, each with the way out in its message."""

from __future__ import annotations


class ClientError(Exception):
    """Ends a command; the message is one sentence for a person."""


class WorldInPlay(ClientError):
    """Another process plays this world."""


class IngestUnreachable(ClientError):
    """Ingest does not answer, or answers that the broker is away."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"ingest does not accept events at {url} ({detail}); is the stack up? `make status`")


class PresentUnknown(ClientError):
    """Ingest does not tell at what time the stream is."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(
            f"the stream's present is not known, as ingest at {url} does not tell it ({detail}); "
            "see whether the stack is up: `make status`; an event may also be sent with an event_time of its own"
        )


class RequestRefused(ClientError):
    """Ingest refuses a request as a whole; sending it again would not help."""


class ServingUnreachable(ClientError):
    """Serving does not answer."""

    def __init__(self, address: str, detail: str) -> None:
        super().__init__(f"serving does not answer at {address} ({detail}); is the stack up? `make status`")
