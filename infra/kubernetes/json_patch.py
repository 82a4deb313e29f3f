"""JSON Patch (RFC 6902): the operations that the manifests use."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any


class PatchFailed(Exception):
    """The document is not as the patch takes it to be."""


def patched(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """A copy of the document after all operations, `add`, `replace` and `remove`. Raises PatchFailed.

    >>> patched({"a": [1, 2]}, [{"op": "add", "path": "/a/-", "value": 3}, {"op": "remove", "path": "/a/0"}])
    {'a': [2, 3]}
    """
    changed = copy.deepcopy(document)
    for operation in operations:
        *way, last = [_unescaped(part) for part in operation["path"].split("/")[1:]]
        parent = changed
        for part in way:
            parent = _child(parent, part, operation["path"])
        _apply(parent, last, operation)
    return changed


def _apply(parent: Any, last: str, operation: Mapping[str, Any]) -> None:
    what, path = operation["op"], operation["path"]
    if what not in ("add", "replace", "remove"):
        raise PatchFailed(f"{what} is not known here")
    if what != "add":
        _child(parent, last, path)
    value = copy.deepcopy(operation.get("value"))
    if isinstance(parent, list):
        place = len(parent) if last == "-" else int(last)
        parent[place : place + (what != "add")] = [] if what == "remove" else [value]
    elif what == "remove":
        del parent[last]
    else:
        parent[last] = value


def _child(parent: Any, part: str, path: str) -> Any:
    try:
        return parent[int(part)] if isinstance(parent, list) else parent[part]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise PatchFailed(f"there is nothing at {path}") from error


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
