"""The /docs of every HTTP service opens on a machine without internet."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import FastAPI

from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog
from flywheel.kernel.lineup import Lineup
from services.ingest.bootstrap import build
from services.ingest.settings import IngestSettings
from services.monitor.web import create_app
from services.serving.inference.plane import Inference
from services.serving.inference.repository import Repository
from services.serving.rest.app import rest_app
from services.serving.rest.methods import Methods
from services.serving.settings import ServingSettings
from tests.serving_parts import USECASE

HERE = "http://here"


def ingest() -> FastAPI:
    return build(IngestSettings(), MemoryEventLog(MemoryBroker()), lambda _: None, lambda _: [])


def monitor() -> FastAPI:
    return create_app(lambda: b"{}", lambda: b"{}", lambda: (True, ""))


def serving() -> FastAPI:
    inference = Inference(USECASE, Repository(USECASE, Lineup, list), max_rows=1)
    return rest_app(ServingSettings(_env_file=None), USECASE, inference, Methods({}, OpenGate()))


@pytest.mark.parametrize("app", [ingest(), monitor(), serving()], ids=["ingest", "monitor", "serving"])
async def test_the_page_needs_no_other_host(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HERE) as client:
        page = await client.get("/docs")
        assert page.status_code == 200
        assert {host for host in re.findall(r"(?:https?:)?//[\w.:-]+\w", page.text) if host != HERE} == set()
        needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert {address.rpartition(".")[2] for address in needed} == {"js", "css", "png"}
        for address in [*needed, "/openapi.json"]:
            answer = await client.get(address)
            assert (address, answer.status_code) == (address, 200)
            assert answer.content
        assert (await client.get("/redoc")).status_code == 404
