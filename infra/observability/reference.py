"""The tables of docs/metrics.md and docs/observability.md, made from the declarations.

A table stands between `<!-- metrics: <part> -->` and `<!-- /metrics -->`, the objectives between
`<!-- objectives -->` and `<!-- /objectives -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.observability.declared import Fact, facts
from infra.observability.objectives import objectives

_TABLE = re.compile(r"(<!-- metrics: (?P<part>[a-z]+) -->\n).*?(<!-- /metrics -->)", re.DOTALL)
_OBJECTIVES = re.compile(r"(<!-- objectives -->\n).*?(<!-- /objectives -->)", re.DOTALL)


def parts() -> tuple[str, ...]:
    """Those who have metrics, in the order of their declaration."""
    return tuple(dict.fromkeys(fact.part for fact in facts().values()))


def listed(text: str) -> tuple[str, ...]:
    """The parts that a page has a table for."""
    return tuple(match["part"] for match in _TABLE.finditer(text))


def rendered(text: str) -> str:
    """The page with every table made anew."""
    with_metrics = _TABLE.sub(lambda match: _filled(match, _of_part(match["part"])), text)
    return _OBJECTIVES.sub(lambda match: _filled(match, _of_objectives()), with_metrics)


def _filled(match: re.Match[str], rows: Iterator[str]) -> str:
    return match[1] + "\n".join(rows) + "\n" + match[match.lastindex or 0]


def _of_part(part: str) -> Iterator[str]:
    yield "| metric | kind | labels | meaning |"
    yield "| --- | --- | --- | --- |"
    for fact in facts().values():
        if fact.part == part:
            yield f"| `{fact.name}` | {_kind(fact)} | {', '.join(fact.labels) or '–'} | {fact.meaning} |"


def _kind(fact: Fact) -> str:
    return f"{fact.kind}, {fact.unit}" if fact.unit else fact.kind


def _of_objectives() -> Iterator[str]:
    yield "| objective | what is good | share of 30 days |"
    yield "| --- | --- | --- |"
    for each in objectives():
        yield f"| {each.name} | {each.meaning} | {each.share:.1%} |"
