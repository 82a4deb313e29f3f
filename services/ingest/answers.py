"""Turns outcomes into HTTP answers: statuses live here and nowhere further in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.contracts.events import Utc
from services.ingest.intake import Outcome, Status


class ClockAnswer(BaseModel):
    """The present of a stream of events: the wall clock, or the newest event of the world that plays."""

    clock: Literal["wall", "world"]
    now: Utc | None


_RETRY_AFTER = {"Retry-After": "1"}


def answer_one(outcome: Outcome) -> Response:
    """202 when accepted; else the problem: 422 when rejected, 503 when unavailable."""
    if outcome.status is Status.REJECTED:
        return invalid(outcome.errors).to_response()
    if outcome.status is Status.UNAVAILABLE:
        return _unavailable("The event is not known to be kept; send it again", {}).to_response()
    return _json({"event_id": outcome.event_id, "status": "accepted"}, 202)


def answer_batch(outcomes: Sequence[Outcome]) -> Response:
    """200 with one result per event; 503 with the same results when any is unavailable."""
    counts = {status: sum(outcome.status is status for outcome in outcomes) for status in Status}
    body: dict[str, Any] = {"accepted": counts[Status.ACCEPTED], "rejected": counts[Status.REJECTED]}
    results = [_result(index, outcome) for index, outcome in enumerate(outcomes)]
    missing = counts[Status.UNAVAILABLE]
    if missing:
        detail = f"{missing} of {len(outcomes)} events are not known to be kept; send the batch again"
        extra = {**body, "unavailable": missing, "results": results}
        return _unavailable(detail, extra).to_response()
    return _json({**body, "results": results}, 200)


def invalid(errors: Sequence[FieldError]) -> Problem:
    """The refusal of an event that will never be accepted as it is."""
    where = ", ".join(dict.fromkeys(error.field for error in errors if error.field))
    return Problem(
        422, "invalid-event", "The event is not valid", f"see {where}" if where else errors[0].reason, errors
    )


def clock_unknown() -> Problem:
    """The refusal to tell the present of a stream whose log has not been read yet."""
    return _unavailable("The log that tells the stream's present has not been read yet; ask again", {})


def _result(index: int, outcome: Outcome) -> dict[str, Any]:
    result = {"index": index, "event_id": outcome.event_id, "status": outcome.status}
    if outcome.status is Status.REJECTED:
        return {**result, "problem": invalid(outcome.errors).to_dict()}
    return result


def _unavailable(detail: str, extra: dict[str, Any]) -> Problem:
    return Problem(503, "unavailable", "The event log is away", detail, extra=extra, headers=_RETRY_AFTER)


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
