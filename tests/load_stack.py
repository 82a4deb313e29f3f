"""What a load test finds in a stack, as small as it can be: something that decides, and something that takes events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import orjson

from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.settings import PlatformSettings
from infra.local.side_by_side import free_ports

NOW = "2018-06-01T12:00:00Z"
USECASE = "fraud"


@asynccontextmanager
async def small_stack(data_dir: Path) -> AsyncIterator[PlatformSettings]:
    """Settings of a stack that decides by the model about every tenth card, by the rule else, and takes every event."""
    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Decide": grpc.unary_unary_rpc_method_handler(_decide)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("flywheel.v1.Decisions", handlers),))
    serving_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ingest = await asyncio.start_server(_ingest, "127.0.0.1", 0)
    ingest_port = ingest.sockets[0].getsockname()[1]
    (metrics_port,) = free_ports(1)
    try:
        yield PlatformSettings(
            data_dir=data_dir,
            ingest_url=f"http://127.0.0.1:{ingest_port}",
            serving_address=f"127.0.0.1:{serving_port}",
            serving_metrics_port=metrics_port,
            redis_url="redis://127.0.0.1:1/0",
        )
    finally:
        ingest.close()
        server.stop(None)


def _decide(message: bytes, context: grpc.ServicerContext) -> bytes:
    request = DecideRequest.FromString(message)
    if request.usecase != USECASE:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such use case")
    number = int(orjson.loads(request.subject)["event_id"].rpartition("-")[2])
    return DecideResponse(fallback="rule" if number % 10 == 0 else "none").SerializeToString()


async def _ingest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            method, path, _ = head.split(b" ", 2)
            if method == b"GET":
                status, body = ("200 OK", orjson.dumps({"clock": "world", "now": NOW}))
                if path != f"/v1/{USECASE}/clock".encode():
                    status, body = "404 Not Found", b"{}"
            else:
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                status, body = "202 Accepted", await reader.readexactly(length)
            closes = b"connection: close" in head
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            if closes:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
