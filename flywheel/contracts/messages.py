"""What all messages between services have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A message between services: immutable JSON; fields a later version adds are ignored.

    Numbers may be NaN or infinite, which plain JSON has no words for; pydantic writes and reads them as Python does.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    def to_bytes(self) -> bytes:
        return self.model_dump_json().encode()
