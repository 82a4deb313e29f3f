"""When the world of card payments begins."""

from __future__ import annotations

from datetime import UTC, datetime

START = datetime(2018, 4, 1, tzinfo=UTC)
"""Midnight of day 0, as in the handbook."""
