"""Asks a process of this container whether it is ready: `python -ISB infra/images/healthy.py 127.0.0.1:9102/readyz`.

Exit code 1 if it is not. Health checks run every few seconds beside the service: this one needs a socket and no more.
"""

from __future__ import annotations

import socket
import sys

_TIMEOUT_S = 3.0
_ANSWER_BYTES = 4096


def main(address: str) -> int:
    """The exit status for `host:port/path`; prints what was answered, for `docker inspect`."""
    place, _, path = address.partition("/")
    host, _, port = place.rpartition(":")
    try:
        answer = ask(host, int(port), path)
    except OSError as error:
        print(error)
        return 1
    head, _, body = answer.partition("\r\n\r\n")
    print(body.strip() or head)
    return 0 if head.split(" ", 2)[1:2] == ["200"] else 1


def ask(host: str, port: int, path: str) -> str:
    """The begin of the answer to GET. Raises OSError."""
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while len(answer) < _ANSWER_BYTES and (more := connection.recv(_ANSWER_BYTES)):
            answer += more
    return answer.decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
