"""Every number of every writer is logged, lost, under way or unexplained, in whatever order records are read."""

from __future__ import annotations

import random

import pytest

from flywheel.kernel import reconciliation
from flywheel.kernel.reconciliation import Reconciliation

PATIENCE_US = 60


@pytest.mark.parametrize("seed", range(10))
def test_the_account_does_not_depend_on_the_order_or_on_repeats(seed: int) -> None:
    draw = random.Random(seed)
    gone = set(draw.sample(range(1, 500), 40))
    records = [number for number in range(1, 501) if number not in gone]
    read = records + draw.choices(records, k=100)
    draw.shuffle(read)
    account = Reconciliation(patience_us=PATIENCE_US)
    for number in read:
        account.take("w", number, lost=sum(each <= number for each in gone), at_us=number)
    found = account.state(now_us=10_000)
    assert (found.answered, found.logged, found.lost, found.unexplained) == (500, 460, 40, 0)
    assert found.repeats == 100


def test_what_nobody_said_was_lost_is_unexplained_after_a_while() -> None:
    account = Reconciliation(patience_us=PATIENCE_US)
    account.take("w", 1, lost=0, at_us=0)
    account.take("w", 5, lost=1, at_us=10)
    assert (account.state(now_us=69).under_way, account.state(now_us=69).unexplained) == (2, 0)
    late = account.state(now_us=70)
    assert (late.answered, late.logged, late.lost, late.under_way, late.unexplained) == (5, 2, 1, 0, 2)
    account.take("w", 3, lost=1, at_us=11)
    assert account.state(now_us=70).unexplained == 1


def test_writers_are_reconciled_each_by_itself() -> None:
    account = Reconciliation(patience_us=PATIENCE_US)
    account.take("a", 3, lost=0, at_us=0)
    account.take("b", 1, lost=5, at_us=0)
    found = account.state(now_us=1_000)
    assert (found.answered, found.lost, found.unexplained, found.writers) == (4, 0, 2, 2)


def test_a_log_without_its_beginning_accounts_for_what_it_has() -> None:
    account = Reconciliation(patience_us=PATIENCE_US)
    account.truncated = True
    for number in (7, 6, 9):
        account.take("w", number, lost=3, at_us=0)
    found = account.state(now_us=0)
    assert (found.answered, found.logged, found.lost, found.repeats) == (3, 2, 1, 0)


def test_a_writer_that_is_heard_again_after_many_others_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_WRITERS_KEPT", 2)
    account = Reconciliation(patience_us=PATIENCE_US)
    for number in (1, 2, 4):
        account.take("alive", number, lost=1, at_us=0)
    for short in "abc":
        account.take(short, 1, lost=0, at_us=0)
    account.take("alive", 5, lost=1, at_us=0)
    account.take("alive", 7, lost=1, at_us=0)
    found = account.state(now_us=1_000)
    assert (found.answered, found.logged, found.lost, found.unexplained, found.writers) == (10, 8, 1, 1, 4)


def test_the_writer_heard_last_is_forgotten_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_WRITERS_KEPT", 2)
    account = Reconciliation(patience_us=PATIENCE_US)
    account.take("alive", 2, lost=0, at_us=0)
    for number, short in enumerate("abc", start=3):
        account.take(short, 1, lost=0, at_us=0)
        account.take("alive", number, lost=0, at_us=0)
    account.take("alive", 1, lost=0, at_us=0)
    found = account.state(now_us=1_000)
    assert (found.answered, found.logged, found.unexplained) == (8, 8, 0)


def test_a_writer_whose_name_was_forgotten_begins_at_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_WRITERS_KEPT", 1)
    monkeypatch.setattr(reconciliation, "_NAMES_KEPT", 1)
    account = Reconciliation(patience_us=PATIENCE_US)
    for writer in ("alive", "b", "c"):
        account.take(writer, 1, lost=0, at_us=0)
    account.take("alive", 2, lost=0, at_us=0)
    found = account.state(now_us=1_000)
    assert (found.answered, found.logged, found.unexplained) == (4, 4, 0)


def test_the_account_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "_MISSING_KEPT", 10)
    monkeypatch.setattr(reconciliation, "_WRITERS_KEPT", 2)
    account = Reconciliation(patience_us=PATIENCE_US)
    for writer in "abcd":
        account.take(writer, 1_000, lost=100, at_us=0)
        account.take(writer, 2_000, lost=100, at_us=0)
    found = account.state(now_us=0)
    assert (found.answered, found.logged, found.lost, found.writers) == (8_000, 8, 400, 4)
    assert found.under_way + found.unexplained == 8_000 - 8 - 400
    assert len(account._writers) == 2
    assert max(len(each.missing) for each in account._writers.values()) == 10
