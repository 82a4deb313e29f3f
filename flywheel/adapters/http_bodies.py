"""Reads a request's body within bounds: size before decoding, time to arrive, no compression."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from flywheel.adapters.http_problem import Problem


async def read_body(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """The body as it came. Raises Problem: 415 when compressed, 413 beyond `max_bytes`, 408 if slow."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Problem(415, "unsupported-encoding", "The content encoding is not accepted", "send the body uncompressed")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, max_bytes)
    except TimeoutError:
        detail = f"the body did not arrive within {timeout_s:g} s"
        raise Problem(408, "slow-body", "The body came too slowly", detail, headers={"Connection": "close"}) from None


def check_json(request: Request) -> None:
    """Raises Problem 415 unless the request says that its body is JSON."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        detail = f"got {content_type or 'none'!r}; send Content-Type: application/json"
        raise Problem(415, "unsupported-media-type", "The content type is not accepted", detail)


async def _read(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> Problem:
    detail = f"at most {max_bytes} bytes are accepted here; send less at once"
    # The rest of the body is not wanted, so the connection is not kept.
    return Problem(413, "too-large", "The body is too large", detail, headers={"Connection": "close"})
