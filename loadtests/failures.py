"""What keeps a load test from being made: one sentence that says what is wrong and what to do about it."""

from __future__ import annotations


class CannotTest(Exception):
    """Nothing was measured. The message names the reason and the way out; nothing else is printed."""
