"""What callers are told whose request has no answer, whatever they asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from flywheel.adapters.grpc_server.calls import NO_TRAILERS
from flywheel.adapters.grpc_server.status import Status
from flywheel.contracts.metadata import FIELD_ERRORS
from flywheel.kernel.decision import Refused
from flywheel.kernel.subject import InvalidSubject, WrongField
from flywheel.kernel.timing import OutOfTime
from services.serving.decisions.journal import Journal

_STATUS = {InvalidSubject: Status.INVALID_ARGUMENT, OutOfTime: Status.DEADLINE_EXCEEDED}

# Clients of gRPC take 8 KiB of metadata and no more, and a subject may have wrong fields without end.
_MAX_ERRORS_CHARS = 4_096


def written_down(refused: Refused, journal: Journal) -> tuple[Status, str, Mapping[str, str]]:
    """Writes the refusal down; what the caller is told: a status, a sentence and trailing metadata."""
    status = _STATUS.get(type(refused.error))
    if status is None:
        # Nobody foresaw it: the caller gets a status and the request's id, the log gets the whole story.
        journal.failed(refused.request_id, refused.error)
        return Status.INTERNAL, f"request {refused.request_id} failed; serving's log says why", NO_TRAILERS
    journal.refused(status.name, refused.request_id, refused.error)
    wrong = refused.error.wrong if isinstance(refused.error, InvalidSubject) else ()
    return status, str(refused.error), {FIELD_ERRORS: _field_errors(wrong)} if wrong else NO_TRAILERS


def _field_errors(wrong: Sequence[WrongField]) -> str:
    """As many of them as there is room for."""
    told: list[str] = []
    room = _MAX_ERRORS_CHARS - len("[]")
    for each in wrong:
        text = json.dumps(asdict(each))
        room -= len(text) + len(", ")
        if room < 0:
            break
        told.append(text)
    return f"[{', '.join(told)}]"
