"""The HTTP face of serving as one app: the Open Inference Protocol and decisions, each path documented at /docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from flywheel.adapters import http_problem
from flywheel.adapters.http_docs import mount_docs
from flywheel.adapters.http_problem import handle_problems
from flywheel.adapters.http_requests import RequestBoundary
from flywheel.kernel.declaration import UseCase
from services.serving.inference.plane import Inference
from services.serving.rankings.servicer import RANK
from services.serving.rest.calls import Calls
from services.serving.rest.decisions import DECIDE, decision_route, decision_schemas
from services.serving.rest.documentation import inference_schemas
from services.serving.rest.inference import inference_routes, with_protocol_error
from services.serving.rest.methods import Methods
from services.serving.rest.rankings import ranking_route, ranking_schemas
from services.serving.rest.routes import subject_routes
from services.serving.rest.unserved import unserved_routes
from services.serving.settings import ServingSettings


def rest_app(settings: ServingSettings, usecase: UseCase, inference: Inference, methods: Methods) -> FastAPI:
    """The app. `methods` are those of the gRPC port, behind its gate."""
    app = FastAPI(
        title="Flywheel serving",
        version="1",
        description="Decisions, and the models behind them. The same is answered over gRPC, at less cost.",
        docs_url=None,
        redoc_url=None,
    )
    handle_problems(app, with_protocol_error)
    app.add_middleware(RequestBoundary, max_requests=settings.serving_max_in_flight, finish=with_protocol_error)
    calls = Calls(
        max_subject_bytes=settings.serving_max_subject_bytes,
        max_inference_bytes=settings.serving_inference_max_bytes,
        body_timeout_s=settings.serving_rest_body_timeout_s,
    )
    schemas = {**inference_schemas(), "Problem": http_problem.SCHEMA}
    if DECIDE in methods:
        app.include_router(subject_routes(decision_route(usecase), methods, calls))
        schemas |= decision_schemas(usecase)
    if RANK in methods:
        app.include_router(subject_routes(ranking_route(), methods, calls))
        schemas |= ranking_schemas()
    # Before the protocol's own: /v2/models/stats is no model named stats.
    app.include_router(unserved_routes())
    app.include_router(inference_routes(inference, methods, calls))
    _document(app, schemas)
    mount_docs(app)
    return app


def _document(app: FastAPI, schemas: Mapping[str, Any]) -> None:
    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = made.setdefault("components", {}).setdefault("schemas", {})
            components.update(schemas)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend the document
