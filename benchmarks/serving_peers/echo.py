"""The least that a gRPC server of Python does: every request comes back as it was."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import grpc
import uvloop


async def echo(message: bytes, _: Any) -> bytes:
    return message


async def serve(port: int) -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor.Floor", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
