"""Sends events to ingest over HTTP, as any client does, and goes on until each has a definite answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson

from flywheel.adapters.logs import logger
from flywheel.client.errors import IngestUnreachable, PresentUnknown, RequestRefused
from flywheel.contracts.events import BACKFILL_HEADER

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_REMIND_EVERY_S = 30.0
_JSON = {"content-type": "application/json"}

_log = logger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that ingest refused: where it stood in the batch, and ingest's problem document."""

    index: int
    event_id: str | None
    problem: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """Ingest's own words for a person, the offending fields first."""
        fields = [
            f"{error.get('field', '?')}: {error.get('reason') or error.get('message', '')}"
            for error in self.problem.get("errors", ())
        ]
        if fields:
            return "; ".join(fields)
        field = self.problem.get("field")
        detail = str(self.problem.get("detail") or self.problem.get("reason") or self.problem.get("title", "rejected"))
        return f"{field}: {detail}" if field and str(field) not in detail else detail

    @property
    def hints(self) -> tuple[str, ...]:
        """Ingest's own words on what would be right, by field."""
        return tuple(
            f"{error.get('field', '?')}: {error['hint']}"
            for error in self.problem.get("errors", ())
            if error.get("hint")
        )


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """How ingest answered a batch, each event either accepted or rejected."""

    accepted: int
    rejections: tuple[Rejection, ...]
    retries: int
    """Times the batch was sent again because the outcome was unknown."""


class IngestClient:
    """A client of ingest. `patience_s=None` never gives up; else IngestUnreachable is raised after that long.

    `on_retry` is called before every repetition, `on_wait` at the first of a row and now and then after it.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        usecase: str,
        *,
        patience_s: float | None = None,
        sleep: Sleep = asyncio.sleep,
        on_retry: Callable[[], None] = lambda: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._http = http
        self._usecase = usecase
        self._patience_s = patience_s
        self._sleep = sleep
        self._on_retry = on_retry
        self._on_wait = on_wait

    async def present(self) -> datetime | None:
        """The stream's present: the wall clock's, or the playing world's. None before the stream's first event.

        Raises PresentUnknown when ingest does not tell it: a guess could lie years off a played world.
        """
        try:
            answer = await self._http.get(f"/v1/{self._usecase}/clock")
        except httpx.TransportError as error:
            raise PresentUnknown(str(self._http.base_url), _words(error)) from error
        if not answer.is_success:
            raise PresentUnknown(str(self._http.base_url), f"HTTP {answer.status_code}", answer.status_code)
        now = _problem(answer).get("now")
        return datetime.fromisoformat(now) if now else None

    async def send_batch(
        self, event_name: str, events: Sequence[Mapping[str, Any]], *, backfilled: bool = False
    ) -> BatchOutcome:
        """Sends events of one kind in order and returns once each is accepted or rejected.

        While ingest is away or cannot tell what became of an event the whole batch is sent again; the event ids make
        that harmless. `backfilled` events are loaded after the fact. Raises RequestRefused when ingest refuses the
        request itself.
        """
        path = f"/v1/{self._usecase}/{event_name}/batch"
        body = orjson.dumps({"events": events})
        headers = _JSON | {BACKFILL_HEADER: "true"} if backfilled else _JSON
        retries, waited_s, reminded_s = 0, 0.0, 0.0
        while True:
            answer, detail, pause_s = await self._post(path, body, headers, _pause(retries))
            if answer is not None:
                if retries:
                    _log.info("ingest_accepts_again", after_s=round(waited_s, 1), retries=retries)
                rejections = tuple(_rejections(answer["results"]))
                return BatchOutcome(len(events) - len(rejections), rejections, retries)
            if self._patience_s is not None and waited_s >= self._patience_s:
                raise IngestUnreachable(str(self._http.base_url), detail)
            if retries == 0 or waited_s - reminded_s >= _REMIND_EVERY_S:
                _log.warning("ingest_unavailable", detail=detail, waited_s=round(waited_s, 1))
                self._on_wait()
                reminded_s = waited_s
            self._on_retry()
            await self._sleep(pause_s)
            retries, waited_s = retries + 1, waited_s + pause_s

    async def send_one(self, event_name: str, event: Mapping[str, Any]) -> Rejection | None:
        """Sends one event to the endpoint for single ones; None when it was accepted."""
        try:
            answer = await self._http.post(
                f"/v1/{self._usecase}/{event_name}", content=orjson.dumps(event), headers=_JSON
            )
        except httpx.TransportError as error:
            raise IngestUnreachable(str(self._http.base_url), _words(error)) from error
        if answer.status_code in _RETRIED:
            raise IngestUnreachable(str(self._http.base_url), f"HTTP {answer.status_code}")
        if answer.is_success:
            return None
        return Rejection(0, event.get("event_id"), _problem(answer))

    async def _post(
        self, path: str, body: bytes, headers: Mapping[str, str], pause_s: float
    ) -> tuple[dict[str, Any] | None, str, float]:
        """The answer if it is definite for every event; else None, why not, and how long to pause."""
        try:
            answer = await self._http.post(path, content=body, headers=headers)
        except httpx.TransportError as error:
            return None, _words(error), pause_s
        if answer.status_code in _RETRIED:
            return None, f"HTTP {answer.status_code}", _retry_after(answer, pause_s)
        if not answer.is_success:
            raise RequestRefused(f"ingest refuses {path} with HTTP {answer.status_code}: {_problem(answer)}")
        content = orjson.loads(answer.content)
        if any(result["status"] not in ("accepted", "rejected") for result in content["results"]):
            return None, "ingest does not know what became of some events", _retry_after(answer, pause_s)
        return content, "", 0.0


def _rejections(results: Sequence[Mapping[str, Any]]) -> list[Rejection]:
    return [
        Rejection(result["index"], result.get("event_id"), result.get("problem", {}))
        for result in results
        if result["status"] == "rejected"
    ]


def _pause(retries: int) -> float:
    return float(min(_FIRST_PAUSE_S * 2**retries, _LONGEST_PAUSE_S))


def _retry_after(answer: httpx.Response, pause_s: float) -> float:
    try:
        asked_s = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return pause_s
    return min(max(asked_s, pause_s), _LONGEST_PAUSE_S)


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        content = None
    return content if isinstance(content, dict) else {"title": f"HTTP {answer.status_code}"}


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
