"""The monitor over HTTP: the console page, its state as JSON, metrics and health."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from fastapi import FastAPI, Response, status
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from flywheel.adapters.http_docs import mount_docs
from services.monitor.state import State

_PAGE = files("services.monitor") / "page"


class Health(BaseModel):
    """Whether the process lives or can work, and a sentence that says so."""

    status: str
    detail: str = ""


def create_app(state_json: Callable[[], bytes], ready: Callable[[], tuple[bool, str]]) -> FastAPI:
    """The application; `state_json` gives the newest state rendered, `ready` whether the log is read."""
    app = FastAPI(
        title="Flywheel monitor",
        description="What the loop does, and how well.",
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    page = _page()

    @app.get("/", include_in_schema=False)
    def console() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    @app.get("/api/state", response_model=State, summary="Everything the console shows")
    def state() -> Response:
        return Response(state_json(), media_type="application/json", headers={"Cache-Control": "no-store"})

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


def _page() -> str:
    """One page with its style and scripts inside: it needs nothing from anywhere else."""
    markup = (_PAGE / "console.html").read_text(encoding="utf-8")
    for placeholder, name in (("/*style*/", "console.css"), ("/*plots*/", "plots.js"), ("/*console*/", "console.js")):
        markup = markup.replace(placeholder, (_PAGE / name).read_text(encoding="utf-8"))
    return markup
