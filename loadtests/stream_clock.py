"""The stream's present, looked at again and again: requests are to happen now, by the clock of the world that plays."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import orjson

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
        self._path = f"/v1/{usecase}/clock"
        self._usecase = usecase
        self._text = ""
        self.present: datetime | None = None

    def now(self) -> str:
        """As events write it."""
        return self._text

    async def __aenter__(self) -> Self:
        try:
            status, body = await self._ask()
        except (OSError, TimeoutError, ValueError) as error:
            raise CannotTest(
                f"Ingest does not answer at {self._url} ({error or type(error).__name__}); start the stack: `make up`"
            ) from error
        if status == 404:
            raise CannotTest(
                f"Ingest at {self._url} does not know the use case {self._usecase!r}; the stack runs another one. "
                "Name that: `make loadtest USECASE=…`"
            )
        self._take(status, body)
        if not self._text:
            raise CannotTest(f"Ingest at {self._url} does not know the stream's present yet; try again in a moment")
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                self._take(*await self._ask())
            except (OSError, TimeoutError, ValueError):
                continue

    def _take(self, status: int, body: bytes) -> None:
        if status != 200:
            return
        told = orjson.loads(body)["now"]
        # Before the first event of a stream its present is whatever the first one says.
        self.present = datetime.fromisoformat(told).astimezone(UTC) if told else datetime.now(UTC)
        self._text = iso_utc(self.present)

    async def _ask(self) -> tuple[int, bytes]:
        parts = urlsplit(self._url)
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                host = f"{parts.hostname}:{parts.port or 80}"
                writer.write(f"GET {self._path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return int(head.split(b" ", 2)[1]), body
