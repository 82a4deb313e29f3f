"""Deploying by hand: what is refused, what the log says afterwards, what is shown."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.client.commands import main
from flywheel.client.deployments import Deployments, Wanted
from flywheel.client.errors import ClientError
from flywheel.contracts.models import Deployment, Role
from flywheel.contracts.training import GateResult
from flywheel.kernel.deployment import Author
from flywheel.kernel.rollout import Rollout
from tests.ranking_declaration import USECASE as RANKING
from tests.serving_parts import USECASE, publish

PASSED = (GateResult(name="onnx_parity", passed=True, value=0.0, demand="<= 1e-5"),)
FAILED = (GateResult(name="score_ms", passed=False, value=90.0, demand="<= 15"),)
AUTHOR = Author("somebody", datetime(2026, 11, 1, tzinfo=UTC), "because")


@pytest.fixture
def store() -> MemoryModelStore:
    made = MemoryModelStore()
    for version in ("v1", "v2", "v3"):
        publish(made, version, gates=PASSED)
    publish(made, "slow", gates=FAILED)
    publish(made, "unmeasured", gates=())
    publish(made, "foreign", gates=PASSED, feature_fingerprint="0" * 16)
    return made


@pytest.fixture
def deployments(store: MemoryModelStore) -> Deployments:
    made = Deployments(USECASE, store)
    made.deploy(Wanted("v1", Role.CHAMPION), AUTHOR)
    return made


def test_each_role_is_given_with_its_declared_share(deployments: Deployments) -> None:
    deployments.deploy(Wanted("v2", Role.CHALLENGER), AUTHOR)
    deployments.deploy(Wanted("slow", Role.SHADOW), AUTHOR)
    found = deployments.deploy(Wanted("v3", Role.CANARY), AUTHOR)
    assert (found.champion, found.challenger, found.canary, found.shadow) == ("v1", "v2", "v3", "slow")
    assert (found.challenger_share, found.canary_share) == (USECASE.experiment.challenger_share, 0.01)
    assert (found.deployed_by, found.reason, found.sequence) == ("somebody", "because", 4)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Wanted("v9", Role.CANARY), "there is no model 'v9'; there are: .*v1, v2"),
        (Wanted("slow", Role.CANARY), "did not pass its gates .score_ms."),
        (Wanted("unmeasured", Role.CHAMPION), "never measured"),
        (Wanted("foreign", Role.SHADOW), "other features"),
        (Wanted("v1", Role.CHAMPION), "is the champion already"),
        (Wanted("v1", Role.SHADOW), "cannot be champion and shadow"),
        (Wanted("v2", Role.SHADOW, 0.1), "a shadow has no share"),
        (Wanted("v2", Role.CHALLENGER, 1.5), "not within 0 and 1"),
        (Wanted("v2", Role.CANARY, 0.3), "one of the declared steps: 0.01, 0.05, 0.25"),
    ],
)
def test_what_would_not_mean_what_it_says_is_refused(
    deployments: Deployments, store: MemoryModelStore, wanted: Wanted, why: str
) -> None:
    with pytest.raises(ClientError, match=why):
        deployments.deploy(wanted, AUTHOR)
    assert len(store.deployments("fraud")) == 1


def test_a_canary_beside_too_large_a_challenger_is_refused(store: MemoryModelStore) -> None:
    widely = dataclasses.replace(USECASE, rollout=Rollout(steps=(0.01, 0.5, 1.0)))
    deployments = Deployments(widely, store)
    for wanted in (Wanted("v1", Role.CHAMPION), Wanted("v2", Role.CHALLENGER, 0.6)):
        deployments.deploy(wanted, AUTHOR)
    with pytest.raises(ClientError, match="110% of the units"):
        deployments.deploy(Wanted("v3", Role.CANARY, 0.5), AUTHOR)


def test_a_ranking_has_no_shadow(store: MemoryModelStore) -> None:
    ranking = dataclasses.replace(RANKING, name=USECASE.name)
    publish(store, "ranker", gates=PASSED, feature_fingerprint=ranking.fingerprint)
    deployments = Deployments(ranking, store)
    with pytest.raises(ClientError, match="a shadow is run beside single decisions only"):
        deployments.deploy(Wanted("ranker", Role.SHADOW), AUTHOR)


def test_without_a_champion_there_is_nothing_to_stand_beside(store: MemoryModelStore) -> None:
    with pytest.raises(ClientError, match="no champion yet"):
        Deployments(USECASE, store).deploy(Wanted("v1", Role.CANARY), AUTHOR)


def test_gates_can_be_overruled_and_the_log_says_by_whom(deployments: Deployments) -> None:
    found = deployments.deploy(Wanted("slow", Role.CHAMPION, despite_gates=True), AUTHOR)
    assert (found.champion, found.deployed_by) == ("slow", "somebody")


def test_a_rollback_goes_to_the_champion_before(deployments: Deployments) -> None:
    deployments.deploy(Wanted("v2", Role.CHAMPION), AUTHOR)
    deployments.deploy(Wanted("v3", Role.CANARY), AUTHOR)
    assert deployments.roll_back(AUTHOR).withdrawn == "v3"
    assert deployments.roll_back(AUTHOR).champion == "v1"
    with pytest.raises(ClientError, match="no champion before"):
        deployments.roll_back(AUTHOR)
    assert "v2          withdrawn" in deployments.overview()


def test_what_was_withdrawn_comes_back_as_a_shadow_or_on_purpose_only(deployments: Deployments) -> None:
    deployments.deploy(Wanted("v2", Role.CANARY), AUTHOR)
    deployments.roll_back(Author("monitor", AUTHOR.at, "declines crossed 0.02"))
    for role in (Role.CANARY, Role.CHALLENGER, Role.CHAMPION):
        with pytest.raises(ClientError, match=r"by monitor on 2026-11-01 00:00 UTC \(declines crossed 0.02\).*--again"):
            deployments.deploy(Wanted("v2", role), AUTHOR)
    assert deployments.deploy(Wanted("v2", Role.SHADOW), AUTHOR).shadow == "v2"
    assert deployments.deploy(Wanted("v2", Role.CANARY, again=True), AUTHOR).canary == "v2"
    # A step of what runs already needs no second word.
    assert deployments.deploy(Wanted("v2", Role.CANARY, 0.25), AUTHOR).canary_share == 0.25


def test_who_loses_a_role_by_a_deployment_is_named(store: MemoryModelStore) -> None:
    said: list[str] = []
    deployments = Deployments(USECASE, store, said.append)
    deployments.deploy(Wanted("v1", Role.CHAMPION), AUTHOR)
    deployments.deploy(Wanted("v2", Role.CHALLENGER, 0.2), AUTHOR)
    deployments.deploy(Wanted("v2", Role.CANARY, 0.05), AUTHOR)
    deployments.deploy(Wanted("v2", Role.CHALLENGER, 0.2), AUTHOR)
    assert said == []
    deployments.deploy(Wanted("v3", Role.CHALLENGER, 0.1), AUTHOR)
    deployments.deploy(Wanted("v2", Role.CANARY, 0.05), AUTHOR)
    deployments.deploy(Wanted("slow", Role.CHAMPION, despite_gates=True), AUTHOR)
    assert said == ["this ends challenger v2 for 0.2", "this ends champion v1 and canary v2 for 0.05"]


def test_the_overview_ends_with_what_was_deployed_last_and_why(deployments: Deployments) -> None:
    deployments.deploy(Wanted("v2", Role.CANARY), AUTHOR)
    deployments.roll_back(Author("monitor", AUTHOR.at, "declines crossed 0.02"))
    newest, second, oldest = deployments.overview().splitlines()[-3:]
    assert (
        " ".join(newest.split()) == "3 2026-11-01 00:00 monitor no canary any more, withdrawn v2 declines crossed 0.02"
    )
    assert " ".join(second.split()) == "2 2026-11-01 00:00 somebody canary v2 for 0.01 because"
    assert " ".join(oldest.split()) == "1 2026-11-01 00:00 somebody champion v1 because"
    for version in ("v2", "v1") * 6:
        deployments.deploy(Wanted(version, Role.CHAMPION, again=True), AUTHOR)
    numbers = [line.split()[0] for line in deployments.overview().split("reason\n")[-1].splitlines()]
    assert numbers == [str(number) for number in range(15, 7, -1)]


def test_a_rollback_says_withdrawn_only_where_something_was(deployments: Deployments) -> None:
    with pytest.raises(ClientError, match=r"no champion before v1$"):
        deployments.roll_back(AUTHOR)
    deployments.deploy(Wanted("v2", Role.CHAMPION), AUTHOR)
    deployments.roll_back(AUTHOR)
    with pytest.raises(ClientError, match=r"no champion before v1 that was not withdrawn$"):
        deployments.roll_back(AUTHOR)


def test_the_loser_of_two_at_once_is_told() -> None:
    class Behind(MemoryModelStore):
        def deployments(self, usecase: str) -> list[Deployment]:
            return [entry.model_copy(update={"sequence": 0}) for entry in super().deployments(usecase)]

    behind = Behind()
    for version in ("v1", "v2"):
        publish(behind, version, gates=PASSED)
    deployments = Deployments(USECASE, behind)
    deployments.deploy(Wanted("v1", Role.CHAMPION), AUTHOR)
    with pytest.raises(ClientError, match="somebody else deployed"):
        deployments.deploy(Wanted("v2", Role.CHAMPION), AUTHOR)


def test_the_commands_work_on_the_model_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileModelStore(tmp_path / "data" / "models")
    for version in ("v1", "v2"):
        publish(store, version, gates=PASSED)
    for command in (
        ["deploy", "fraud", "v1"],
        ["deploy", "fraud", "v2", "--role", "canary", "--share", "0.05"],
        ["models", "fraud"],
    ):
        assert main(command) == 0
    shown = capsys.readouterr().out
    assert "v2       canary" in shown
    assert "champion v1, canary v2 for 0.05" in shown
    assert main(["rollback", "fraud"]) == 0
    assert "withdrawn v2" in capsys.readouterr().out
    assert main(["deploy", "fraud", "v7"]) == 1
    assert "there is no model 'v7'" in capsys.readouterr().err
    (tmp_path / "data" / "models" / "fraud" / "deployments.jsonl").write_text("{")
    assert main(["models", "fraud"]) == 1
    said = capsys.readouterr().err
    assert "the deployment log cannot be read" in said
    assert said.count("\n") == 1
