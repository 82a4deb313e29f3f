"""Structured logs by structlog: one JSON object a line, with the request's id where there is one."""

from __future__ import annotations

import hashlib
import hmac
import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog

from flywheel.contracts.events import Event


def configure(service: str, level: str = "INFO") -> None:
    """Every logger of this process, the libraries' included, writes JSON to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; call `configure` once at start."""
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return found


class Pseudonyms:
    """Replaces what identifies a person by a keyed hash, so that logs can be joined but not read back."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def of(self, value: str) -> str:
        """Twelve hexadecimal digits, the same for the same value and key."""
        return hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()[:12]

    def redact(self, event: type[Event], fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with every personal one hashed."""
        personal = event.personal_fields()
        return {name: self.of(str(value)) if name in personal else value for name, value in fields.items()}
