"""What a request says before its message: path, metadata, deadline, compression; and what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flywheel.adapters.grpc_server.blocks import http_answer, trailers_only
from flywheel.adapters.grpc_server.status import Status, percent_encoded

Field = tuple[str, str]

_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_NEEDED = frozenset({":method", ":scheme", ":path"})
_OF_CONNECTIONS = frozenset({"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"})
_BAD_NAME = re.compile(r"[^!#$%&'*+.^_`|~0-9a-z-]")
_BAD_VALUE = re.compile(r"[\x00\r\n]")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Head:
    """The head of one request, or of any number of equal ones."""

    path: str
    metadata: Mapping[str, str]
    timeout_s: float = math.inf
    is_gzip: bool = False
    content_bytes: int | None = None
    answer: bytes | None = None
    """The header block that answers the request, where its head alone says that it cannot be served."""
    is_http: bool = False
    """That answer is for somebody who does not speak gRPC."""
    is_malformed: bool = False
    """It breaks HTTP/2 and deserves no answer."""
    is_trailers: bool = False
    """It can only follow a message."""

    def within(self, timeout: str) -> Head:
        """The same with that `grpc-timeout`."""
        found = _TIMEOUT.fullmatch(timeout)
        if self.answer is not None or self.is_malformed or self.is_trailers:
            return self
        if found is None:
            malformed = trailers_only(Status.INTERNAL, "malformed grpc-timeout", {})
            return Head(self.path, self.metadata, answer=malformed)
        timeout_s = int(found[1]) * _UNIT_S[found[2]]
        return Head(self.path, self.metadata, timeout_s, self.is_gzip, self.content_bytes)


_MALFORMED = Head("", _EMPTY, is_malformed=True)


def too_long() -> Head:
    """The head of a request whose headers are longer than allowed."""
    return Head("", _EMPTY, answer=http_answer(431), is_http=True)


def head_of(fields: list[Field]) -> Head:
    """The head that these fields make; a deadline is not among them, but for `Head.within`."""
    pseudo: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for name, value in fields:
        if name[:1] == ":":
            if name not in _PSEUDO or name in pseudo or metadata:
                return _MALFORMED
            pseudo[name] = value
        elif name in metadata:
            metadata[name] += "," + value
        else:
            metadata[name] = value
    if _breaks_rules(metadata):
        return _MALFORMED
    if not pseudo:
        return Head("", MappingProxyType(metadata), is_trailers=True)
    if not pseudo.keys() >= _NEEDED or not pseudo[":path"]:
        return _MALFORMED
    return _request(pseudo, metadata)


def _breaks_rules(metadata: Mapping[str, str]) -> bool:
    for name, value in metadata.items():
        if not name or _BAD_NAME.search(name) or _BAD_VALUE.search(value) or name in _OF_CONNECTIONS:
            return True
    return metadata.get("te", "trailers") != "trailers" or not metadata.get("content-length", "0").isdecimal()


def _request(pseudo: Mapping[str, str], metadata: dict[str, str]) -> Head:
    path = pseudo[":path"]
    content = metadata.get("content-length")
    content_bytes = None if content is None else int(content[:20])
    if pseudo[":method"] != "POST":
        return Head(path, _EMPTY, content_bytes=content_bytes, answer=http_answer(405), is_http=True)
    if not metadata.get("content-type", "").startswith("application/grpc"):
        return Head(path, _EMPTY, content_bytes=content_bytes, answer=http_answer(415), is_http=True)
    encoding = metadata.get("grpc-encoding", "identity")
    answer = None
    if encoding not in ("identity", "gzip"):
        said = percent_encoded(f"messages cannot be compressed by {encoding!r} here")
        answer = trailers_only(Status.UNIMPLEMENTED, said, {"grpc-accept-encoding": "identity,gzip"})
    frozen = MappingProxyType(metadata)
    return Head(path, frozen, math.inf, encoding == "gzip", content_bytes, answer)
