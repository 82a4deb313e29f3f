"""Connections to what a traffic asks: serving over gRPC, ingest over HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.declaration import UseCase
from loadtests import requests
from loadtests.failures import CannotTest
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.http1_pool import Http1Pool
from loadtests.generator.load import one
from loadtests.generator.outcomes import Outcome
from loadtests.material import Material
from loadtests.scenario import Kind, Traffic

DECIDE = "/flywheel.v1.Decisions/Decide"
_CONNECTIONS = 8
_INGEST_WITHIN_MS = 1_000.0
_OPEN_TIMEOUT_S = 10.0

AnyPool = GrpcPool | Http1Pool


class Target:
    """Whom one traffic asks about what."""

    def __init__(self, traffic: Traffic, usecase: UseCase, material: Material, settings: PlatformSettings) -> None:
        self.traffic = traffic
        self.usecase = usecase
        self.material = requests.apart(material, usecase) if traffic.kind is Kind.INGEST else material
        self._settings = settings
        is_ingest = traffic.kind is Kind.INGEST
        self.address = traffic.address or (settings.ingest_url if is_ingest else settings.serving_address)
        self.within_ms = traffic.within_ms or (_INGEST_WITHIN_MS if is_ingest else float(usecase.budget.total_ms))

    def pool(self, count: int, run: str, now: Callable[[], str]) -> AnyPool:
        """Connections yet to be opened, on which that many different requests can be sent."""
        made = self.rendered(count, run, now)
        if self.traffic.kind is Kind.INGEST:
            parts = urlsplit(self.address)
            path = f"/v1/{self.usecase.name}/{self.usecase.request.event_name}"
            batch = "" if self.traffic.batch == 1 else "/batch"
            return Http1Pool(f"{parts.hostname}:{parts.port or 80}", path + batch, made)
        return GrpcPool(
            self.address,
            DECIDE,
            made,
            connections=_CONNECTIONS,
            timeout_s=self.traffic.timeout_ms / 1e3,
            judge=requests.by_the_model,
            tls=tls_context(self._settings),
        )

    def rendered(self, count: int, run: str, now: Callable[[], str]) -> Callable[[int], bytes]:
        """What makes the body of each request by its number."""
        traffic = self.traffic
        subjects = requests.Subjects(self.usecase, self.material, traffic, count * traffic.batch, run, now)
        if traffic.kind is Kind.INGEST:
            return requests.events(subjects, traffic.batch)
        return requests.decisions(self.usecase.name, subjects)


async def check(target: Target, pool: AnyPool) -> None:
    """Opens the connections and sends one request. Raises CannotTest when it gets no answer a test could go on with."""
    name, address = target.traffic.name, target.address
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            await pool.open()
        outcome = await one(pool, 0)
    except (OSError, TimeoutError) as error:
        raise CannotTest(
            f"Nothing answers {name} at {address} ({error or type(error).__name__}); start the stack: `make up`"
        ) from error
    if outcome in (Outcome.GOOD, Outcome.DEGRADED, Outcome.REFUSED):
        return
    status = next(iter(pool.statuses), None)
    if status in (5, 404):
        raise CannotTest(
            f"What runs at {address} does not know the use case {target.usecase.name!r}; name the one it serves: "
            "`make loadtest USECASE=…`"
        )
    raise CannotTest(
        f"{name} at {address}: the first request ended with status {status}; `make status` and `make logs` say why"
    )


def tls_context(settings: PlatformSettings) -> ssl.SSLContext | None:
    """How clients speak to serving: by TLS as the settings say, or (None) in plain text."""
    if settings.client_tls_ca is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.client_tls_ca)
        if settings.client_tls_certificate:
            context.load_cert_chain(settings.client_tls_certificate, settings.client_tls_key)
    except OSError as error:
        raise CannotTest(f"{settings.client_tls_ca} cannot be used for TLS: {error}") from error
    context.set_alpn_protocols(["h2"])
    return context
