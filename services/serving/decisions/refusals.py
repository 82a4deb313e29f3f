"""What callers are told whose request has no answer, whatever they asked for."""

from __future__ import annotations

from flywheel.adapters.grpc_server.status import Status
from flywheel.kernel.decision import Refused
from flywheel.kernel.subject import InvalidSubject
from flywheel.kernel.timing import OutOfTime
from services.serving.decisions.journal import Journal

_STATUS = {InvalidSubject: Status.INVALID_ARGUMENT, OutOfTime: Status.DEADLINE_EXCEEDED}


def written_down(refused: Refused, journal: Journal) -> tuple[Status, str]:
    """Writes the refusal down; what the caller is told."""
    status = _STATUS.get(type(refused.error))
    if status is None:
        # Nobody foresaw it: the caller gets a status and the request's id, the log gets the whole story.
        journal.failed(refused.request_id, refused.error)
        return Status.INTERNAL, f"request {refused.request_id} failed; serving's log says why"
    journal.refused(status.name, refused.request_id, refused.error)
    return status, str(refused.error)
