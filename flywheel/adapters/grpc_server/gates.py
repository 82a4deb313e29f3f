"""The gate of a port that refuses nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat

from flywheel.adapters.grpc_server.status import Refusal, Status


class OpenGate:
    """Admits everything."""

    def look(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:  # noqa: ARG002
        """None."""
        return None

    begin = look

    def repeated(self, path: str, metadata: Mapping[str, str], refusal: Refusal, count: int) -> Iterator[Refusal]:  # noqa: ARG002
        """The same refusal, which was another gate's."""
        return repeat(refusal, count)

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:
        """Nothing is counted."""
