"""Tells a taken port before anything is started on it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

import psutil

from infra.local.failures import CannotStart
from infra.local.processes import Process


def check_free(processes: Iterable[Process]) -> None:
    """Raises CannotStart naming the first port that another program holds, who holds it, and how to move ours."""
    for process in processes:
        for setting, port in process.ports.items():
            if is_taken(port):
                raise CannotStart(busy_sentence(process.name, setting, port, holder(port)))


def is_taken(port: int) -> bool:
    """Whether something listens on that port of this machine."""
    with socket.socket() as probe:
        # As servers do: a connection of the last run that is still closing is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise CannotStart(f"Port {port} cannot be used: {error.strerror}") from error
    return False


def holder(port: int) -> str:
    """Who listens there, such as `java, pid 4711`; empty when this user may not know."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
            except psutil.Error:
                return ""
    return ""


def busy_sentence(process: str, setting: str, port: int, held_by: str) -> str:
    """What is in the way and the two ways out."""
    who = f" ({held_by})" if held_by else ""
    return f"Port {port} ({process}) is taken by another program{who}; free it or set {setting} to another address"
