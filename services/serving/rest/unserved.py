"""What asks for more than is served here is told so: the protocol's extensions by name, and the root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters.http_problem import Problem

_CONFIGURATION = "a model's configuration; GET /v2/models/{model} tells its inputs and outputs"
_STATISTICS = "statistics; counts and times are metrics, in Prometheus' form on the metrics port"
_REPOSITORY = "loading and unloading; serving follows the deployment log, which `make deploy` and `make rollback` write"
_GENERATION = "generation of text; POST /v2/models/{model}/infer runs a model"
_SHARED_MEMORY = "shared memory; send tensors in the request, in JSON or in binary"
_OWN_SETTINGS = "settings at run time; docs/settings.md names those of the start"
_UNSERVED = {
    "/v2/models/stats": _STATISTICS,
    "/v2/models/{model}/stats": _STATISTICS,
    "/v2/models/{model}/versions/{version}/stats": _STATISTICS,
    "/v2/models/{model}/config": _CONFIGURATION,
    "/v2/models/{model}/versions/{version}/config": _CONFIGURATION,
    "/v2/models/{model}/generate": _GENERATION,
    "/v2/models/{model}/generate_stream": _GENERATION,
    "/v2/models/{model}/versions/{version}/generate": _GENERATION,
    "/v2/models/{model}/versions/{version}/generate_stream": _GENERATION,
    "/v2/models/{model}/trace/setting": _OWN_SETTINGS,
    "/v2/repository/models/{model}/load": _REPOSITORY,
    "/v2/repository/models/{model}/unload": _REPOSITORY,
    "/v2/systemsharedmemory/{rest:path}": _SHARED_MEMORY,
    "/v2/cudasharedmemory/{rest:path}": _SHARED_MEMORY,
    "/v2/trace/setting": _OWN_SETTINGS,
    "/v2/logging": _OWN_SETTINGS,
}


def unserved_routes() -> APIRouter:
    """Answers 501 on the protocol's paths that are not served, and 404 on the root; none is in the description."""
    router = APIRouter(include_in_schema=False)
    for path, what in _UNSERVED.items():
        router.add_api_route(path, _unserved(what), methods=["GET", "POST"])
    router.add_api_route("/", _root, methods=["GET"])
    return router


def _unserved(what: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(_: Request) -> Response:
        raise Problem(501, "not-served", "This is not served here", f"not served here: {what}")

    return refuse


async def _root(_: Request) -> Response:
    raise Problem(404, "not-found", "Not Found", "GET /: there is nothing; /docs describes every path")
