"""How many requests may be under way at once: as many as keep the time they take near a target, whatever they cost.

By Little's law a server that finishes X requests a second holds X * T of them when each takes T. The limit follows
that: it becomes what was under way lately times target over time taken. A longer queue cannot raise X, so under
overload the limit comes to rest where requests take the target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_TARGET_SHARE = 0.35
_FLOORS = 3.0
_FLOORS_LEAST = 1.5
_TAIL_SHARE = 0.75
_P99_DEVIATIONS = 2.0
_WINDOW_S = 0.05
_SAMPLES = 10
_LONGEST_WINDOW_S = 0.25
_STEP_DOWN, _STEP_UP = 0.25, 2.0
_BURSTY = 0.6
_BINDING = 0.5
_KEPT = 0.7
"""Of what is known, at the end of the next window: a pause of the process must not count for more than it lasted."""
_LEAST_S = 1e-6
_PROBED_SHARE = 1 / 8
_PROBE_WINDOWS = 4
"""At most: the first that begins with a short queue counts."""
_PROBE_EVERY_S = 5.0
_PROBE_AFTER_FALL_S = 1.0
_PROBING_SHARE = 0.02
"""Of the time: with few requests a second it takes longer until enough of them have ended."""


@dataclass(frozen=True)
class Bounds:
    """What the limit moves within."""

    budget_s: float
    """The longest that a request may take."""
    highest: float
    """More are never under way at once, be they as quick as they may."""
    first: float = 16.0
    """The limit before anything was measured."""

    def target_s(self, floor_s: float, variation: float) -> float:
        """How long requests are let take on average, where one alone takes `floor_s`.

        A third of the budget, so that reads of features do not use up their time by waiting for the processor. More
        where a request alone takes long, since refusing others would not make it quicker; never so much that the
        slowest of a hundred exceed the budget, by the coefficient of `variation` measured.
        """
        wanted_s = max(self.budget_s * _TARGET_SHARE, floor_s * _FLOORS)
        slowest_s = self.budget_s * _TAIL_SHARE / (1 + _P99_DEVIATIONS * variation)
        return max(min(wanted_s, slowest_s), floor_s * _FLOORS_LEAST)


class ConcurrencyLimit:
    """A limit that adapts to how long requests take; told of begins, ends and refusals.

    Times are in seconds on any one clock. While it is not reached it says nothing of what could be done, and stays.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._sustained = self._highest_probed = min(bounds.first, bounds.highest)
        self._floor = _Mean(weight=0.5)
        self._floor_found_s = -math.inf
        self._squared_variation = _Mean(weight=0.1)
        self._window = _Window(0.0)
        self._lately = _Lately()
        self._changed_s = 0.0
        self._probing = 0
        self._probe_began_s = self._probe_took_s = 0.0
        self.limit = self._sustained
        """How many may be under way now."""
        self.in_flight = 0
        self.target_s = bounds.target_s(0.0, 0.0)
        """How long requests take on average when the limit is reached."""

    def expected_s(self) -> float:
        """How long a request that begins now will take, by what was measured lately; 0 before anything was.

        What one alone takes stays as it is; what is above that grows with how many are under way. Never more than the
        target, which the limit sees to.
        """
        lately = self._lately
        alone_s = min(self._floor.value, lately.taken_s)
        waits_s = (lately.taken_s - alone_s) * (self.in_flight + 1) / lately.met if lately.met else 0.0
        return min(alone_s + waits_s, self.target_s)

    def refused(self, count: int = 1) -> None:
        """Requests were turned away because of the limit."""
        self._window.refused += count

    def hurried(self) -> None:
        """A request was turned away because its caller would not wait as long as it is expected to take."""
        self._window.hurried += 1

    def began(self, now_s: float) -> None:
        """A request is under way."""
        window = self._window
        since_s = now_s - self._changed_s
        if self.in_flight:
            window.held(self.in_flight, since_s)
        elif since_s > _LONGEST_WINDOW_S:
            # Nothing was asked for: that must not look as if little could be done.
            window.put_off(since_s)
        self._changed_s = now_s
        self.in_flight += 1
        window.begun += 1
        window.met += self.in_flight

    def ended(self, spent_s: float, now_s: float, *, telling: bool) -> None:
        """A request took that long; `telling` is False where that says nothing of how long it needed."""
        window = self._window
        window.held(self.in_flight, now_s - self._changed_s)
        self._changed_s = now_s
        self.in_flight -= 1
        if telling or spent_s >= self.target_s:
            window.add(spent_s)
        if now_s >= window.ends_s and window.is_over(now_s):
            self._look_back(window, now_s)
            self._window = _Window(now_s, self.in_flight)

    def _look_back(self, window: _Window, now_s: float) -> None:
        if not window.samples:
            return
        taken_s = window.spent_s / window.samples
        # A queue that was there before takes time as well: the first window of a probe tells of that.
        has_found = window.found <= self.limit if self._probing else window.together <= max(self._sustained / 4, 1.0)
        if has_found:
            self._floor.add(taken_s)
            self._floor_found_s = now_s
        self._squared_variation.add(max(window.squares / window.samples / (taken_s * taken_s) - 1.0, 0.0))
        self.target_s = self._bounds.target_s(self._floor.value, math.sqrt(self._squared_variation.value))
        if self._probing:
            self._probe(0 if has_found else self._probing - 1, now_s)
            return
        self._lately.add(window, now_s)
        if window.refused or window.hurried or self._lately.taken_s > self.target_s:
            self._adapt(self._lately.held, self._lately.taken_s, is_full=window.refused > 0)
            self._probe(_PROBE_WINDOWS if self._has_to_probe(now_s) else 0, now_s)

    def _adapt(self, held: float, taken_s: float, *, is_full: bool) -> None:
        least = self._sustained
        if taken_s > self.target_s:
            # Where little is held it is no queue that takes the time, and a lower limit would make nobody quicker.
            if held > self._sustained * _BINDING:
                least *= _STEP_DOWN
        elif is_full and held < math.ceil(self._sustained) * _BURSTY:
            # What came in bursts was refused although little was held on average: there is room for some more.
            least += math.sqrt(self._sustained) / 2
        wanted = min(max(held * self.target_s / taken_s, least), self._sustained * _STEP_UP)
        self._sustained = min(max(wanted, 1.0), self._bounds.highest)
        self._highest_probed = max(self._highest_probed, self._sustained)

    def _has_to_probe(self, now_s: float) -> bool:
        """Whether it is not known how quick a request is that waits for no other.

        Under lasting load none is ever alone. And when a much lower limit made none quicker, it was no queue that took
        the time.
        """
        has_fallen = self._sustained < self._highest_probed / 2
        least_s = _PROBE_AFTER_FALL_S if has_fallen else _PROBE_EVERY_S
        return now_s - self._floor_found_s > max(least_s, self._probe_took_s / _PROBING_SHARE)

    def _probe(self, windows: int, now_s: float) -> None:
        if windows == _PROBE_WINDOWS:
            self._highest_probed, self._probe_began_s = self._sustained, now_s
        elif self._probing:
            self._probe_took_s = now_s - self._probe_began_s
        self._probing = windows
        self.limit = max(self._sustained * _PROBED_SHARE, 1.0) if windows else self._sustained


