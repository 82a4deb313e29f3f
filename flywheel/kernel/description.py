"""What a declaration says about its features and events: the part of the feature catalogue that is known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flywheel.contracts.events import Event
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import duration_text
from flywheel.kernel.features import AttributeFeature, Feature, RequestFeature, WindowedFeature
from flywheel.kernel.fields import REQUEST
from flywheel.kernel.wording import conditions_text, length_text, meaning_of, step_text

_TIME = "event_time"
_TIME_INPUT = "event_time_us"


@dataclass(frozen=True)
class FieldDescription:
    """One field of an event. `read_by` are the features made of it or grouped by it."""

    name: str
    personal: bool
    read_by: tuple[str, ...]


@dataclass(frozen=True)
class EventDescription:
    """One event and its fields, its identity left out. `read_by` are the features over its windows."""

    name: str
    meaning: str
    is_request: bool
    fields: tuple[FieldDescription, ...]
    read_by: tuple[str, ...]


@dataclass(frozen=True)
class InputDescription:
    """What a request feature is computed from: another feature, or a field of the request."""

    name: str
    is_feature: bool


@dataclass(frozen=True)
class WindowDescription:
    """What a windowed feature covers. `length`, `step` and `delay` are for people; empty: no delay, no steps.

    `key` are the event's fields that hold the entity's id, `request_key` those of the request; `conditions` is empty
    where every event counts.
    """

    entity: str
    key: tuple[str, ...]
    request_key: tuple[str, ...]
    statistic: str
    event: str
    field: str
    length: str
    step: str
    delay: str
    conditions: str
    default: float
    """Value of a window without any event that contributes."""


@dataclass(frozen=True)
class AttributeDescription:
    """Where an attribute is loaded from. `valid_for` is for people; empty: it has no end."""

    entity: str
    key: tuple[str, ...]
    request_key: tuple[str, ...]
    table: str
    column: str
    valid_for: str
    default: float
    """Value where nothing valid is loaded."""


@dataclass(frozen=True)
class FeatureDescription:
    """One feature: over a `window`, an `attribute`, or, where both are None, computed at the request from `inputs`.

    `owner` is who answers for it, empty where nobody is named;
    `personal` names the personal fields behind it, `read_by` the features computed from it, `reasons` the reason
    codes that read it.
    """

    name: str
    meaning: str
    owner: str
    window: WindowDescription | None
    attribute: AttributeDescription | None
    inputs: tuple[InputDescription, ...]
    personal: tuple[str, ...]
    read_by: tuple[str, ...]
    reasons: tuple[str, ...]


def describe(usecase: UseCase) -> tuple[FeatureDescription, ...]:
    """Every feature of the use case, in the order of the declaration."""
    return tuple(
        FeatureDescription(
            name=feature.name,
            meaning=meaning_of(feature),
            owner=feature.owner or usecase.owner,
            window=_window(feature) if isinstance(feature, WindowedFeature) else None,
            attribute=_attribute(feature) if isinstance(feature, AttributeFeature) else None,
            inputs=tuple(_inputs(feature)),
            personal=tuple(sorted(_personal(usecase, feature))),
            read_by=tuple(other.name for other in usecase.at_request if feature.name in other.inputs),
            reasons=tuple(reason.code for reason in usecase.reasons if reason.feature == feature.name),
        )
        for feature in usecase.features
    )


def describe_events(usecase: UseCase) -> tuple[EventDescription, ...]:
    """Every event of the use case, in the order of the declaration."""
    return tuple(
        EventDescription(
            name=event.event_name,
            meaning=(event.__doc__ or "").strip().partition("\n")[0],
            is_request=event is usecase.request,
            fields=tuple(
                FieldDescription(name, name in event.personal_fields(), tuple(_readers(usecase, event, name)))
                for name in (_TIME, *(name for name in event.model_fields if name not in Event.model_fields))
            ),
            read_by=tuple(feature.name for feature in usecase.windowed if feature.event is event),
        )
        for event in usecase.events
    )


def _window(feature: WindowedFeature) -> WindowDescription:
    return WindowDescription(
        entity=feature.entity.name,
        key=feature.key_fields,
        request_key=feature.entity.request_keys,
        statistic=str(feature.statistic),
        event=feature.event.event_name,
        field=feature.field or "",
        length=duration_text(feature.window_us),
        step=step_text(feature),
        delay=length_text(feature.delay_us) if feature.delay_us else "",
        conditions=conditions_text(feature),
        default=feature.undefined,
    )


def _attribute(feature: AttributeFeature) -> AttributeDescription:
    return AttributeDescription(
        entity=feature.entity.name,
        key=feature.entity.keys,
        request_key=feature.entity.request_keys,
        table=feature.table,
        column=feature.column,
        valid_for="" if feature.valid_us is None else duration_text(feature.valid_us),
        default=feature.default,
    )


def _inputs(feature: Feature) -> Iterator[InputDescription]:
    if isinstance(feature, RequestFeature):
        for name in feature.inputs:
            field = name.removeprefix(REQUEST)
            yield InputDescription(_TIME if field == _TIME_INPUT else field, is_feature=not name.startswith(REQUEST))


def _personal(usecase: UseCase, feature: Feature) -> set[str]:
    """A feature computed from others is as personal as they are."""
    if isinstance(feature, WindowedFeature):
        return _fields_of(feature) & feature.event.personal_fields()
    if isinstance(feature, AttributeFeature):
        return {*feature.entity.request_keys} & usecase.request.personal_fields()
    declared = {other.name: other for other in usecase.features}
    found = {name.removeprefix(REQUEST) for name in feature.inputs} & usecase.request.personal_fields()
    return found.union(*(_personal(usecase, declared[name]) for name in feature.inputs if name in declared))


def _readers(usecase: UseCase, event: type[Event], field: str) -> Iterator[str]:
    asked = REQUEST + (_TIME_INPUT if field == _TIME else field)
    for feature in usecase.features:
        if isinstance(feature, RequestFeature):
            if event is usecase.request and asked in feature.inputs:
                yield feature.name
        elif isinstance(feature, AttributeFeature):
            if event is usecase.request and field in feature.entity.request_keys:
                yield feature.name
        elif feature.event is event and field in _fields_of(feature):
            yield feature.name


def _fields_of(feature: WindowedFeature) -> set[str]:
    conditions = (condition.field for condition in feature.conditions)
    return {*feature.key_fields, *conditions, *([feature.field] if feature.field else [])}
