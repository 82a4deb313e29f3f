"""A wrong subject is refused with all that is wrong with it, in what a header holds."""

from __future__ import annotations

import json
from collections.abc import Sequence

import orjson
import pytest

from flywheel.adapters.grpc_server.status import CallFailed, Status
from flywheel.adapters.logs import Pseudonyms
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.contracts.metadata import FIELD_ERRORS
from flywheel.kernel.decision import Refused
from flywheel.kernel.subject import InvalidSubject, read_subject
from flywheel.kernel.timing import OutOfTime
from services.serving.decisions.journal import Journal
from services.serving.decisions.refusals import written_down
from services.serving.rest.answers import problem_of
from tests.serving_parts import USECASE, payment

WRONG = payment(amount_cents=-1, card_id=None, pin="1234")


@pytest.fixture
def journal() -> Journal:
    log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None, capacity=2)
    return Journal(USECASE, log, Pseudonyms("key"))


def refused(raw: bytes) -> Refused:
    with pytest.raises(InvalidSubject) as caught:
        read_subject(USECASE.request, raw, 0)
    return Refused("r1", caught.value)


def test_every_wrong_field_is_told_with_reason_and_way_out(journal: Journal) -> None:
    status, reason, trailers = written_down(refused(WRONG), journal)
    assert status is Status.INVALID_ARGUMENT
    assert "(and 2 more)" in reason
    found = problem_of(CallFailed(status, reason, trailers)).to_dict()
    assert (found["status"], found["detail"]) == (422, reason)
    assert {each["field"] for each in found["errors"]} == {"amount_cents", "card_id", "pin"}
    assert all(each["reason"] and each["hint"] for each in found["errors"])
    assert "1234" not in orjson.dumps(found).decode()


def test_one_wrong_field_is_told_in_the_same_shape(journal: Journal) -> None:
    status, reason, trailers = written_down(refused(payment(amount_cents=0)), journal)
    (only,) = problem_of(CallFailed(status, reason, trailers)).errors
    assert (only.field, "more)" in reason) == ("amount_cents", False)


@pytest.mark.parametrize("names", [[f"f{place}" for place in range(5_000)], ["\x7f\n\u2028é" * 30]])
def test_whatever_is_sent_metadata_stays_small_and_printable(journal: Journal, names: Sequence[str]) -> None:
    raw = payment(**{name: 1 for name in names})
    told = written_down(refused(raw), journal)[2][FIELD_ERRORS]
    assert len(told) <= 4_096
    assert all(" " <= character <= "~" for character in told)
    assert json.loads(told)[0]["field"] == names[0][:64]


def test_other_refusals_have_no_fields(journal: Journal) -> None:
    for error in (OutOfTime("late"), RuntimeError("odd")):
        status, reason, trailers = written_down(Refused("r1", error), journal)
        assert not trailers
        assert "errors" not in problem_of(CallFailed(status, reason, trailers)).to_dict()
