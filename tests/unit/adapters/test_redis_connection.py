"""The pipelined connection against a server whose every reply is under the test's control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import hiredis
import pytest

from flywheel.adapters.redis_connection import Commands, RedisConnection, RefusedCommand, pack
from flywheel.kernel.ports import Unavailable

PATIENCE_S = 5.0
SOON_S = 0.02


class Server:
    """Reads commands; answers when told to."""

    def __init__(self) -> None:
        self.reads: list[list[list[bytes]]] = []
        """For each time that something arrived, the commands that it completed."""
        self.clients: list[asyncio.StreamWriter] = []
        self.answers_by_itself = False
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server
        self.port = 0

    @property
    def commands(self) -> list[list[bytes]]:
        return [command for read in self.reads for command in read]

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for client in self.clients:
            client.transport.abort()
        await self._server.wait_closed()

    async def received(self, commands: int) -> None:
        """Returns once so many commands arrived in all."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.commands) >= commands)

    def send(self, replies: bytes) -> None:
        self.clients[-1].write(replies)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        parser = hiredis.Reader()
        try:
            while data := await reader.read(2**20):
                parser.feed(data)
                read = list(iter(parser.gets, False))
                if self.answers_by_itself:
                    writer.write(b"".join(b"+%b\r\n" % command[1] for command in read))
                async with self._arrived:
                    self.reads.append(read)
                    self._arrived.notify_all()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(f"redis://127.0.0.1:{server.port}")
    yield connection
    await connection.close()


def get(name: str) -> Commands:
    return pack(("GET", name))


def asking(
    connection: RedisConnection, commands: Commands, timeout_s: float = PATIENCE_S
) -> asyncio.Future[list[object]]:
    return asyncio.ensure_future(connection.execute(commands, timeout_s))


async def test_calls_of_one_turn_leave_in_one_write_and_are_answered_in_order(
    server: Server, connection: RedisConnection
) -> None:
    first = asking(connection, get("warm"))
    await server.received(1)
    server.send(b"+warm\r\n")
    await first
    calls = [asking(connection, pack(("GET", f"{n}a"), ("GET", f"{n}b"))) for n in range(50)]
    await server.received(101)
    assert len(server.reads) == 2
    server.send(b"".join(b"+%b\r\n" % command[1] for command in server.commands[1:]))
    assert await asyncio.gather(*calls) == [[b"%da" % n, b"%db" % n] for n in range(50)]


async def test_calls_while_it_connects_share_one_connection(server: Server, connection: RedisConnection) -> None:
    server.answers_by_itself = True
    answers = await asyncio.gather(*(connection.execute(get(f"k{n}"), PATIENCE_S) for n in range(20)))
    assert answers == [[b"k%d" % n] for n in range(20)]
    assert len(server.clients) == 1


async def test_replies_may_come_in_pieces(server: Server, connection: RedisConnection) -> None:
    calls = [asking(connection, get(name)) for name in ("a", "b")]
    await server.received(2)
    for byte in b"*2\r\n$3\r\nabc\r\n$-1\r\n:7\r\n":
        server.send(bytes((byte,)))
        await server.clients[-1].drain()
    assert await asyncio.gather(*calls) == [[[b"abc", None]], [7]]


async def test_a_refused_command_stands_in_its_replys_place(server: Server, connection: RedisConnection) -> None:
    call = asking(connection, pack(("GET", "a"), ("GET", "b")))
    await server.received(2)
    server.send(b"-WRONGTYPE no hash\r\n+b\r\n")
    refused, answered = await call
    assert isinstance(refused, RefusedCommand)
    assert (str(refused), answered) == ("WRONGTYPE no hash", b"b")


async def test_no_commands_are_no_round_trip(connection: RedisConnection) -> None:
    assert await connection.execute(pack(), PATIENCE_S) == []


async def test_a_late_reply_is_nobody_elses(server: Server, connection: RedisConnection) -> None:
    with pytest.raises(Unavailable, match="did not answer within"):
        await connection.execute(pack(("GET", "late"), ("GET", "later")), SOON_S)
    next_call = asking(connection, get("next"))
    await server.received(3)
    server.send(b"+late\r\n+later\r\n+next\r\n")
    assert await next_call == [b"next"]


async def test_half_of_the_replies_are_no_answer(server: Server, connection: RedisConnection) -> None:
    call = asking(connection, pack(("GET", "a"), ("GET", "b")), SOON_S)
    await server.received(2)
    server.send(b"+a\r\n")
    with pytest.raises(Unavailable):
        await call
    next_call = asking(connection, get("next"))
    await server.received(3)
    server.send(b"+b\r\n+next\r\n")
    assert await next_call == [b"next"]


async def test_a_cancelled_call_leaves_the_others_their_replies(server: Server, connection: RedisConnection) -> None:
    calls = [asking(connection, get(name)) for name in ("a", "b", "c")]
    await server.received(3)
    calls[1].cancel()
    server.send(b"+a\r\n+b\r\n+c\r\n")
    assert (await calls[0], calls[1].cancelled(), await calls[2]) == ([b"a"], True, [b"c"])


