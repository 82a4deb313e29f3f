"""A circuit breaker: after a few failures in a row nobody waits for a dependency that does not answer."""

from __future__ import annotations


class CircuitBreaker:
    """Whether a call may be made; told how calls ended, with times in seconds on any one clock.

    Opens after `failures` in a row. While open it admits one trial every `retry_after_s`; a success closes it.

    >>> breaker = CircuitBreaker(failures=2, retry_after_s=0.2)
    >>> breaker.failed(1.0); breaker.failed(1.02); breaker.is_open
    True
    >>> breaker.admits(1.1), breaker.admits(1.23), breaker.admits(1.24)
    (False, True, False)
    >>> breaker.succeeded(); breaker.admits(1.25)
    True
    """

    def __init__(self, failures: int, retry_after_s: float) -> None:
        self._limit = failures
        self._retry_after_s = retry_after_s
        self._failures = 0
        self._next_trial_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

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

    def failed(self, now_s: float) -> None:
        """The dependency did not answer, at `now_s`."""
        self._failures += 1
        if self._failures == self._limit:
            self._next_trial_s = now_s + self._retry_after_s
