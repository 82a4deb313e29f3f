"""Reads a request's JSON body within bounds."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request

from flywheel.adapters.http_bodies import check_json, read_body
from flywheel.adapters.http_problem import Problem


async def read_json(request: Request, *, max_bytes: int, timeout_s: float) -> Any:
    """The decoded body. Raises Problem: 415 for another type, 413 beyond `max_bytes`, 408 if slow, 400 if not JSON."""
    check_json(request)
    raw = await read_body(request, max_bytes=max_bytes, timeout_s=timeout_s)
    try:
        # orjson refuses NaN and Infinity, invalid UTF-8, lone surrogates and nesting deeper than 1,024.
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        detail = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise Problem(400, "malformed-json", "The body is not valid JSON", detail) from None
