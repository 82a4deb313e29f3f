"""The check of an image finds what does not import, and looks at everything that the part can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.images.imports import failures, main, modules_of


def test_a_service_runs_its_modules_and_the_declarations() -> None:
    names = set(modules_of("serving"))
    assert {"services.serving.__main__", "services.serving.workers.worker", "usecases.fraud"} <= names
    assert not any(name.startswith(("services.features", "flywheel.client")) for name in names)
    assert "usecases.fraud.world" not in names


def test_the_client_plays_worlds_and_makes_topics() -> None:
    assert {"flywheel.client.commands", "usecases.fraud.world", "infra.local.topics"} <= set(modules_of("client"))


def test_load_tests_begin_at_their_command() -> None:
    own = {"loadtests.__main__", "loadtests.sampler"}
    assert own | {"usecases.fraud", "usecases.fraud.world"} == set(modules_of("loadtest"))


def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'nope' is none of ingest"):
        list(modules_of("nope"))


def test_every_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_here.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "worse_here.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert failures(["json", "broken_here", "worse_here"]) == [
        "broken_here: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        "worse_here: RuntimeError: no",
    ]


def test_the_check_fails_when_one_module_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.images.imports.modules_of", lambda _: iter(["json", "nowhere_to_be_found"]))
    assert main("serving") == 1
    monkeypatch.setattr("infra.images.imports.modules_of", lambda _: iter(["json"]))
    assert main("serving") == 0
