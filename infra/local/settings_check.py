"""Checks all settings before any process is started: of each wrong one its name, the reason and the way out."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic_settings import BaseSettings

from flywheel.adapters.grpc_client import UnusableTls, client_tls
from flywheel.adapters.redis_address import cluster_address, is_cluster
from flywheel.client.errors import ClientError
from flywheel.client.world_driver import knobs_from_environment
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.unreadable_settings import PREFIX, WAY_OUT, unreadable
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from infra.local import balancer, scale
from infra.local.failures import CannotStart
from infra.local.processes import MemoryCaps, Process, declaration, processes
from infra.local.redis_cluster import bus_port_of
from infra.local.supervision import STACK_VARIABLE
from services.features.settings import FeaturesSettings
from services.ingest.settings import IngestSettings
from services.monitor.settings import MonitorSettings
from services.serving.port.port import CannotServe, check_certificates
from services.serving.settings import ServingSettings
from services.trainer.settings import TrainerSettings

_WORLD_PREFIX = "FLYWHEEL_WORLD_"
_KINDS: Sequence[type[PlatformSettings]] = (
    PlatformSettings,
    IngestSettings,
    FeaturesSettings,
    TrainerSettings,
    ServingSettings,
    MonitorSettings,
    MemoryCaps,
)
_URLS = {"ingest_url": ("http", "https"), "monitor_url": ("http", "https"), "redis_url": ("redis", "rediss")}
_LARGEST_PORT = 65_535


def read_platform() -> PlatformSettings:
    """What all processes share. Raises CannotStart naming each setting that cannot be read."""
    _refuse(unreadable([PlatformSettings]))
    return PlatformSettings()


def check(settings: PlatformSettings) -> None:
    """Raises CannotStart naming each setting of any process that is wrong, as far as that can be told beforehand."""
    _refuse(unreadable(_KINDS))
    _refuse(_misplaced(settings))
    usecase = declared(settings)
    found = [*_of_world(settings, usecase), *_of_tls(settings), *_of_scale(settings)]
    _refuse([*found, *_shared_ports(processes(declaration(settings)))])


def unknown(usecase: UseCase) -> Iterator[str]:
    """A sentence for each name that is set and no setting: most likely it was meant to be one."""
    known = {name for kind in _KINDS for name in _names(kind, PREFIX)} | {STACK_VARIABLE}
    if usecase.world:
        known |= set(_names(importlib.import_module(usecase.world).Knobs, _WORLD_PREFIX))
    for name in sorted({*os.environ, *dotenv_values(".env")} - known):
        if name.startswith(PREFIX):
            near = difflib.get_close_matches(name, known, 1, cutoff=0.8)
            yield f"{name} is no setting and changes nothing" + (f"; is {near[0]} meant?" if near else "")


def _refuse(wrong: Iterable[str]) -> None:
    found = list(dict.fromkeys(wrong))
    if found:
        listed = "\n".join(f"  {each}" for each in found)
        raise CannotStart(f"Nothing was done, because these settings are wrong:\n{listed}\n{WAY_OUT}")


def _misplaced(settings: PlatformSettings) -> Iterator[str]:
    if settings.log_level not in logging.getLevelNamesMapping():
        yield f"{PREFIX}LOG_LEVEL: is none of DEBUG, INFO, WARNING, ERROR"
    yield from _of_cluster(settings.redis_url)
    for name, schemes in _URLS.items():
        if name == "redis_url" and is_cluster(settings.redis_url):
            continue
        parts = urlsplit(getattr(settings, name))
        if parts.scheme not in schemes or not parts.hostname or not _has_port(parts.netloc):
            # Not shown: it may hold a password.
            yield f"{_env(name)}: is no {schemes[0]}://host:port"
    addresses = {"serving_address": settings.serving_address}
    if settings.serving_rest_address:
        addresses["serving_rest_address"] = settings.serving_rest_address
    brokers = [("kafka_bootstrap", broker) for broker in settings.kafka_bootstrap.split(",")]
    for name, address in [*addresses.items(), *brokers]:
        if not _has_port(address):
            yield f"{_env(name)}: {address!r} is no host:port"
    for name, value in settings:
        if name.endswith("_port") and not 0 < value < 65_536:
            yield f"{_env(name)}: {value} is no port; those are 1 to 65535"


def _of_cluster(redis_url: str) -> Iterator[str]:
    if not is_cluster(redis_url):
        return
    try:
        ports = [node.port for node in cluster_address(redis_url).nodes]
    except ValueError:
        yield f"{_env('redis_url')}: is no redis+cluster://host:port,host:port,host:port"
        return
    if any(bus_port_of(port) > _LARGEST_PORT for port in ports):
        yield f"{_env('redis_url')}: a node of a cluster speaks to others at its port + 10000; there is none so large"


def _has_port(address: str) -> bool:
    host, _, port = address.rpartition("@")[2].rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65_536


def declared(settings: PlatformSettings) -> UseCase:
    """The use case that is set. Raises CannotStart for a wrong declaration."""
    try:
        return catalog.load(settings.usecase)
    except Exception as error:
        # A declaration is anybody's code; whatever is wrong with it, nothing can run.
        raise CannotStart(f"The declaration of {settings.usecase} is wrong: {error}") from error


def _of_world(settings: PlatformSettings, usecase: UseCase) -> Iterator[str]:
    if settings.world_enabled and usecase.world:
        try:
            knobs_from_environment(importlib.import_module(usecase.world).Knobs)
        except ClientError as error:
            yield str(error)


def _of_tls(settings: PlatformSettings) -> Iterator[str]:
    try:
        check_certificates(ServingSettings())
        if (tls := client_tls(settings)) is not None:
            tls.credentials()
        elif ServingSettings().serving_tls_certificate is not None:
            yield (
                f"{PREFIX}CLIENT_TLS_CA: is not set, but {PREFIX}SERVING_TLS_CERTIFICATE is, and the platform's own "
                "clients would speak plain text"
            )
    except (CannotServe, UnusableTls) as error:
        yield str(error)


def _of_scale(settings: PlatformSettings) -> Iterator[str]:
    if not scale.is_balanced(settings):
        return
    try:
        balancer.binary(settings)
    except CannotStart as error:
        yield str(error)
    if ServingSettings().serving_tls_certificate is not None:
        yield (
            f"{PREFIX}SERVING_REPLICAS: the balancer of one machine speaks plain text, but "
            f"{PREFIX}SERVING_TLS_CERTIFICATE is set; have one replica, or no certificate"
        )


def _shared_ports(declared: Iterable[Process]) -> Iterator[str]:
    names: dict[int, list[str]] = defaultdict(list)
    for process in declared:
        for name, port in process.ports.items():
            names[port].append(name)
    for port, some in names.items():
        if len(some) > 1:
            yield f"{' and '.join(some)}: each needs a port of its own, unlike {port} for all"


def _names(kind: type[BaseSettings], prefix: str) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name.upper()}"
        choices = getattr(field.validation_alias, "choices", ())
        yield from (str(choice) for choice in choices)


def _env(name: str) -> str:
    return f"{PREFIX}{name.upper()}"