async def test_a_call_cancelled_while_it_connects_leaves_the_attempt_to_others(
    server: Server, connection: RedisConnection
) -> None:
    server.answers_by_itself = True
    calls = [asking(connection, get(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert await calls[1] == [b"b"]


async def test_a_server_that_goes_away_fails_its_calls_and_is_found_again(
    server: Server, connection: RedisConnection
) -> None:
    calls = [asking(connection, get(name)) for name in ("a", "b")]
    await server.received(2)
    await server.stop()
    for call in calls:
        with pytest.raises(Unavailable, match="closed the connection"):
            await call
    with pytest.raises(Unavailable, match="failed"):
        await connection.execute(get("c"), PATIENCE_S)
    await server.start(server.port)
    server.answers_by_itself = True
    assert await eventually_answered(connection) == [b"again"]


async def eventually_answered(connection: RedisConnection) -> list[object]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await connection.execute(get("again"), PATIENCE_S)
            except Unavailable:
                await asyncio.sleep(0.001)


async def test_a_server_that_is_away_is_not_asked_at_every_call(unused_tcp_port: int) -> None:
    connection = RedisConnection(f"redis://127.0.0.1:{unused_tcp_port}")
    attempts: list[tuple[str, int]] = []

    async def refuse(_factory: object, host: str, port: int, **_: object) -> None:
        attempts.append((host, port))
        raise ConnectionRefusedError("refused")

    asyncio.get_running_loop().create_connection = refuse  # type: ignore[method-assign, assignment]
    began_s = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - began_s < 0.2:
        with pytest.raises(Unavailable, match="refused"):
            await connection.execute(get("a"), PATIENCE_S)
    assert 2 <= len(attempts) <= 5
    await connection.close()


async def test_a_connection_in_silence_is_given_up(server: Server) -> None:
    connection = RedisConnection(f"redis://127.0.0.1:{server.port}", silent_s=3 * SOON_S)
    async with asyncio.timeout(PATIENCE_S):
        while len(server.clients) < 2:
            with pytest.raises(Unavailable):
                await connection.execute(get("a"), SOON_S)
    await connection.close()


async def test_more_than_it_may_owe_is_refused_at_once(server: Server) -> None:
    connection = RedisConnection(f"redis://127.0.0.1:{server.port}", max_owed=3)
    calls = [asking(connection, pack(("GET", "a"), ("GET", "b"))) for _ in range(2)]
    await server.received(4)
    with pytest.raises(Unavailable, match="owes 4 replies"):
        await connection.execute(get("c"), PATIENCE_S)
    server.send(b"+1\r\n+2\r\n+3\r\n+4\r\n")
    await asyncio.gather(*calls)
    server.answers_by_itself = True
    assert await connection.execute(get("c"), PATIENCE_S) == [b"c"]
    await connection.close()


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n", b"+a\r\n+unasked\r\n"])
async def test_a_server_that_speaks_nonsense_is_left(
    server: Server, connection: RedisConnection, nonsense: bytes
) -> None:
    call = asking(connection, get("a"))
    await server.received(1)
    server.send(nonsense)
    await asyncio.wait((call,))
    server.answers_by_itself = True
    assert await eventually_answered(connection) == [b"again"]
    assert len(server.clients) == 2


async def test_the_password_and_the_database_come_first(server: Server) -> None:
    connection = RedisConnection(f"redis://me:p%40ss@127.0.0.1:{server.port}/3")
    call = asking(connection, get("a"))
    await server.received(2)
    server.send(b"+OK\r\n+OK\r\n")
    await server.received(3)
    assert server.commands == [[b"AUTH", b"me", b"p@ss"], [b"SELECT", b"3"], [b"GET", b"a"]]
    server.send(b"+a\r\n")
    assert await call == [b"a"]
    await connection.close()


async def test_a_refused_password_is_a_failure_without_the_password(server: Server) -> None:
    connection = RedisConnection(f"redis://:secret@127.0.0.1:{server.port}")
    call = asking(connection, get("a"))
    await server.received(1)
    server.send(b"-WRONGPASS invalid username-password pair\r\n")
    with pytest.raises(Unavailable, match="WRONGPASS") as refused:
        await call
    assert "secret" not in str(refused.value)
    await connection.close()


async def test_a_server_that_never_greets_is_given_up_within_the_time(server: Server) -> None:
    connection = RedisConnection(f"redis://:secret@127.0.0.1:{server.port}", connect_timeout_s=SOON_S)
    with pytest.raises(Unavailable, match="failed"):
        await connection.execute(get("a"), PATIENCE_S)
    await connection.close()


async def test_a_call_gives_up_while_it_connects(server: Server) -> None:
    connection = RedisConnection(f"redis://:secret@127.0.0.1:{server.port}", connect_timeout_s=PATIENCE_S)
    with pytest.raises(Unavailable, match="did not answer within"):
        await connection.execute(get("a"), SOON_S)
    await connection.close()


async def test_a_closed_connection_stays_closed(server: Server, connection: RedisConnection) -> None:
    call = asking(connection, get("a"))
    await server.received(1)
    await connection.close()
    with pytest.raises(Unavailable):
        await call
    with pytest.raises(Unavailable, match="closed"):
        await connection.execute(get("b"), PATIENCE_S)


@pytest.mark.parametrize("url", ["http://host:1", "redis://", "localhost:6379", "redis://host/first"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|invalid literal"):
        RedisConnection(url)


def test_commands_are_packed_as_redis_reads_them() -> None:
    commands = pack(("HMGET", b"\x00key", "f", 1), ("PING",))
    read, ping = b"*4\r\n$5\r\nHMGET\r\n$4\r\n\x00key\r\n$1\r\nf\r\n$1\r\n1\r\n", b"*1\r\n$4\r\nPING\r\n"
    assert commands == Commands(read + ping, replies=2, apart=[read, ping])
