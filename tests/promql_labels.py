"""What labels the result of a PromQL expression has, found from its syntax; refuses what cannot give a result.

A name that is not scraped, a matcher or grouping by a label that is not there, two sides that never match: Prometheus
takes all of these and answers with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import promql_parser as promql

Labels = frozenset[str]
_SCRAPED = frozenset({"job", "instance"})
_CLIENT = _SCRAPED | {"worker"}
FOREIGN: Mapping[str, Labels] = {
    "up": _SCRAPED,
    "ALERTS": _SCRAPED | {"alertname", "alertstate", "severity", "slo", "usecase"},
    "process_resident_memory_bytes": _CLIENT,
    "process_cpu_seconds_total": _CLIENT,
    "process_start_time_seconds": _CLIENT,
}
"""What Prometheus itself and its client add."""
_UNION = frozenset({"or", "and", "unless"})
_KEEPING = frozenset({"topk", "bottomk"})


def values(text: str) -> set[tuple[str, str, str]]:
    """What an expression compares labels with: series, label and value, each alternative by itself."""
    found: set[tuple[str, str, str]] = set()

    def visit(node: object) -> bool:
        # A range is not a child of its own: its selector is told with it.
        selector = node.vector_selector if isinstance(node, promql.MatrixSelector) else node
        if isinstance(selector, promql.VectorSelector):
            for matcher in selector.matchers.matchers:
                found.update((selector.name or "", matcher.name, value) for value in matcher.value.split("|"))
        return True

    promql.walk(promql.parse(text), visit)
    return found


class CannotMatch(Exception):
    """The expression can give no result; the message says where."""


class LabelCheck:
    """Knows every series by name, each with its labels as they were declared."""

    def __init__(self, known: Mapping[str, Labels], recorded: Mapping[str, Labels]) -> None:
        self._known = {**FOREIGN, **{name: labels | _CLIENT for name, labels in known.items()}, **recorded}

    def labels(self, text: str) -> Labels:
        """Labels that the result may have. Raises CannotMatch, or ValueError for what is no PromQL."""
        return self._of(promql.parse(text))

    def _of(self, node: object) -> Labels:
        match node:
            case promql.VectorSelector():
                return self._selected(node)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.BinaryExpr():
                return self._combined(node)
            case promql.Call():
                return self._called(node)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._of(node.expr)
            case promql.NumberLiteral() | promql.StringLiteral():
                return frozenset()
        raise CannotMatch(f"{type(node).__name__} is not known here")

    def _selected(self, selector: promql.VectorSelector) -> Labels:
        name = selector.name or ""
        if name not in self._known:
            raise CannotMatch(f"nobody exposes {name}")
        self._need({matcher.name for matcher in selector.matchers.matchers}, self._known[name], f"matchers of {name}")
        return self._known[name]

    def _aggregated(self, node: promql.AggregateExpr) -> Labels:
        inner = self._of(node.expr)
        named = frozenset(node.modifier.labels) if node.modifier else frozenset()
        self._need(named, inner, f"labels of {node.op}")
        if str(node.op) in _KEEPING:
            return inner
        without = node.modifier is not None and node.modifier.type == promql.AggModifierType.Without
        return inner - named if without else named

    def _combined(self, node: promql.BinaryExpr) -> Labels:
        left, right = self._of(node.lhs), self._of(node.rhs)
        if isinstance(node.lhs, promql.NumberLiteral) or isinstance(node.rhs, promql.NumberLiteral):
            return left | right
        if str(node.op) == "or":
            return left | right
        matching = node.modifier.matching if node.modifier else None
        if matching is not None:
            self._need(set(matching.labels), left & right, f"on () of {node.op}")
        elif left != right and left and right:
            raise CannotMatch(f"the sides of {node.op} differ by {', '.join(sorted(left ^ right))}")
        return left if str(node.op) in _UNION or left else right

    def _called(self, node: promql.Call) -> Labels:
        inner: Labels = frozenset().union(*map(self._of, node.args))
        if node.func.name == "histogram_quantile":
            self._need({"le"}, inner, "buckets of histogram_quantile")
            return inner - {"le"}
        return inner

    @staticmethod
    def _need(wanted: set[str] | Labels, there: Labels, where: str) -> None:
        if missing := wanted - there:
            raise CannotMatch(f"{where}: there is no {', '.join(sorted(missing))}")
