"""Lanes tell each other how far they are through the broker, which they read from anyway."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.adapters.kafka_positions import KafkaPositions, Noted
from services.features.edge.share import Told


class KafkaPeers:
    """What lanes say, as positions with a note."""

    def __init__(self, positions: KafkaPositions) -> None:
        self._positions = positions

    def tell(self, told: Mapping[tuple[str, int], Told]) -> None:
        """Says how far this lane is; returns at once. Raises Unavailable."""
        self._positions.write({place: Noted(each.offset, _note(each)) for place, each in told.items()})

    def hear(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], Told]:
        """What was said last of those partitions. Raises Unavailable."""
        found = {place: _told(noted) for place, noted in self._positions.read(places).items()}
        return {place: told for place, told in found.items() if told is not None}


def _note(told: Told) -> str:
    return f"{told.at_us} {'-' if told.newest_us is None else told.newest_us} {told.source}"


def _told(noted: Noted) -> Told | None:
    """None where somebody else wrote it."""
    try:
        at_us, newest_us, source = noted.note.split(" ", 2)
        return Told(noted.offset, None if newest_us == "-" else int(newest_us), source, int(at_us))
    except ValueError:
        return None
