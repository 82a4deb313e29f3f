"""The interactive description of an HTTP service at /docs, complete without any other host."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_PATH = "/docs"
_ASSETS_PATH = "/docs-assets"


def mount_docs(app: FastAPI) -> None:
    """The app, made without pages of its own, serves Swagger UI at /docs, scripts and style from here.

    Make it by `FastAPI(docs_url=None, redoc_url=None)`: FastAPI's own pages load their scripts from elsewhere.
    """
    page = get_swagger_ui_html(
        openapi_url=str(app.openapi_url),
        title=app.title,
        swagger_js_url=f"{_ASSETS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS_PATH}/favicon.png",
        # Else the page may show a badge that an outside validator draws.
        swagger_ui_parameters={"validatorUrl": None},
    )
    app.mount(_ASSETS_PATH, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-assets")

    @app.get(_PATH, include_in_schema=False)
    def docs() -> HTMLResponse:
        return page
