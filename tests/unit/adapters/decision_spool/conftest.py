"""Fixtures of the spool's tests."""

from __future__ import annotations

import pytest

from flywheel.adapters import decision_spool, spool_delivery
from flywheel.adapters.decision_spool import Promise


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_delivery, "_AGAIN_S", 0.01)
    monkeypatch.setattr(spool_delivery, "_WAIT_S", 0.001)
    monkeypatch.setattr(decision_spool, "_RETRY_S", 0.02)


@pytest.fixture(params=["process", "disk"])
def promise(request: pytest.FixtureRequest) -> Promise:
    chosen: Promise = request.param
    return chosen
