"""Probes of freshness do not wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from benchmarks.freshness import Probe, Probes
from usecases.fraud.events import Transaction


class Stack:
    """Acknowledges at once; shows each event `delay_s` later. Its clock moves when it is told to."""

    def __init__(self, delay_s: Callable[[int], float]) -> None:
        self.now_s = 0.0
        self.sent_s: list[float] = []
        self.cards: list[str] = []
        self._delay_s = delay_s
        self._shown_s: dict[str, float] = {}
        self.round_trips = 0

    def send(self, paid: Transaction, acknowledged: Callable[[], None]) -> None:
        self._shown_s[paid.event_id] = self.now_s + self._delay_s(len(self.sent_s))
        self.sent_s.append(self.now_s)
        self.cards.append(paid.card_id)
        acknowledged()

    def are_visible(self, probes: Sequence[Probe]) -> list[bool]:
        self.round_trips += 1
        return [self._shown_s[probe.paid.event_id] <= self.now_s for probe in probes]

    def probes(self) -> Probes:
        return Probes(self.send, self.are_visible, lambda: self.now_s, 0.05)


def run(stack: Stack, probes: Probes, until_s: float, *, sending: bool = True, step_s: float = 0.01) -> None:
    while stack.now_s < until_s:
        probes.step(sending=sending)
        stack.now_s = round(stack.now_s + step_s, 6)


def test_a_stall_is_felt_by_every_probe_that_falls_into_it() -> None:
    stack = Stack(lambda number: max(1.0 - 0.05 * number, 0.0))
    probes = stack.probes()
    run(stack, probes, 1.995)
    assert stack.sent_s == pytest.approx([0.05 * n for n in range(40)], abs=0.011)
    run(stack, probes, 2.2, sending=False)
    assert len(stack.sent_s) == 40
    assert sorted(p.taken_ms for p in probes.done)[20:] == pytest.approx([50.0 * n for n in range(1, 21)], abs=11)
    assert probes.behind_s < 0.011


def test_all_that_are_under_way_are_asked_for_in_one_round_trip() -> None:
    stack = Stack(lambda _: 10.0)
    probes = stack.probes()
    run(stack, probes, 1.0)
    before = stack.round_trips
    probes.step()
    assert stack.round_trips == before + 1
    assert probes.done == []


def test_a_late_sender_makes_up_for_it_and_says_so() -> None:
    stack = Stack(lambda _: 0.0)
    probes = stack.probes()
    probes.step()
    stack.now_s = 0.5
    probes.step()
    assert len(stack.sent_s) == 11
    assert probes.behind_s == pytest.approx(0.45)


def test_half_of_the_probes_pay_with_cards_of_the_load() -> None:
    stack = Stack(lambda _: 0.0)
    probes = stack.probes()
    run(stack, probes, 1.0)
    assert [p.busy for p in probes.done] == [card.startswith("card-") for card in stack.cards] == [False, True] * 10


def test_an_event_that_never_shows_ends_the_measurement() -> None:
    stack = Stack(lambda _: float("inf"))
    probes = stack.probes()
    with pytest.raises(RuntimeError, match="is not visible after"):
        run(stack, probes, 31.0, step_s=0.5)
