"""Dashboards as Grafana reads them: JSON of the classic schema, laid out on its grid of 24 columns."""

from __future__ import annotations

from collections.abc import Iterator

from infra.observability.dashboards.panels import Dashboard, Panel, Query, Row

Json = dict[str, object]

DATASOURCE: Json = {"type": "prometheus", "uid": "flywheel-prometheus"}
TAG = "flywheel"
_SCHEMA_VERSION = 39
_COLUMNS = 24
_HEIGHT = {"lines": 8, "stacked": 8, "number": 4, "table": 8}
_TYPE = {"lines": "timeseries", "stacked": "timeseries", "number": "stat", "table": "table"}


def document(dashboard: Dashboard) -> Json:
    """The whole dashboard."""
    return {
        "uid": f"flywheel-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.question,
        "tags": [TAG],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "links": [_LINKS],
        "templating": {"list": [_USECASE]},
        "annotations": {"list": [_ALERTS, _MODELS]},
        "panels": list(_laid_out(dashboard.rows)),
    }


def _laid_out(rows: tuple[Row, ...]) -> Iterator[Json]:
    number, top = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
            "panels": [],
        }
        number, top, left, highest = number + 1, top + 1, 0, 0
        for panel in row.panels:
            height = _HEIGHT[panel.kind]
            if left + panel.width > _COLUMNS:
                top, left, highest = top + highest, 0, 0
            yield _panel(panel, number, {"h": height, "w": panel.width, "x": left, "y": top})
            number, left, highest = number + 1, left + panel.width, max(highest, height)
        top += highest


def _panel(panel: Panel, number: int, place: Json) -> Json:
    return {
        "id": number,
        "type": _TYPE[panel.kind],
        "title": panel.title,
        "description": panel.meaning,
        "gridPos": place,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(panel, query, chr(ord("A") + index)) for index, query in enumerate(panel.queries)],
        **({"transformations": [_WITHOUT_TIME]} if panel.kind == "table" else {}),
    }


def _target(panel: Panel, query: Query, reference: str) -> Json:
    at_once = panel.kind == "table"
    return {
        "refId": reference,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or panel.title,
        "instant": at_once,
        "range": not at_once,
        "format": "table" if at_once else "time_series",
        "editorMode": "code",
    }


def _defaults(panel: Panel) -> Json:
    colour = {"mode": "palette-classic" if panel.kind in ("lines", "stacked") else "thresholds"}
    limits = {"max": panel.most} if panel.most is not None else {}
    return {
        "unit": panel.shown_unit,
        "color": colour,
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        **limits,
        **({"custom": _drawn(panel)} if panel.kind in ("lines", "stacked") else {}),
    }


def _steps(panel: Panel) -> list[Json]:
    """Colours from the lowest value up."""
    marks = {"orange": panel.warn, "red": panel.alarm}
    given = {colour: mark for colour, mark in marks.items() if mark is not None}
    if panel.warn is not None and panel.alarm is not None and panel.alarm < panel.warn:
        return [_step("red", None), _step("orange", panel.alarm), _step("green", panel.warn)]
    return [_step("green", None), *(_step(colour, mark) for colour, mark in given.items())]


def _step(colour: str, mark: float | None) -> Json:
    return {"color": colour, "value": mark}


def _drawn(panel: Panel) -> Json:
    stacked = panel.kind == "stacked"
    marked = panel.warn is not None or panel.alarm is not None
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if marked else "off"},
    }


_LINES: Json = {
    "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_OPTIONS: dict[str, Json] = {
    "lines": _LINES,
    "stacked": _LINES,
    "number": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
        "orientation": "auto",
        "justifyMode": "auto",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
_WITHOUT_TIME: Json = {"id": "organize", "options": {"excludeByName": {"Time": True}}}
_LINKS: Json = {
    "type": "dashboards",
    "title": "Flywheel",
    "tags": [TAG],
    "asDropdown": False,
    "icon": "external link",
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "",
    "url": "",
}
_USECASE: Json = {
    "name": "usecase",
    "label": "use case",
    "type": "query",
    "datasource": DATASOURCE,
    "definition": "label_values(flywheel_serving_admission_limit, usecase)",
    "query": {"query": "label_values(flywheel_serving_admission_limit, usecase)", "refId": "usecase"},
    "refresh": 2,
    "sort": 1,
    "includeAll": True,
    "multi": False,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all", "selected": True},
    "options": [],
    "hide": 0,
    "regex": "",
    "skipUrlSync": False,
}
_ALERTS: Json = {
    "name": "alerts",
    "enable": True,
    "iconColor": "red",
    "datasource": DATASOURCE,
    "expr": 'ALERTS{alertstate="firing"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{severity}} {{usecase}} {{job}}",
    "step": "15s",
}
_MODELS: Json = {
    "name": "models",
    "enable": True,
    "iconColor": "blue",
    "datasource": DATASOURCE,
    "expr": 'flywheel_serving_model_loaded{usecase=~"$usecase"} unless flywheel_serving_model_loaded offset 15s',
    "titleFormat": "{{role}} {{version}}",
    "textFormat": "{{usecase}}",
    "step": "15s",
}
