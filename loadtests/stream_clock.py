"""The stream's present, looked at again and again: requests are to happen now, by the clock of the world that plays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx

from flywheel.client.errors import PresentUnknown
from flywheel.client.ingest_client import IngestClient
from flywheel.contracts.events import iso_utc
from loadtests.failures import CannotTest

_EVERY_S = 1.0
_TIMEOUT_S = 2.0


class StreamClock:
    """Follows ingest's `/v1/<usecase>/clock` while it is entered; keeps the last it heard when ingest is silent.

    Entering raises CannotTest when ingest does not answer or does not know the use case.
    """

    def __init__(self, ingest_url: str, usecase: str) -> None:
        self._url = ingest_url
        self._usecase = usecase
        self._text = ""
        self.present: datetime | None = None

    def now(self) -> str:
        """As events write it."""
        return self._text

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S)
        self._ingest = IngestClient(self._http, self._usecase)
        try:
            await self._look()
        except PresentUnknown as error:
            await self._http.aclose()
            raise self._failure(error) from error
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._http.aclose()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            with suppress(PresentUnknown):
                await self._look()

    async def _look(self) -> None:
        # Before the first event of a stream its present is whatever the first one says.
        self.present = (await self._ingest.present() or datetime.now(UTC)).astimezone(UTC)
        self._text = iso_utc(self.present)

    def _failure(self, error: PresentUnknown) -> CannotTest:
        if error.status is None:
            return CannotTest(f"Ingest does not answer at {self._url} ({error.detail}); start the stack: `make up`")
        if error.status == httpx.codes.NOT_FOUND:
            return CannotTest(
                f"Ingest at {self._url} does not know the use case {self._usecase!r}; the stack runs another one. "
                "Name that: `make loadtest USECASE=…`"
            )
        return CannotTest(
            f"Ingest at {self._url} does not know the stream's present yet ({error.detail}); try again in a moment"
        )
