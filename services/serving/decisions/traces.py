"""Spans of requests. They are told when the answer has gone, from the times it was made with anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flywheel.adapters.tracing import UNTRACED, Tracing
from flywheel.contracts.metadata import TRACEPARENT
from flywheel.kernel.decision.record import Answered


class AnswerTraces:
    """One span for each answer, with one for each of its stages within."""

    def __init__(
        self, tracing: Tracing = UNTRACED, name: str = "decide", wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._tracing = tracing
        self._name = name
        self._wall_ns = wall_ns
        self.on = tracing.on

    def answered(self, answer: Answered, metadata: Mapping[str, str]) -> None:
        """This answer has just gone to a caller who sent that metadata."""
        if not self.on:
            return
        ended_ns = self._wall_ns()
        stages = dict(answer.stage_ms)
        began_ns = ended_ns - int(stages.pop("total") * 1e6)
        said = {
            "flywheel.usecase": answer.usecase,
            "flywheel.decision_id": answer.decision_id,
            "flywheel.request_id": answer.request_id,
            "flywheel.model_version": answer.model_version,
            "flywheel.arm": answer.arm.value,
            "flywheel.fallback": answer.fallback.value,
        }
        self._tracing.tell(self._name, metadata.get(TRACEPARENT, ""), began_ns, ended_ns, said, stages)

    def refused(self, status: str, request_id: str, arrived_s: float, metadata: Mapping[str, str]) -> None:
        """This request, which came when `perf_counter` said `arrived_s`, has just been told that status instead."""
        if not self.on:
            return
        ended_ns = self._wall_ns()
        began_ns = ended_ns - int((time.perf_counter() - arrived_s) * 1e9)
        said = {"flywheel.request_id": request_id}
        self._tracing.tell(self._name, metadata.get(TRACEPARENT, ""), began_ns, ended_ns, said, {}, error=status)
