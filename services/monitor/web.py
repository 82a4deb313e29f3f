"""The monitor over HTTP: the console page, its state as JSON, metrics and health."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files

from fastapi import FastAPI, Response, status
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from flywheel.adapters.http_docs import mount_docs
from services.monitor.contents import Contents
from services.monitor.state import State

_PAGE = files("services.monitor") / "page"
_PART = re.compile(r"/\*include ([a-z]+\.(?:css|js))\*/")


class Health(BaseModel):
    """Whether the process lives or can work, and a sentence that says so."""

    status: str
    detail: str = ""


def create_app(
    state_json: Callable[[], bytes], catalogue_json: Callable[[], bytes], ready: Callable[[], tuple[bool, str]]
) -> FastAPI:
    """The application. The first two give the newest state and catalogue rendered, `ready` whether the log is read."""
    app = FastAPI(
        title="Flywheel monitor",
        description="What the loop does, and how well.",
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    _show(app, "/", _page("console"))
    _show(app, "/catalogue", _page("catalogue"))

    @app.get("/api/state", response_model=State, summary="Everything the console shows")
    def state() -> Response:
        return _fresh(state_json())

    @app.get("/api/catalogue", response_model=Contents, summary="Every feature: its definition, values and users")
    def catalogue() -> Response:
        return _fresh(catalogue_json())

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", summary="The process lives")
    def healthz() -> Health:
        return Health(status="alive")

    @app.get("/readyz", response_model=Health, summary="The log is read")
    def readyz() -> JSONResponse:
        is_ready, detail = ready()
        code = status.HTTP_200_OK if is_ready else status.HTTP_503_SERVICE_UNAVAILABLE
        return JSONResponse(Health(status="ready" if is_ready else "not ready", detail=detail).model_dump(), code)

    mount_docs(app)
    return app


def _show(app: FastAPI, path: str, page: str) -> None:
    @app.get(path, include_in_schema=False)
    def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})


def _fresh(json: bytes) -> Response:
    return Response(json, media_type="application/json", headers={"Cache-Control": "no-store"})


def _page(name: str) -> str:
    """A page with its styles and scripts inside: it needs nothing from anywhere else."""
    markup = (_PAGE / f"{name}.html").read_text(encoding="utf-8")
    return _PART.sub(lambda found: (_PAGE / found[1]).read_text(encoding="utf-8"), markup)
