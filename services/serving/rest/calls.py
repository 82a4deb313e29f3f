"""What requests over HTTP have in common: a bounded body and a deadline."""

from __future__ import annotations

import math

from starlette.requests import Request

from flywheel.adapters.http_bodies import read_body
from flywheel.adapters.http_problem import FieldError, Problem

TIMEOUT_HEADER = "Request-Timeout-Ms"


class Calls:
    """Reads requests within the given bounds."""

    def __init__(self, *, max_subject_bytes: int, max_inference_bytes: int, body_timeout_s: float) -> None:
        self._max_subject_bytes = max_subject_bytes
        self._max_inference_bytes = max_inference_bytes
        self._body_timeout_s = body_timeout_s

    async def subject(self, request: Request) -> bytes:
        """The body of a request for a decision or a ranking. Raises Problem."""
        return await read_body(request, max_bytes=self._max_subject_bytes, timeout_s=self._body_timeout_s)

    async def inference(self, request: Request) -> bytes:
        """The body of a request for a model's scores. Raises Problem."""
        return await read_body(request, max_bytes=self._max_inference_bytes, timeout_s=self._body_timeout_s)

    def patience_s(self, request: Request) -> float:
        """How long the caller waits; infinite unless it says so. Raises Problem."""
        given = request.headers.get(TIMEOUT_HEADER)
        if given is None:
            return math.inf
        try:
            patience_s = float(given) / 1000
        except ValueError:
            patience_s = math.nan
        if not patience_s > 0:
            error = FieldError(TIMEOUT_HEADER, "it is no time", "send milliseconds, more than 0")
            raise Problem(400, "invalid-timeout", "The timeout is not valid", f"see {TIMEOUT_HEADER}", [error])
        return patience_s
