from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DecideRequest(_message.Message):
    __slots__ = ("usecase", "subject", "request_id", "omit_features", "explain")
    USECASE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OMIT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    usecase: str
    subject: bytes
    request_id: str
    omit_features: bool
    explain: int
    def __init__(self, usecase: _Optional[str] = ..., subject: _Optional[bytes] = ..., request_id: _Optional[str] = ..., omit_features: _Optional[bool] = ..., explain: _Optional[int] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("decision_id", "request_id", "action", "score", "reasons", "model_version", "arm", "fallback", "features", "feature_status", "feature_lag_ms", "stage_ms", "feature_age_ms", "step", "propensity", "contributions", "contribution_base", "unexplained")
    class FeatureStatusEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class StageMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class FeatureAgeMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_STATUS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LAG_MS_FIELD_NUMBER: _ClassVar[int]
    STAGE_MS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_BASE_FIELD_NUMBER: _ClassVar[int]
    UNEXPLAINED_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    request_id: str
    action: str
    score: float
    reasons: _containers.RepeatedScalarFieldContainer[str]
    model_version: str
    arm: str
    fallback: str
    features: _containers.RepeatedCompositeFieldContainer[FeatureValue]
    feature_status: _containers.ScalarMap[str, str]
    feature_lag_ms: float
    stage_ms: _containers.ScalarMap[str, float]
    feature_age_ms: _containers.ScalarMap[str, float]
    step: str
    propensity: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    contribution_base: float
    unexplained: str
    def __init__(self, decision_id: _Optional[str] = ..., request_id: _Optional[str] = ..., action: _Optional[str] = ..., score: _Optional[float] = ..., reasons: _Optional[_Iterable[str]] = ..., model_version: _Optional[str] = ..., arm: _Optional[str] = ..., fallback: _Optional[str] = ..., features: _Optional[_Iterable[_Union[FeatureValue, _Mapping]]] = ..., feature_status: _Optional[_Mapping[str, str]] = ..., feature_lag_ms: _Optional[float] = ..., stage_ms: _Optional[_Mapping[str, float]] = ..., feature_age_ms: _Optional[_Mapping[str, float]] = ..., step: _Optional[str] = ..., propensity: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., contribution_base: _Optional[float] = ..., unexplained: _Optional[str] = ...) -> None: ...

class FeatureValue(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("feature", "value")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    feature: str
    value: float
    def __init__(self, feature: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class DecideBatchRequest(_message.Message):
    __slots__ = ("usecase", "subjects", "request_id", "omit_features")
    USECASE_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OMIT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    usecase: str
    subjects: _containers.RepeatedScalarFieldContainer[bytes]
    request_id: str
    omit_features: bool
    def __init__(self, usecase: _Optional[str] = ..., subjects: _Optional[_Iterable[bytes]] = ..., request_id: _Optional[str] = ..., omit_features: _Optional[bool] = ...) -> None: ...

class DecideBatchResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[DecideOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[DecideOutcome, _Mapping]]] = ...) -> None: ...

class DecideOutcome(_message.Message):
    __slots__ = ("decision", "refusal")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    decision: DecideResponse
    refusal: Refusal
    def __init__(self, decision: _Optional[_Union[DecideResponse, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("status", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: int
    reason: str
    def __init__(self, status: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
