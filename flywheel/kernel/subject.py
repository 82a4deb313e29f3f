"""Reads the subject of a decision: the request event, as the use case declares it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flywheel.contracts.events import Event, to_us
from flywheel.kernel.event_times import untrue

_MAX_NAME_CHARS = 64


@dataclass(frozen=True)
class WrongField:
    """What is wrong with one field, and what would be right. Never holds the value itself."""

    field: str
    reason: str
    hint: str


class InvalidSubject(ValueError):
    """The subject is refused for good: names the field, the reason and the way out, of the first as of `more`."""

    def __init__(self, field: str, reason: str, hint: str, more: Sequence[WrongField] = ()) -> None:
        self.field = field[:_MAX_NAME_CHARS]
        self.reason = reason
        self.hint = hint
        self.wrong = (WrongField(self.field, reason, hint), *more)
        others = f" (and {len(more)} more)" if more else ""
        super().__init__(f"{self.field or 'subject'}: {reason}{others}; {hint}")


def read_subject(request: type[Event], raw: bytes, now_us: int) -> Event:
    """The typed request event. Raises InvalidSubject, also for a time ahead of the clock or before 1970."""
    try:
        subject = request.model_validate_json(raw)
    except ValidationError as error:
        raise _invalid(request, error) from None
    wrong = untrue(to_us(subject.event_time), now_us)
    if wrong is not None:
        raise InvalidSubject("event_time", *wrong)
    return subject


def _invalid(request: type[Event], error: ValidationError) -> InvalidSubject:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    first, *more = [_wrong(request, each) for each in details]
    return InvalidSubject(first.field, first.reason, first.hint, more)


def _wrong(request: type[Event], details: ErrorDetails) -> WrongField:
    field = ".".join(str(part) for part in details["loc"])
    reason = details["msg"][:1].lower() + details["msg"][1:]
    return WrongField(field[:_MAX_NAME_CHARS], reason, _hint(request, details))


def _hint(request: type[Event], details: ErrorDetails) -> str:
    fields = ", ".join(request.model_fields)
    if details["type"] == "extra_forbidden":
        return f"leave it out; the fields of a {request.event_name} are {fields}"
    if not details["loc"]:
        return f"send a JSON object with the fields {fields}"
    if details["type"] == "timezone_aware":
        return 'end it with "Z" or an offset such as "+02:00"'
    field = request.model_fields.get(str(details["loc"][0]))
    return f"send {_wanted(field.annotation)}" if field is not None else f"the fields are {fields}"


def _wanted(annotation: object) -> str:
    if annotation is int:
        return "a whole number within its bounds"
    if annotation is float:
        return "a finite number within its bounds"
    return "text of letters, digits and . _ : -" if annotation is str else "the form that the declaration asks for"
