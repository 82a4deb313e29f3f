"""A refused request is told to its caller in full and to the logs without anything the caller made up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
import structlog
from structlog.testing import capture_logs

from flywheel.adapters.logs import Pseudonyms
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.kernel.decision import Decider
from flywheel.kernel.lineup import Lineup
from services.serving.bootstrap import CLOCK
from services.serving.journal import Journal
from services.serving.servicer import DecisionsServicer, Desk
from tests.serving_parts import PLAN, USECASE, payment

SECRET = "4111 1111 1111 1111"


class Refused(Exception):
    """Carries the status that the caller got."""


class Call:
    """A call without a deadline."""

    def time_remaining(self) -> float | None:
        return None

    async def abort(self, status: grpc.StatusCode, details: str) -> None:
        raise Refused(status, details)


@pytest.fixture
def captured() -> Iterator[list[structlog.typing.EventDict]]:
    structlog.reset_defaults()
    logging.root.setLevel(logging.DEBUG)
    with capture_logs() as lines:
        yield lines


async def decide(subject: bytes, request_id: str = "") -> DecideResponse:
    log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)
    journal = Journal(USECASE, log, Pseudonyms("key"), verbose=True)
    store = MemoryFeatureStore(PLAN).reader()
    decider = Decider(USECASE, store, lambda: Lineup(), clock=CLOCK, new_id=lambda: "d1", observer=journal)
    servicer = DecisionsServicer({"fraud": Desk(decider, journal)})
    request = DecideRequest(usecase="fraud", subject=subject, request_id=request_id)
    return await servicer.Decide(request, cast(Any, Call()))


async def test_an_undeclared_field_is_named_to_the_caller_and_not_to_the_logs(
    captured: list[structlog.typing.EventDict],
) -> None:
    with pytest.raises(Refused, match=SECRET):
        await decide(payment(**{SECRET: 1}))
    assert SECRET not in str(captured)
    assert captured[0]["reason"].startswith("(undeclared): ")


async def test_a_declared_field_is_named_to_the_logs(captured: list[structlog.typing.EventDict]) -> None:
    with pytest.raises(Refused):
        await decide(payment(amount_cents=SECRET))
    assert SECRET not in str(captured)
    assert captured[0]["reason"].startswith("amount_cents: ")


@pytest.mark.parametrize("claimed", [SECRET, "x" * 65, "two\nlines"])
async def test_an_ill_formed_request_id_is_replaced(claimed: str, captured: list[structlog.typing.EventDict]) -> None:
    answer = await decide(payment(), claimed)
    assert len(answer.request_id) == 32
    with pytest.raises(Refused):
        await decide(b"{", claimed)
    assert len(captured) > 1
    assert not any(claimed in str(value) for line in captured for value in line.values())


async def test_a_well_formed_request_id_is_kept(captured: list[structlog.typing.EventDict]) -> None:
    assert (await decide(payment(), "order-7:2")).request_id == "order-7:2"
    assert "order-7:2" in [line.get("request_id") for line in captured]
