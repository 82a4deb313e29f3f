"""Finds use cases: every package below `usecases` that exposes `usecase`. Nothing lists them."""

from __future__ import annotations

import importlib
import pkgutil

from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import InvalidDeclaration


def names() -> tuple[str, ...]:
    """Names of all use cases, sorted."""
    package = importlib.import_module("usecases")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg))


def load(name: str) -> UseCase:
    """The declaration of that name. Raises InvalidDeclaration when there is none, naming those there are."""
    if name not in names():
        raise InvalidDeclaration(f"there is no use case {name!r}; there are: {', '.join(names())}")
    found = importlib.import_module(f"usecases.{name}").usecase
    if not isinstance(found, UseCase) or found.name != name:
        raise InvalidDeclaration(f"usecases.{name} must expose `usecase`, a UseCase named {name!r}")
    return found
