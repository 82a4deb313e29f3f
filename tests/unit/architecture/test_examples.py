"""Every example in a docstring is executed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import flywheel
import loadtests


def modules() -> list[str]:
    packages = ("flywheel.contracts.", "flywheel.kernel.", "loadtests.")
    found = [
        module.name
        for package in (flywheel, loadtests)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [name for name in found if name.startswith(packages) and "_pb2" not in name]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in modules()) > 5
