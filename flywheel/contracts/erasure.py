"""The message that says whose data is gone, without saying who."""

from __future__ import annotations

from pydantic import Field

from flywheel.contracts.events import Utc
from flywheel.contracts.messages import Message


class Erased(Message):
    """One entity was erased: of it nothing that arrived until `erased_at` may be read, kept or shown any more.

    What arrives later is a new relation and counts. Of several messages about one entity the newest `erased_at` holds,
    so the topic may be compacted by `key`.
    """

    usecase: str
    entity: str
    """Name of the entity, such as `card`."""
    pseudonym: str
    """Keyed hash of the entity's id; see `flywheel.kernel.erasure.EraseKey`."""
    key_check: str
    """Tells whether a reader's key is the one under which the pseudonym was made."""
    erased_at: Utc
    erased_by: str
    """User of the operating system who gave the command."""
    removed: dict[str, int] = Field(default_factory=dict)
    """How many rows, keys or records went from which place; empty in the message that begins an erasure."""

    @property
    def key(self) -> bytes:
        """Key of the record in the topic."""
        return f"{self.entity}:{self.pseudonym}".encode()
