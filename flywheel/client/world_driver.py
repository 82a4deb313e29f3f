"""Plays a use case's world against the platform: the past at once, then the present as it comes."""

from __future__ import annotations

import asyncio
import importlib
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import httpx
import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flywheel.adapters.grpc_client import client_tls
from flywheel.adapters.logs import logger
from flywheel.adapters.metrics_server import MetricsServer
from flywheel.client.decision_client import DecisionClient
from flywheel.client.deliveries import Deliveries
from flywheel.client.errors import ClientError, WorldInPlay
from flywheel.client.history import load_history
from flywheel.client.ingest_client import IngestClient
from flywheel.client.ledger import Ledger
from flywheel.client.live import LivePlay
from flywheel.client.sender import Sender
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.world import World, WorldKnobs, clock_speed, day_name

_REQUEST_TIMEOUT_S = 30.0
_DECISION_TIMEOUT_S = 0.25
_GRACE_S = 8.0
_HAMPERED_FOR_S = 10.0
_QUEUED_AT_LEAST = 64

_log = logger(__name__)


def knobs_from_environment(kind: type[WorldKnobs]) -> WorldKnobs:
    """Knobs of that kind from `FLYWHEEL_WORLD_*`, defaults for the rest. Raises ClientError naming what is wrong."""
    config = SettingsConfigDict(env_prefix="FLYWHEEL_WORLD_", env_file=".env", extra="ignore")
    environment = type("WorldEnvironment", (kind, BaseSettings), {"model_config": config})
    try:
        knobs: WorldKnobs = environment()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise ClientError(f"FLYWHEEL_WORLD_{name}: {first['msg']}") from error
    return knobs


def build_world(usecase: UseCase) -> tuple[World, WorldKnobs]:
    """The use case's world under the knobs of the environment."""
    if not usecase.world:
        raise ClientError(f"use case {usecase.name!r} declares no world")
    module = importlib.import_module(usecase.world)
    knobs = knobs_from_environment(module.Knobs)
    return module.build(knobs), knobs


def drive_world(usecase_name: str, settings: PlatformSettings, *, history_only: bool) -> None:
    """Loads the history that is not loaded yet and, unless `history_only`, plays live until SIGTERM or SIGINT."""
    try:
        uvloop.run(_drive(catalog.load(usecase_name), settings, history_only=history_only))
    except WorldInPlay:
        if not history_only:
            raise
        # Whoever plays a world loads its history first.
        print("history 100%  the world is being played already", flush=True)


async def _drive(usecase: UseCase, settings: PlatformSettings, *, history_only: bool) -> None:
    world, knobs = build_world(usecase)
    async with AsyncExitStack() as closing:
        ledger = Ledger(settings.data_dir / "world" / usecase.name, knobs)
        closing.callback(ledger.close)
        status = _Status()
        http = httpx.AsyncClient(base_url=settings.ingest_url, timeout=_REQUEST_TIMEOUT_S)
        await closing.enter_async_context(http)
        sender = Sender(IngestClient(http, usecase.name, on_retry=status.hampered), ledger, usecase.name)
        deliveries = Deliveries(world, knobs, usecase.request.event_name)
        if history_only:
            await _until_stopped(_load(deliveries, knobs, sender, ledger), stop=None)
            return
        probes = MetricsServer(settings.world_metrics_port, status.ready, host=settings.metrics_host)
        closing.callback(probes.close)
        probes.start()
        decider = _decider(settings) if knobs.decisions else None
        if decider:
            closing.push_async_callback(decider.close)
        speed = clock_speed(world, knobs.rate)
        live = LivePlay(
            deliveries,
            sender,
            ledger,
            decider,
            usecase=usecase.name,
            speed=speed,
            queued=_QUEUED_AT_LEAST + int(knobs.rate),
        )

        async def play() -> None:
            await _load(deliveries, knobs, sender, ledger)
            status.live()
            today = day_name(world, ledger.day)
            _log.info("world_live", day=today, rate=knobs.rate, event_seconds_a_second=round(speed, 1))
            await live.run()

        await _until_stopped(play(), stop=live.stop)
        _log.info("world_stopped", day=ledger.day, index=ledger.index)


def _decider(settings: PlatformSettings) -> DecisionClient:
    return DecisionClient(settings.serving_address, timeout_s=_DECISION_TIMEOUT_S, tls=client_tls(settings))


async def _load(deliveries: Deliveries, knobs: WorldKnobs, sender: Sender, ledger: Ledger) -> None:
    if ledger.day <= knobs.history_days:
        await load_history(deliveries, knobs.history_days, sender, ledger, report=lambda line: print(line, flush=True))


async def _until_stopped(work: Coroutine[Any, Any, None], stop: Callable[[], None] | None) -> None:
    """Runs the work. At SIGTERM or SIGINT it is asked to stop, and cancelled when it does not within the grace."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)

    def on_signal() -> None:
        if stop:
            stop()
        loop.call_later(_GRACE_S if stop else 0, task.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await task
    except asyncio.CancelledError as error:
        if stop is None:
            raise ClientError("stopped before all history was loaded; the next run goes on from here") from error


class _Status:
    """What `/readyz` says about the world."""

    def __init__(self) -> None:
        self._is_live = False
        self._hampered_s = float("-inf")

    def live(self) -> None:
        self._is_live = True

    def hampered(self) -> None:
        self._hampered_s = time.monotonic()

    def ready(self) -> tuple[bool, str]:
        if time.monotonic() - self._hampered_s < _HAMPERED_FOR_S:
            return False, "ingest does not accept events"
        return self._is_live, "live" if self._is_live else "loading history"
