"""A circuit breaker: after a few failures in a row nobody waits for a dependency that does not answer."""

from __future__ import annotations


class CircuitBreaker:
    """Whether a call may be made; told how calls ended, with times in seconds on any one clock.

    Opens after `failures` in a row that lie at least `over_s` apart: calls that wait together fail together, and one
    short pause of this process must not look like a dependency that is gone. While open it admits one trial every
    `retry_after_s`; a success closes it.

    >>> breaker = CircuitBreaker(failures=2, over_s=0.1, retry_after_s=0.2)
    >>> breaker.failed(1.0); breaker.failed(1.05); breaker.is_open
    False
    >>> breaker.failed(1.1); breaker.is_open
    True
    >>> breaker.admits(1.2), breaker.admits(1.33), breaker.admits(1.34)
    (False, True, False)
    >>> breaker.succeeded(); breaker.admits(1.35)
    True
    """

    def __init__(self, failures: int, over_s: float, retry_after_s: float) -> None:
        self._limit = failures
        self._over_s = over_s
        self._retry_after_s = retry_after_s
        self._failures = 0
        self._first_s = 0.0
        self._next_trial_s = 0.0
        self.is_open = False

    def admits(self, now_s: float) -> bool:
        """Whether a call may be made now; while open, admitting one puts off the next trial."""
        if not self.is_open:
            return True
        if now_s < self._next_trial_s:
            return False
        self._next_trial_s = now_s + self._retry_after_s
        return True

    def succeeded(self) -> None:
        """The dependency answered."""
        self._failures = 0
        self.is_open = False

    def failed(self, now_s: float) -> None:
        """The dependency did not answer, at `now_s`."""
        if not self._failures:
            self._first_s = now_s
        self._failures += 1
        if not self.is_open and self._failures >= self._limit and now_s - self._first_s >= self._over_s:
            self.is_open = True
            self._next_trial_s = now_s + self._retry_after_s
