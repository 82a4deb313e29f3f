"""Tells whether a process answers yet, by asking it what its clients will ask. Every probe returns at once."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

import grpc
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flywheel.adapters.grpc_client import ClientTls, UnusableTls, open_channel

_PROBE_TIMEOUT_S = 2.0
_ANSWER_BYTES = 4096
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class Probe(Protocol):
    """One question to one process."""

    def __call__(self) -> bool:
        """Whether the process answers as a ready one does. Never raises because it does not."""

    def detail(self) -> str:
        """What the process says it still waits for; empty where it says nothing."""

    def __str__(self) -> str:
        """What is asked, for a message."""


@dataclass(frozen=True)
class HttpReady:
    """`GET /readyz` answers 200."""

    url: str

    def __call__(self) -> bool:
        status, _ = self._ask()
        return status == HTTPStatus.OK

    def detail(self) -> str:
        try:
            return str(json.loads(self._ask()[1])["detail"])
        except (ValueError, KeyError, TypeError):
            return ""

    def _ask(self) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S)
        try:
            connection.request("GET", parts.path)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES)
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class GrpcServing:
    """The standard health service says SERVING for the server as a whole."""

    address: str
    tls: ClientTls | None = None

    def __call__(self) -> bool:
        try:
            opened = open_channel(self.address, self.tls, _OWN_CONNECTION)
        except UnusableTls:
            return False
        with opened as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=_PROBE_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def __str__(self) -> str:
        if not self.tls:
            return f"gRPC health of {self.address} in plain text (FLYWHEEL_CLIENT_TLS_CA is not set)"
        return f"gRPC health of {self.address} by TLS" + (f" ({detail})" if (detail := self.detail()) else "")

    def detail(self) -> str:
        try:
            if self.tls:
                self.tls.credentials()
        except UnusableTls as error:
            return str(error)
        return ""


@dataclass(frozen=True)
class BrokerAnswers:
    """The broker tells its cluster's metadata."""

    bootstrap: str

    def __call__(self) -> bool:
        # A client that cannot connect logs it at once and again; the port tells the same more quietly.
        if not TcpOpen(self.bootstrap)():
            return False
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            return len(client.list_topics(timeout=_PROBE_TIMEOUT_S).brokers) > 0
        except KafkaException:
            return False

    def __str__(self) -> str:
        return f"metadata of the broker at {self.bootstrap}"

    def detail(self) -> str:
        return ""


@dataclass(frozen=True)
class RedisAnswers:
    """Redis answers PING with PONG: while it loads its file it answers something else."""

    port: int

    def __call__(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_PROBE_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def __str__(self) -> str:
        return f"PING at port {self.port}"

    def detail(self) -> str:
        return ""


@dataclass(frozen=True)
class SparkWorkerRegistered:
    """Spark's master counts the worker at that port among those that live."""

    master_page: str
    port: int

    def __call__(self) -> bool:
        try:
            with urllib.request.urlopen(self.master_page, timeout=_PROBE_TIMEOUT_S) as answer:
                workers = json.loads(answer.read())["workers"]
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False
        return any(worker["port"] == self.port and worker["state"] == "ALIVE" for worker in workers)

    def __str__(self) -> str:
        return f"the worker at port {self.port} on {self.master_page}"

    def detail(self) -> str:
        return ""


@dataclass(frozen=True)
class TcpOpen:
    """Something accepts connections at `host:port`."""

    address: str

    def __call__(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_S):
                return True
        except OSError:
            return False

    def __str__(self) -> str:
        return f"port {self.address}"

    def detail(self) -> str:
        return ""


def until(
    condition: Callable[[], bool], timeout_s: float, *, clock: Callable[[], float], pause: Callable[[], None]
) -> bool:
    """Whether the condition came true within the time; asked again after each pause."""
    deadline = clock() + timeout_s
    while not condition():
        if clock() >= deadline:
            return False
        pause()
    return True


def comes_up(process: subprocess.Popen[bytes], ready: Probe, timeout_s: float) -> bool:
    """Whether the process answers within the time; nobody waits for one that has ended."""
    is_over = until(
        lambda: process.poll() is not None or ready(),
        timeout_s,
        clock=time.monotonic,
        pause=lambda: time.sleep(0.05),
    )
    return is_over and process.poll() is None
