"""What one client, or all of them, may take from the port."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """Bounds of memory, time and work. The defaults suit small messages on a port of one process."""

    message_bytes: int = 4 * 1024 * 1024
    """A longer message is refused before it is kept, compressed or not."""
    message_bytes_of: Mapping[str, int] = field(default_factory=dict)
    """Another length for some methods, by path."""
    kept_bytes: int = 64 * 1024 * 1024
    """Of one connection's messages that are unfinished or wait to be asked for; what comes above that is refused."""
    streams: int = 1024
    """Calls in flight on one connection, as announced to it."""
    streaming_calls: int = 16
    """Those of them that are of streaming methods; no gate admits these."""
    unfinished: int = 256
    """Of those, the unary ones whose message has not come whole; one more is refused, for its client to try again."""
    held_bytes: int = 64 * 1024 * 1024
    """Of one connection's answers that wait for its windows; calls whose answer comes above that fail."""
    connections: int = 4096
    """One more is closed at once."""
    header_list_bytes: int = 16 * 1024
    """Names and values of one request's headers, each with 32 bytes of overhead, as HTTP/2 counts."""
    control_frames_per_s: int = 20_000
    """Resets, pings, settings, empty and unknown frames of one connection, beyond one for each answered call; it is
    closed above that."""
    handshake_s: float = 10.0
    """From the connection to the client's settings."""
    request_s: float = 15.0
    """For a header block, and from there to the end of a call's message; slower senders are cut off."""
    stalled_s: float = 30.0
    """How long a client may leave answers unread before its connection is closed."""
    released_bytes_per_s: int = 1024
    """While answers wait for a client's windows, it must let go so many on average of `stalled_s`."""
    idle_s: float = 3600.0
    """A connection without calls is asked to go after that."""
    age_s: float = math.inf
    """A connection that is about so old, a tenth more or less, is asked to go; its calls are finished."""
    linger_s: float = 1.0
    """How long the other side may take to close a connection that is finished."""

    @property
    def longest_message_bytes(self) -> int:
        """Of any method."""
        return max(self.message_bytes, *self.message_bytes_of.values(), 0)