class _Window:
    """What happened since the limit was last looked at."""

    def __init__(self, began_s: float, found: int = 0) -> None:
        self.found = found
        """How many were under way already."""
        self.began_s = began_s
        self.ends_s = began_s + _WINDOW_S
        self.refused = self.hurried = self.samples = self.begun = self.met = 0
        self.spent_s = self.squares = self.occupied_s = self.busy_s = 0.0

    def add(self, spent_s: float) -> None:
        """One request took that long."""
        spent_s = max(spent_s, _LEAST_S)
        self.samples += 1
        self.spent_s += spent_s
        self.squares += spent_s * spent_s

    def held(self, requests: int, seconds: float) -> None:
        """So many were under way for so long."""
        self.busy_s += seconds
        self.occupied_s += requests * seconds

    @property
    def together(self) -> float:
        """How many were under way while any was: a queue that ends with its load stays a queue."""
        return self.occupied_s / self.busy_s if self.busy_s else 0.0

    def put_off(self, idle_s: float) -> None:
        """Nothing was under way for so long, which does not count."""
        self.began_s += idle_s
        self.ends_s += idle_s

    def is_over(self, now_s: float) -> bool:
        """Whether it was long enough to tell something."""
        return self.samples >= _SAMPLES or now_s - self.began_s >= _LONGEST_WINDOW_S


class _Lately:
    """The last few windows together, the older the less."""

    def __init__(self) -> None:
        self._length_s = self._occupied_s = self._spent_s = self._samples = self._begun = self._met = 0.0
        self.taken_s = 0.0
        """How long one took."""
        self.met = 0.0
        """How many were under way when one began, itself included."""

    @property
    def held(self) -> float:
        """How many were under way."""
        return self._occupied_s / self._length_s

    def add(self, window: _Window, now_s: float) -> None:
        """One more window, which ends now."""
        self._length_s = self._length_s * _KEPT + now_s - window.began_s
        self._occupied_s = self._occupied_s * _KEPT + window.occupied_s
        self._spent_s = self._spent_s * _KEPT + window.spent_s
        self._samples = self._samples * _KEPT + window.samples
        self._begun = self._begun * _KEPT + window.begun
        self._met = self._met * _KEPT + window.met
        self.taken_s = self._spent_s / self._samples
        self.met = self._met / self._begun if self._begun else 0.0


class _Mean:
    """A mean that follows; the first value counts whole."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self.value = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.value += (self._weight if self.value else 1.0) * (value - self.value)
