"""Requests as they go over the wire, each made when it is sent: whom it is about is settled, it happens now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.kernel.declaration import UseCase
from loadtests.keys import COLD, rows_asked
from loadtests.material import Material
from loadtests.scenario import Traffic

MADE_UP = "load-"
"""What ids of events, and entities that only load tests know, begin with."""

_ID, _TIME = "event_id", "event_time"
_BY_THE_MODEL = DecideResponse(fallback="none").SerializeToString()

Now = Callable[[], str]
"""The stream's present, as events write it."""


def by_the_model(message: bytes) -> bool:
    """Whether an answer is no fallback; as cheap as it has to be in a load generator."""
    return _BY_THE_MODEL in message


class Subjects:
    """Events as JSON. Number n is about the n-th drawn entity, has an id of its own, and happens now."""

    def __init__(self, usecase: UseCase, material: Material, traffic: Traffic, count: int, run: str, now: Now) -> None:
        self._key = usecase.request.partition_key
        self._run = run
        self._now = now
        self._head = f',"{self._key}":'.encode()
        self._templates = [_template(fields, self._key) for fields in material.events]
        drawn = rows_asked(
            [fields[self._key] for fields in material.events],
            max(count, 1),
            skew=traffic.skew,
            cold_share=traffic.cold_share,
            seed=traffic.seed,
        )
        self._rows: list[int] = drawn.tolist()

    def __call__(self, number: int) -> bytes:
        row = self._rows[number % len(self._rows)]
        key, rest = self._templates[number % len(self._templates) if row == COLD else row]
        if row == COLD:
            key = f'"{MADE_UP}{self._run}-cold-{number}"'.encode()
        return f'{{"{_ID}":"{MADE_UP}{self._run}-{number}","{_TIME}":"{self._now()}"'.encode() + self._head + key + rest


def decisions(usecase: str, subjects: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Requests for decisions about these."""

    def make(number: int) -> bytes:
        return DecideRequest(usecase=usecase, subject=subjects(number)).SerializeToString()

    return make


def events(subjects: Callable[[int], bytes], batch: int) -> Callable[[int], bytes]:
    """Bodies for ingest: one event each, or so many together."""
    if batch == 1:
        return subjects

    def make(number: int) -> bytes:
        first = number * batch
        return b'{"events":[' + b",".join(map(subjects, range(first, first + batch))) + b"]}"

    return make


def apart(material: Material, usecase: UseCase) -> Material:
    """The same events about entities that only load tests know: events of a test are no part of anybody's features."""
    keys = {key for entity in usecase.entities for key in entity.request_keys}
    return Material([_marked(fields, keys) for fields in material.events], material.moments_s)


def _marked(fields: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {name: f"{MADE_UP}{value}" if name in keys else value for name, value in fields.items()}


def _template(fields: Mapping[str, Any], key: str) -> tuple[bytes, bytes]:
    """The key's value, and what follows it to the end of the object."""
    others = {name: value for name, value in fields.items() if name not in (key, _ID, _TIME)}
    return orjson.dumps(fields[key]), b"," + orjson.dumps(others)[1:] if others else b"}"
