"""Events: what a use case accepts from the outside, and the envelope in which the broker keeps them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Self

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

BACKFILL_HEADER = "Flywheel-Backfill"
"""With the value `true` it tells ingest that a request's events are loaded after the fact, not as they happen."""


class _Personal:
    """Marks a field that identifies a person."""

    def __repr__(self) -> str:
        return "Personal"


PERSONAL = _Personal()
"""Put it into a field's `Annotated[...]`: the field is hashed wherever it is logged and erased on request."""


def to_us(moment: datetime) -> int:
    """Microseconds since the Unix epoch.

    >>> to_us(datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    60000000
    """
    # Several times as fast as a division of durations, and this is asked for with every event.
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_us(us: int) -> datetime:
    """The UTC moment that many microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=us)


def iso_utc(moment: datetime) -> str:
    """ISO-8601 of a UTC moment, always with six digits of fraction, so that every reader parses one format.

    >>> iso_utc(datetime(2018, 4, 1, tzinfo=UTC))
    '2018-04-01T00:00:00.000000Z'
    """
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def _not_a_number(value: object) -> object:
    # A bare number, quoted or not, would be guessed to be seconds or milliseconds.
    is_one = value[4:5] != "-" if isinstance(value, str) else isinstance(value, int | float)
    if is_one:
        raise PydanticCustomError("iso_time", "Input should be ISO-8601 text with a time zone")
    return value


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise PydanticCustomError("iso_time", "Input should be a time between the years 1 and 9999 in UTC") from error


Utc = Annotated[
    AwareDatetime,
    BeforeValidator(_not_a_number),
    AfterValidator(_utc),
    PlainSerializer(iso_utc, return_type=str, when_used="json"),
    Field(strict=False),
]
Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]


class Event(BaseModel):
    """A fact with a time and an identity. Use cases subclass it and add their typed fields.

    `event_id` makes redelivery harmless: two events of one name with the same id are the same event.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    event_name: ClassVar[str]
    """Names the endpoint and the topic; lower case."""
    partition_key: ClassVar[str]
    """The field whose value orders this event's stream."""

    event_id: Identifier
    event_time: Utc

    @classmethod
    def personal_fields(cls) -> frozenset[str]:
        """Names of the fields marked `PERSONAL`."""
        return frozenset(name for name, field in cls.model_fields.items() if PERSONAL in field.metadata)

    @property
    def event_time_us(self) -> int:
        return to_us(self.event_time)


class Envelope(BaseModel):
    """An accepted event as the broker keeps it: the event's own fields, when it arrived, and by which request.

    A backfilled event was loaded after the fact, so its arrival says nothing about when it could have been known.
    """

    model_config = ConfigDict(frozen=True)

    event: dict[str, Any]
    ingest_time: Utc
    request_id: str
    backfilled: bool = False

    @classmethod
    def seal(cls, event: Event, *, ingest_time: datetime, request_id: str, backfilled: bool = False) -> Self:
        fields = event.model_dump(mode="json")
        return cls(event=fields, ingest_time=ingest_time, request_id=request_id, backfilled=backfilled)

    @staticmethod
    def sealer(*, ingest_time: datetime, request_id: str, backfilled: bool = False) -> Callable[[Event], bytes]:
        """Turns each event of one request into the bytes of `seal(...).to_bytes()`, with one serialisation only."""
        arrived = iso_utc(ingest_time.astimezone(UTC))
        rest = orjson.dumps({"ingest_time": arrived, "request_id": request_id, "backfilled": backfilled})
        tail = b"," + rest[1:]
        return lambda event: b'{"event":' + event.model_dump_json().encode() + tail

    def to_bytes(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        return cls.model_validate(orjson.loads(raw))
