"""The source of a ranking: its context, and the candidates that differ from it in one field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import TypeAdapter, ValidationError

from flywheel.contracts.events import Event
from flywheel.contracts.rankings import impression_id
from flywheel.kernel.decision.requests import DecisionRequest
from flywheel.kernel.hydration import Subject
from flywheel.kernel.subject import InvalidSubject, read_subject

MAX_CANDIDATES = 1_000
MAX_EVENT_ID_CHARS = 64
"""Of an event's id; a candidate's is the ranking's and the candidate's together."""

CANDIDATES = "candidates"


class CandidateSource:
    """Reads rankings: the subject is the request event without the candidate's field, as JSON."""

    def __init__(self, request: type[Event], candidate: str, *, limit: int = MAX_CANDIDATES) -> None:
        self._request = request
        self._candidate = candidate
        self._limit = limit
        info = request.model_fields[candidate]
        each: Any = Annotated[info.annotation, info]
        self._checked: TypeAdapter[list[str]] = TypeAdapter(list[each])

    def subject(self, request: DecisionRequest, now_us: int) -> Subject:
        """The context and its candidates. Raises InvalidSubject for what is wrong with either."""
        candidates = self._candidates(request.candidates)
        event = read_subject(self._request, self._with_candidate(request.subject, candidates[0]), now_us)
        longest = max(candidates, key=len)
        if len(impression_id(event.event_id, longest)) > MAX_EVENT_ID_CHARS:
            room = MAX_EVENT_ID_CHARS - len(impression_id("", longest))
            raise InvalidSubject(
                "event_id",
                "leaves no room for the candidates, with whose names it makes the ids of their impressions",
                f"send one of at most {room} characters" if room > 0 else "give the candidates shorter names",
            )
        return Subject(event, candidates)

    def _with_candidate(self, raw: bytes, candidate: str) -> bytes:
        """The subject as if it were about this candidate; as it is where it is wrong, for that will be told."""
        try:
            fields = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
        if not isinstance(fields, dict):
            return raw
        if self._candidate in fields:
            raise InvalidSubject(
                self._candidate, "is what the candidates are", f"leave it out; name them in {CANDIDATES}"
            )
        return orjson.dumps({**fields, self._candidate: candidate})

    def _candidates(self, candidates: Sequence[str]) -> list[str]:
        number = len(candidates)
        if not 0 < number <= self._limit:
            raise InvalidSubject(
                CANDIDATES, f"there are {number}", f"send 1 to {self._limit} (FLYWHEEL_SERVING_MAX_CANDIDATES)"
            )
        try:
            found = self._checked.validate_python(list(candidates))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = f"{CANDIDATES}[{first['loc'][0]}]"
            raise InvalidSubject(place, first["msg"], f"send values of {self._candidate}") from None
        if len(set(found)) < number:
            raise InvalidSubject(f"{CANDIDATES}[{_first_repeated(found)}]", "is there already", "send each one once")
        return found


def _first_repeated(candidates: Sequence[Any]) -> int:
    seen = set()
    for place, candidate in enumerate(candidates):
        if candidate in seen:
            return place
        seen.add(candidate)
    raise ValueError("all differ")
