"""The generator is scheduled before others while it sends, and only then."""

from __future__ import annotations

import os

import pytest

from loadtests.preparation import first_in_line


def test_it_is_first_only_meanwhile_and_its_children_never() -> None:
    before = os.sched_getscheduler(0)
    with first_in_line() as is_first:
        assert is_first == (os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR)
        child = os.fork()
        if not child:
            os._exit(os.sched_getscheduler(0))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == os.SCHED_OTHER
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == before


def test_where_that_is_not_permitted_the_test_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with first_in_line() as is_first:
        assert not is_first
