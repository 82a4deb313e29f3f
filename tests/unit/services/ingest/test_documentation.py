"""The OpenAPI document tells of every declared event, with examples that ingest accepts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import httpx
import pytest
from pydantic import BaseModel, Field

from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog
from flywheel.contracts.events import Event
from flywheel.kernel import catalog
from services.ingest.bootstrap import build
from services.ingest.examples import example_of
from services.ingest.settings import IngestSettings

EVENTS = [(name, event) for name in catalog.names() for event in catalog.load(name).events]


class Place(BaseModel):
    latitude: Annotated[float, Field(ge=-90, le=90)]
    kind: Literal["home", "work"]


class Everything(Event):
    """An event with every kind of field that an example must be made for."""

    event_name: ClassVar[str] = "everything"
    partition_key: ClassVar[str] = "event_id"

    place: Place
    share: Annotated[float, Field(gt=0, lt=1)]
    year: Annotated[int, Field(ge=2_000)]
    below: Annotated[int, Field(lt=0)]
    tags: list[str]
    flag: bool
    note: str | None = None
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]


@pytest.mark.parametrize("event", [Everything, *(event for _, event in EVENTS)])
def test_every_example_is_a_valid_event(event: type[Event]) -> None:
    assert event.model_validate(example_of(event))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = build(IngestSettings(), MemoryEventLog(MemoryBroker()), lambda _: None, lambda _: [])
    return app.openapi()


@pytest.mark.parametrize(("usecase", "event"), EVENTS)
def test_every_event_is_documented(document: dict[str, Any], usecase: str, event: type[Event]) -> None:
    for path in (f"/v1/{usecase}/{event.event_name}", f"/v1/{usecase}/{event.event_name}/batch"):
        operation = document["paths"][path]["post"]
        assert {"400", "408", "413", "415", "422", "503"} < set(operation["responses"])
        (header,) = operation["parameters"]
        assert (header["name"], header["in"], header["required"]) == ("Flywheel-Backfill", "header", False)
        body = operation["requestBody"]["content"]["application/json"]
        items = body["schema"]["properties"]["events"]["items"] if path.endswith("batch") else body["schema"]
        schema = document["components"]["schemas"][items["$ref"].rpartition("/")[2]]
        assert set(schema["properties"]) == set(event.model_fields)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    found = references(document)
    assert found
    assert {reference.rpartition("/")[2] for reference in found} <= set(document["components"]["schemas"])


async def test_the_document_is_served() -> None:
    app = build(IngestSettings(), MemoryEventLog(MemoryBroker()), lambda _: None, lambda _: [])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://door") as client:
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "Flywheel ingest"
