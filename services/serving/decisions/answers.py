"""Decisions as they go over the wire: `DecideResponse`, written field by field.

An answer has dozens of small parts, most of which are the same in many answers: it is put together from bytes that were
made beforehand, instead of filling and serialising a message each time. Any protobuf parser reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from flywheel.contracts.proto.decision_pb2 import DecideResponse
from flywheel.kernel.decision import Decided
from flywheel.kernel.varints import encode_varint

_DOUBLE, _BYTES = 1, 2
_KEPT = 4_096
"""Names and reasons are declared, so there are far fewer; versions that come and go must not fill the memory."""

_NUMBERS = {name: field.number for name, field in DecideResponse.DESCRIPTOR.fields_by_name.items()}


class AnswerEncoder:
    """Encodes decisions of one use case."""

    def __init__(self) -> None:
        self._lists: dict[tuple[int, tuple[str, ...]], _NamedDoubles] = {}
        self._alike: dict[tuple[object, ...], bytes] = {}

    def encode(self, decision: Decided, *, features: bool = True) -> bytes:
        """The bytes of its `DecideResponse`."""
        case, stages, ages = decision.case, decision.stage_ms, decision.feature_age_ms
        parts = [
            _text(_DECISION_ID, decision.decision_id),
            _text(_REQUEST_ID, case.request_id),
            _SCORES.pack(_SCORE, decision.score, _LAG, decision.hydrated.lag_ms, _PROPENSITY, case.propensity),
            self._shared(decision),
            self._named(_STAGES, tuple(stages), stages.values()),
        ]
        if ages:
            parts.append(self._named(_AGES, tuple(ages), ages.values()))
        if features:
            parts.append(self._named(_FEATURES, decision.feature_names, decision.features))
        return b"".join(parts)

    def _shared(self, decision: Decided) -> bytes:
        """Fields that many answers have alike."""
        case = decision.case
        status = decision.feature_status
        key = (
            decision.action,
            decision.model_version,
            case.arm,
            case.why,
            case.step,
            decision.reasons,
            *status.items(),
        )
        found = self._alike.get(key)
        if found is None:
            message = DecideResponse(
                action=decision.action,
                model_version=decision.model_version,
                arm=case.arm,
                fallback=case.why,
                step=case.step,
                reasons=decision.reasons,
                feature_status=status,
            )
            if len(self._alike) >= _KEPT:
                self._alike.clear()
            found = self._alike[key] = message.SerializeToString()
        return found

    def _named(self, number: int, names: tuple[str, ...], values: Iterable[float]) -> bytes:
        encoder = self._lists.get((number, names))
        if encoder is None:
            if len(self._lists) >= _KEPT:
                self._lists.clear()
            encoder = self._lists[number, names] = _NamedDoubles(number, names)
        return encoder.encode(values)


class _NamedDoubles:
    """One field's messages or map entries, each a name and a double."""

    def __init__(self, number: int, names: Sequence[str]) -> None:
        inner = [_text(_tag(1, _BYTES), name) + _tag(2, _DOUBLE) for name in names]
        heads = [_tag(number, _BYTES) + encode_varint(len(each) + 8) + each for each in inner]
        self._packed = struct.Struct("<" + "".join(f"{len(head)}sd" for head in heads))
        self._parts: list[bytes | float] = [part for head in heads for part in (head, 0.0)]

    def encode(self, values: Iterable[float]) -> bytes:
        parts = self._parts.copy()
        parts[1::2] = values
        return self._packed.pack(*parts)


def _tag(number: int, kind: int) -> bytes:
    return encode_varint(number << 3 | kind)


def _text(tag: bytes, text: str) -> bytes:
    encoded = text.encode()
    length = len(encoded)
    return tag + (bytes((length,)) if length < 0x80 else encode_varint(length)) + encoded


_DECISION_ID = _tag(_NUMBERS["decision_id"], _BYTES)
_REQUEST_ID = _tag(_NUMBERS["request_id"], _BYTES)
_SCORE, _LAG, _PROPENSITY = (_tag(_NUMBERS[name], _DOUBLE) for name in ("score", "feature_lag_ms", "propensity"))
_SCORES = struct.Struct("<" + "".join(f"{len(tag)}sd" for tag in (_SCORE, _LAG, _PROPENSITY)))
_STAGES, _AGES, _FEATURES = (_NUMBERS[name] for name in ("stage_ms", "feature_age_ms", "features"))
