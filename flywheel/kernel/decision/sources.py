"""The first stage: from what a caller sent to the subjects that are decided about."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.kernel.admission import lowered
from flywheel.kernel.decision.requests import Case, DecisionRequest, Refused
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.hydration import Subject
from flywheel.kernel.subject import read_subject
from flywheel.kernel.timing import Allowance

ReadSubject = Callable[[DecisionRequest, int], Subject]
"""The subject of a request as of a wall-clock time in microseconds. Raises InvalidSubject."""


class Source:
    """Reads requests. `read` is for use cases whose subject is more than its event."""

    def __init__(self, usecase: UseCase, new_id: Callable[[], str], read: ReadSubject | None = None) -> None:
        self._usecase = usecase
        self._unit = usecase.experiment.unit
        self._criticality = usecase.criticality
        self._declared = usecase.criticality.word
        self._new_id = new_id
        self._read = read or self._read_event

    def case(self, request: DecisionRequest, now_us: int, now_s: float) -> Case | Refused:
        """The request on its way, or why it does not even begin."""
        arrived_s = now_s if request.arrived_s is None else request.arrived_s
        allowance = Allowance(self._usecase.budget, arrived_s, request.deadline_s)
        late = allowance.late(now_s)
        if late is not None:
            return Refused(request.request_id, late)
        try:
            subject = self._read(request, now_us)
        except Exception as error:
            # InvalidSubject, or what nobody foresaw of this one: the others go on.
            return Refused(request.request_id, error)
        unit = str(getattr(subject.event, self._unit))
        case = Case(request, request.request_id or self._new_id(), subject, unit, allowance)
        asked = request.criticality
        case.criticality = lowered(self._criticality, asked).word if asked else self._declared
        return case

    def _read_event(self, request: DecisionRequest, now_us: int) -> Subject:
        return Subject(read_subject(self._usecase.request, request.subject, now_us))
