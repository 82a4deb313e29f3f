"""Records of event topics that are no event: what is wrong with each, said without repeating what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import orjson
from pydantic import ValidationError

from flywheel.contracts.events import Envelope, Event
from flywheel.kernel.erasure import Erasures

KEPT_BYTES = 4_096
"""Of each record's key and value; what is longer is cut."""

_MAX_ERRORS = 5


class Fault(StrEnum):
    """What a record is not."""

    NOT_JSON = "not_json"
    NO_ENVELOPE = "no_envelope"
    NO_EVENT = "no_event"


@dataclass(frozen=True)
class DeadLetter:
    """One record that could not be taken in; topic, partition and offset identify it."""

    topic: str
    partition: int
    offset: int
    received_us: int
    fault: str
    detail: str
    """Fields and rules that are not met, never a value."""
    key: bytes
    value: bytes
    """Begin of the record's value, at most `KEPT_BYTES`."""
    size_bytes: int
    """Size of the whole value."""

    def names_anyone_in(self, erasures: Erasures) -> bool:
        """Whether it mentions somebody erased, so that it may not be kept."""
        return erasures.mentioned_in(self.key + b" " + self.value, self.received_us)


def cut(raw: bytes) -> bytes:
    """At most `KEPT_BYTES` of it, without the word that the cut goes through: half an id could not be erased.

    >>> len(cut(b"a " * 4096)), cut(b"x" * 5000)
    (4096, b'')
    """
    if len(raw) <= KEPT_BYTES:
        return raw
    kept = raw[:KEPT_BYTES]
    if not _in_word(raw[KEPT_BYTES]):
        return kept
    while kept and _in_word(kept[-1]):
        kept = kept[:-1]
    return kept


def examine(event: type[Event], value: bytes) -> tuple[Fault, str]:
    """What is wrong with a record's whole value, and where."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return Fault.NOT_JSON, f"no JSON from character {error.pos}"
    try:
        envelope = Envelope.model_validate(found)
    except ValidationError as error:
        return Fault.NO_ENVELOPE, _told(error, Envelope.model_fields)
    try:
        event.model_validate(envelope.event, strict=False)
    except ValidationError as error:
        return Fault.NO_EVENT, _told(error, event.model_fields)
    return Fault.NO_EVENT, "Spark reads a field otherwise than declared"


def _told(error: ValidationError, declared: object) -> str:
    # Declared names and rules only: whatever else was sent may identify a person.
    names = declared if isinstance(declared, dict) else {}
    found = error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_ERRORS]
    return "; ".join(
        f"{details['loc'][0] if details['loc'] and details['loc'][0] in names else '(undeclared)'}: {details['type']}"
        for details in found
    )


def _in_word(byte: int) -> bool:
    return chr(byte).isalnum() or byte in b"._:-"
