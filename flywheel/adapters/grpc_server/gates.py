"""Gates that need to know nothing: one that is open, one that counts."""

from __future__ import annotations

from collections.abc import Container, Mapping

from flywheel.adapters.grpc_server.status import Refusal, Status

_FULL = Refusal(Status.RESOURCE_EXHAUSTED, "as many calls as are allowed are in flight")


class OpenGate:
    """Admits everything."""

    def refusal(self, path: str, metadata: Mapping[str, str]) -> Refusal | None:  # noqa: ARG002
        """None."""
        return None

    def ended(self, path: str, seconds: float, outcome: Status) -> None:
        """Nothing is counted."""


class CountingGate:
    """Admits so many calls of these paths at once, and any of all others."""

    def __init__(self, limit: int, paths: Container[str]) -> None:
        self.in_flight = 0
        self._limit = limit
        self._paths = paths

    def refusal(self, path: str, metadata: Mapping[str, str]) -> Refusal | None:  # noqa: ARG002
        """A refusal when as many as allowed are in flight."""
        if path in self._paths:
            if self.in_flight >= self._limit:
                return _FULL
            self.in_flight += 1
        return None

    def ended(self, path: str, seconds: float, outcome: Status) -> None:  # noqa: ARG002
        """One less."""
        if path in self._paths:
            self.in_flight -= 1
