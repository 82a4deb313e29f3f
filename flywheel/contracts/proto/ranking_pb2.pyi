from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RankRequest(_message.Message):
    __slots__ = ("usecase", "subject", "request_id", "candidates", "keep")
    USECASE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    usecase: str
    subject: bytes
    request_id: str
    candidates: _containers.RepeatedScalarFieldContainer[str]
    keep: int
    def __init__(self, usecase: _Optional[str] = ..., subject: _Optional[bytes] = ..., request_id: _Optional[str] = ..., candidates: _Optional[_Iterable[str]] = ..., keep: _Optional[int] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("decision_id", "request_id", "ranked", "dropped", "model_version", "arm", "fallback", "step", "feature_status", "feature_lag_ms", "stage_ms")
    class DroppedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FeatureStatusEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: StatusCounts
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[StatusCounts, _Mapping]] = ...) -> None: ...
    class StageMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RANKED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FEATURE_STATUS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LAG_MS_FIELD_NUMBER: _ClassVar[int]
    STAGE_MS_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    request_id: str
    ranked: _containers.RepeatedCompositeFieldContainer[RankedCandidate]
    dropped: _containers.ScalarMap[str, int]
    model_version: str
    arm: str
    fallback: str
    step: str
    feature_status: _containers.MessageMap[str, StatusCounts]
    feature_lag_ms: float
    stage_ms: _containers.ScalarMap[str, float]
    def __init__(self, decision_id: _Optional[str] = ..., request_id: _Optional[str] = ..., ranked: _Optional[_Iterable[_Union[RankedCandidate, _Mapping]]] = ..., dropped: _Optional[_Mapping[str, int]] = ..., model_version: _Optional[str] = ..., arm: _Optional[str] = ..., fallback: _Optional[str] = ..., step: _Optional[str] = ..., feature_status: _Optional[_Mapping[str, StatusCounts]] = ..., feature_lag_ms: _Optional[float] = ..., stage_ms: _Optional[_Mapping[str, float]] = ...) -> None: ...

class RankedCandidate(_message.Message):
    __slots__ = ("candidate", "score", "propensity", "event_id")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    candidate: str
    score: float
    propensity: float
    event_id: str
    def __init__(self, candidate: _Optional[str] = ..., score: _Optional[float] = ..., propensity: _Optional[float] = ..., event_id: _Optional[str] = ...) -> None: ...

class StatusCounts(_message.Message):
    __slots__ = ("candidates",)
    class CandidatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.ScalarMap[str, int]
    def __init__(self, candidates: _Optional[_Mapping[str, int]] = ...) -> None: ...
