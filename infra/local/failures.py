"""What stops a start: one sentence that says what is wrong and what to do about it."""

from __future__ import annotations


class CannotStart(Exception):
    """Something is missing or in the way. The message names it and the way out; nothing else is printed."""
