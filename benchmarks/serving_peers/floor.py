"""The least that decides: gRPC, one HMGET of Feast's fields, ONNX Runtime; a card id in, eight bytes of score out."""

from __future__ import annotations

import asyncio
import gc
import os
import struct
import sys
from pathlib import Path
from typing import Any

import grpc
import mmh3
import numpy as np
import onnxruntime
import redis.asyncio
import uvloop

_PROJECT = os.environ["FEAST_PROJECT"]
_DOUBLE = struct.Struct("<d")


def key_of(card_id: bytes) -> bytes:
    """Where Feast keeps a card."""
    name = b"card_id"
    parts = struct.pack("<III", 1, 2, len(name)), name, struct.pack("<II", 2, len(card_id)), card_id
    return b"".join(parts) + _PROJECT.encode()


class Floor:
    """Reads, scores, answers, and nothing else."""

    def __init__(self, port: int) -> None:
        scene = Path(os.environ["SCENE"])
        names = (scene / "features.txt").read_text().split()
        self._fields = [_field(name) for name in names]
        self._redis: Any = redis.asyncio.Redis(port=port)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            (scene / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    async def ask(self, message: bytes, _: Any) -> bytes:
        stored = await self._redis.hmget(key_of(message), self._fields)
        row = np.array([[_DOUBLE.unpack_from(value, 1)[0] for value in stored]], np.float32)
        return _DOUBLE.pack(self._session.run(None, {"features": row})[0][0])


def _field(name: str) -> bytes:
    return struct.pack("<i", mmh3.hash(name, signed=True))


async def serve(port: int, redis_port: int) -> None:
    floor = Floor(redis_port)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(floor.ask)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor.Floor", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    for number in range(50):
        await floor.ask(f"card-{number}".encode(), None)
    await server.start()
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
