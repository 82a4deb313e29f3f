"""The load generator's HTTP/1.1 connections against a server of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.generator.arrivals import constant
from loadtests.generator.http1_pool import Http1Pool
from loadtests.generator.load import closed_loop, one, open_loop
from loadtests.generator.outcomes import Outcome


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Does what the body says: `slow`, `refuse`, `fail`, `hang-up`, `last` (answers and closes), or answers it."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if body == b"hang-up":
                break
            if body == b"slow":
                await asyncio.sleep(0.05)
            status = {b"refuse": b"503 Busy", b"fail": b"500 Error"}.get(body, b"200 OK")
            more = b"connection: close\r\n" if body == b"last" else b""
            writer.write(b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, more, len(body), body))
            if body == b"last":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def _ended(address: str, body: bytes, count: int = 40) -> tuple[set[Outcome], Http1Pool]:
    pool = Http1Pool(address, "/ask", [body], connections=8)
    await pool.open(2)
    run = await open_loop(pool, constant(1_000, count / 1_000), seconds=count / 1_000)
    await pool.close()
    assert len(run.outcome) == count
    return {Outcome(each) for each in run.outcome}, pool


async def test_answers_are_good(address: str) -> None:
    outcomes, pool = await _ended(address, b"hello")
    assert outcomes == {Outcome.GOOD}
    assert pool.statuses == {200: 40}
    assert pool.last_answer == b"hello"


async def test_too_much_is_refused_and_errors_fail(address: str) -> None:
    assert (await _ended(address, b"refuse"))[0] == {Outcome.REFUSED}
    assert (await _ended(address, b"fail"))[0] == {Outcome.FAILED}


async def test_a_connection_that_is_hung_up_fails_its_request_only(address: str) -> None:
    outcomes, pool = await _ended(address, b"hang-up")
    assert outcomes == {Outcome.FAILED}
    assert pool.statuses == {0: 40}


async def test_a_connection_that_is_closed_after_its_answer_is_replaced(address: str) -> None:
    outcomes, _ = await _ended(address, b"last")
    assert outcomes == {Outcome.GOOD}


async def test_requests_beyond_the_connections_wait_and_their_latency_says_so(address: str) -> None:
    pool = Http1Pool(address, "/ask", [b"slow"], connections=4)
    await pool.open(1)
    run = await open_loop(pool, constant(400, 0.1), seconds=0.1)
    await pool.close()
    assert run.count(Outcome.GOOD) == 40
    # Four at a time, fifty milliseconds each: the last of forty waits for nine rounds.
    assert run.latency_ms(Outcome.GOOD).max() > 350


async def test_callers_in_a_ring_and_a_single_request(address: str) -> None:
    pool = Http1Pool(address, "/ask", [b"a", b"b"])
    await pool.open(4)
    assert await one(pool, 1) is Outcome.GOOD
    assert pool.last_answer == b"b"
    run = await closed_loop(pool, callers=4, seconds=0.2)
    await pool.close()
    assert run.count(Outcome.GOOD) > 20
