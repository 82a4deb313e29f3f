"""Tells whether a server that is to be measured answers yet."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

import grpc


@dataclass(frozen=True)
class Listens:
    """A plain connection is taken, and something that answers for the whole is ready."""

    address: str

    def __call__(self) -> bool:
        try:
            grpc.channel_ready_future(channel := grpc.insecure_channel(self.address)).result(timeout=1.0)
        except grpc.FutureTimeoutError:
            return False
        finally:
            channel.close()
        return True

    def detail(self) -> str:
        return ""


@dataclass(frozen=True)
class HttpScores:
    """A POST is answered with 200."""

    url: str
    body: bytes

    def __call__(self) -> bool:
        asked = urllib.request.Request(self.url, self.body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def detail(self) -> str:
        return ""


@dataclass(frozen=True)
class HttpOk:
    """A GET is answered with 200."""

    url: str

    def __call__(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def detail(self) -> str:
        return ""
