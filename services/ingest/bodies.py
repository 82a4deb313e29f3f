"""Reads a request's JSON body within bounds: size before decoding, time to arrive, type."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.requests import Request

from flywheel.adapters.http_problem import Problem


async def read_json(request: Request, *, max_bytes: int, timeout_s: float) -> Any:
    """The decoded body. Raises Problem: 415 for another type, 413 beyond `max_bytes`, 408 if slow, 400 if not JSON."""
    _check_type(request)
    raw = await _read(request, max_bytes, timeout_s)
    try:
        # orjson refuses NaN and Infinity, invalid UTF-8, lone surrogates and nesting deeper than 1,024.
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        detail = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise Problem(400, "malformed-json", "The body is not valid JSON", detail) from None


def _check_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        detail = f"got {content_type or 'none'!r}; send Content-Type: application/json"
        raise Problem(415, "unsupported-media-type", "The content type is not accepted", detail)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Problem(415, "unsupported-encoding", "The content encoding is not accepted", "send the body uncompressed")


async def _read(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        detail = f"the body did not arrive within {timeout_s:g} s"
        raise Problem(408, "slow-body", "The body came too slowly", detail, headers={"Connection": "close"}) from None
    return b"".join(chunks)


def _too_large(max_bytes: int) -> Problem:
    detail = f"at most {max_bytes} bytes are accepted here; send smaller batches"
    # The rest of the body is not wanted, so the connection is not kept.
    return Problem(413, "too-large", "The body is too large", detail, headers={"Connection": "close"})
