"""Who is admitted to serving, on the gRPC port and over HTTP: the kernel's rules, with clock, words and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import cycle, islice, repeat

from flywheel.adapters.grpc_server.status import Refusal, Status
from flywheel.adapters.logs import logger
from flywheel.contracts.metadata import CRITICALITY
from flywheel.contracts.metrics import (
    SERVING_ADMISSION_LIMIT,
    SERVING_IN_FLIGHT,
    SERVING_LOOP_LAG_SECONDS,
    SERVING_NOT_ADMITTED,
)
from flywheel.kernel.admission import Admission, Criticality, Reason, lowered
from flywheel.kernel.declaration import UseCase
from services.serving.port.loop_lag import LoopLag

PUSHBACK = "grpc-retry-pushback-ms"

_WORDS = {
    Reason.LIMIT: "overloaded: as many requests as can be answered in time are under way",
    Reason.PRIORITY: "overloaded: requests that matter more need all there is",
    Reason.DEADLINE: "overloaded: the answer would come after the deadline",
}
_EXPIRED = Refusal(Status.DEADLINE_EXCEEDED, "the deadline was over when the request was read", stands=True)
_REASONS = {words: reason for reason, words in _WORDS.items()} | {_EXPIRED.reason: Reason.EXPIRED}
_FREE_SERVICES = ("/grpc.",)
_FREE_METHODS = frozenset(
    {"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "RepositoryIndex"}
)
_INFERENCE = "/inference."
_WARN_EVERY_S = 5.0

_log = logger(__name__)


class AdmissionGate:
    """Admits requests of one use case; what asks for no decision and runs no model is always admitted.

    Refusals are made beforehand. A caller names in `flywheel-criticality` (`critical`, `default` or `sheddable`) that
    its request matters less than is declared; more than declared it never does.
    """

    def __init__(
        self, usecase: UseCase, admission: Admission, *, steady_s: Callable[[], float] = time.perf_counter
    ) -> None:
        self._usecase = usecase
        self._admission = admission
        self._steady_s = steady_s
        self._by_path: dict[str, Criticality | None] = {}
        self._made: dict[tuple[Reason, int], Refusal] = {}
        self._next: list[list[Iterator[Refusal]]] = []
        """What the next one is told, by criticality and reason."""
        self._refused = _no_counts()
        self._warned_s = -math.inf
        self._held = [0] * len(Criticality)
        self.lag_s = 0.0
        """How long what arrives waits until it is read, on average."""
        self._loop_lag = LoopLag(self._renew)
        self._show(admission)

    def start(self) -> None:
        """Watches the running loop from now on."""
        self._loop_lag.start()

    def stop(self) -> None:
        """Watches it no more."""
        self._loop_lag.stop()
        self._renew(self.lag_s)

    def look(self, path: str, metadata: Mapping[str, str], timeout_s: float = math.inf) -> Refusal | None:
        """Why a request is refused whose message has yet to come, or None: then `begin` is to be asked.

        `timeout_s` is what its caller gives it.
        """
        criticality = self._criticality(path, metadata)
        if criticality is None:
            return None
        now_s = self._steady_s()
        reason = self._admission.look(criticality, now_s, patience_s=timeout_s, age_s=self._age_s(now_s))
        return None if reason is None else self._refused_for(criticality, reason)

    def repeated(self, path: str, metadata: Mapping[str, str], refusal: Refusal, count: int) -> Iterator[Refusal]:
        """What so many more requests are told that are like one just refused; that refusal stands."""
        criticality, reason = self._criticality(path, metadata), _REASONS[refusal.reason]
        if criticality is None:
            return repeat(refusal, count)
        self._admission.repeated(criticality, reason, count)
        self._refused[criticality][reason] += count
        return islice(self._next[criticality][reason], count)

    def begin(self, path: str, metadata: Mapping[str, str], timeout_s: float = math.inf) -> Refusal | None:
        """Why a request that has come whole is refused, or None: it has a place, and `ended` is to be told of it."""
        criticality = self._criticality(path, metadata)
        if criticality is None:
            return None
        now_s = self._steady_s()
        reason = self._admission.begin(criticality, now_s, patience_s=timeout_s, age_s=self._age_s(now_s))
        if reason is not None:
            return self._refused_for(criticality, reason)
        self._held[criticality] += 1
        return None

    def _refused_for(self, criticality: Criticality, reason: Reason) -> Refusal:
        self._refused[criticality][reason] += 1
        return next(self._next[criticality][reason])

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:
        """A request that had begun ended, so many seconds after that."""
        criticality = self._criticality(path, metadata)
        if criticality is None:
            return
        self._held[criticality] -= 1
        telling = outcome is not Status.CANCELLED
        self._admission.ended(seconds + self.lag_s, self._steady_s(), telling=telling)

    def loop_stands_s(self) -> float:
        """For how long the loop has looked at nothing; 0 while it turns. May be asked from any thread."""
        return self._loop_lag.overdue_s(self._steady_s())

    def _age_s(self, now_s: float) -> float:
        # While the loop was busy requests came all the time: half of what the first of them waited.
        return self._loop_lag.overdue_s(now_s) / 2

    def _renew(self, lag_s: float) -> None:
        self.lag_s = lag_s
        counts, self._refused = self._refused, _no_counts()
        if refused := sum(map(sum, counts)):
            for criticality in Criticality:
                for reason in Reason:
                    if count := counts[criticality][reason]:
                        SERVING_NOT_ADMITTED.labels(self._usecase.name, criticality.word, reason.word).inc(count)
            self._warn(refused)
            self._prepare()

    def _prepare(self) -> None:
        """Makes the next refusals, with the push-back of now."""
        self._next = [
            [iter(()), *(self._told(reason, self._admission.pushbacks_ms(criticality)) for reason in Reason)]
            for criticality in Criticality
        ]

    def _told(self, reason: Reason, pushbacks_ms: Iterable[int]) -> Iterator[Refusal]:
        if reason is Reason.EXPIRED:
            return repeat(_EXPIRED)
        return cycle([self._refusal(reason, after_ms) for after_ms in pushbacks_ms])

    def _criticality(self, path: str, metadata: Mapping[str, str]) -> Criticality | None:
        try:
            declared = self._by_path[path]
        except KeyError:
            declared = self._by_path[path] = self._declared(path)
        asked = metadata.get(CRITICALITY)
        return declared if asked is None or declared is None else lowered(declared, asked)

    def _declared(self, path: str) -> Criticality | None:
        if path.startswith(_FREE_SERVICES) or path.rpartition("/")[2] in _FREE_METHODS:
            return None
        # Rows sent to a model decide nothing by themselves.
        return (
            max(self._usecase.criticality, Criticality.DEFAULT)
            if path.startswith(_INFERENCE)
            else self._usecase.criticality
        )

    def _refusal(self, reason: Reason, after_ms: int) -> Refusal:
        made = self._made.get((reason, after_ms))
        if made is None:
            stands, trailers = reason is Reason.LIMIT, {PUSHBACK: str(after_ms)}
            made = Refusal(Status.RESOURCE_EXHAUSTED, _WORDS[reason], trailers, stands)
            self._made[reason, after_ms] = made
        return made

    def _warn(self, refused: int) -> None:
        now_s = self._steady_s()
        if now_s - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = now_s
            limit, in_flight = self._admission.limit, self._admission.in_flight
            _log.warning("overloaded", usecase=self._usecase.name, refused=refused, limit=limit, in_flight=in_flight)

    def _show(self, admission: Admission) -> None:
        name = self._usecase.name
        SERVING_ADMISSION_LIMIT.labels(name).set_function(lambda: admission.limit)
        SERVING_LOOP_LAG_SECONDS.set_function(lambda: self.lag_s)
        for criticality in Criticality:
            held = SERVING_IN_FLIGHT.labels(name, criticality.word)
            held.set_function(partial(self._held.__getitem__, criticality))
            for reason in Reason:
                SERVING_NOT_ADMITTED.labels(name, criticality.word, reason.word)
        self._prepare()


def _no_counts() -> list[list[int]]:
    """By criticality and reason; reasons are numbered from one."""
    return [[0] * (len(Reason) + 1) for _ in Criticality]


def retry_after_s(refusal: Refusal) -> int | None:
    """What a refusal says in an HTTP `Retry-After`; None where trying again would not help."""
    after_ms = refusal.trailers.get(PUSHBACK)
    return None if after_ms is None else max(1, math.ceil(int(after_ms) / 1000))
