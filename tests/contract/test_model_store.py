"""Every model store keeps versions whole and gives each place in the deployment log to one winner."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.contracts.models import Component, Deployment, Histogram, ModelManifest
from flywheel.contracts.training import GateResult
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.ports import CorruptModel, ModelStore

AT = datetime(2018, 6, 1, tzinfo=UTC)
MODEL = b"\x00the bytes of a model\xff"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    return MemoryModelStore() if request.param == "memory" else FileModelStore(tmp_path / "models")


def manifest(version: str = "v1", model: bytes = MODEL, usecase: str = "fraud") -> ModelManifest:
    return ModelManifest(
        usecase=usecase,
        version=version,
        algorithm="lightgbm",
        created_at=AT,
        feature_names=("amount", "count"),
        feature_fingerprint="0123456789abcdef",
        digest=digest_of(model),
        snapshot_id="s1",
        code_commit="unknown",
        trained_until=AT,
        metrics={"average_precision": 0.7},
        gates=(GateResult(name="parity", passed=True, value=1e-7, demand="<= 1e-5"),),
        reference={"amount": Histogram(edges=(1.0, 2.0), counts=(3, 4, 5), missing=1)},
        score_reference=Histogram(edges=(0.5,), counts=(9, 1)),
        golden_inputs=((1.0, 2.0),),
        golden_scores=(0.25,),
        mlflow_run_id="run",
    )


def deployment(sequence: int, champion: str = "v1") -> Deployment:
    return Deployment(
        sequence=sequence,
        usecase="fraud",
        deployed_at=AT,
        deployed_by="test",
        reason="because",
        champion=champion,
        challenger="v0",
        challenger_share=0.2,
        salt=f"salt{sequence}",
    )


def test_a_published_version_comes_back_whole(store: ModelStore) -> None:
    store.publish(manifest(), MODEL)
    found, model = store.load("fraud", "v1")
    assert model == MODEL
    assert found.model_dump_json() == manifest().model_dump_json()


def test_publishing_the_same_again_is_harmless(store: ModelStore) -> None:
    store.publish(manifest(), MODEL)
    store.publish(manifest(), MODEL)
    assert store.load("fraud", "v1")[1] == MODEL


def test_a_version_is_never_overwritten(store: ModelStore) -> None:
    store.publish(manifest(), MODEL)
    with pytest.raises(ValueError, match="published already"):
        store.publish(manifest(model=b"other"), b"other")
    assert store.load("fraud", "v1")[1] == MODEL


def test_a_model_that_is_not_what_its_manifest_says_is_not_taken(store: ModelStore) -> None:
    with pytest.raises(ValueError, match="digest"):
        store.publish(manifest(), MODEL + b"!")
    with pytest.raises(KeyError):
        store.load("fraud", "v1")


@pytest.mark.parametrize(("usecase", "version"), [("fraud", "v2"), ("other", "v1")])
def test_an_unknown_version_is_a_key_error(store: ModelStore, usecase: str, version: str) -> None:
    store.publish(manifest(), MODEL)
    with pytest.raises(KeyError):
        store.load(usecase, version)


def test_published_versions_are_listed_by_use_case(store: ModelStore) -> None:
    assert store.versions("fraud") == []
    for version, usecase in (("v2", "fraud"), ("v1", "fraud"), ("v9", "other")):
        store.publish(manifest(version, usecase=usecase), MODEL)
    store.deploy(deployment(1))
    assert store.versions("fraud") == ["v1", "v2"]
    assert store.versions("other") == ["v9"]


BUNDLE = {"calibrator": b"calibrates", "retrieval": b"retrieves"}


def bundle() -> ModelManifest:
    attached = tuple(Component(name=name, digest=digest_of(content)) for name, content in BUNDLE.items())
    return manifest().model_copy(update={"attached": attached})


def test_a_bundle_comes_back_part_by_part(store: ModelStore) -> None:
    store.publish(bundle(), MODEL, BUNDLE)
    assert store.load("fraud", "v1") == (bundle(), MODEL)
    parts = {part.name: store.component("fraud", "v1", part.name) for part in bundle().components}
    assert parts == {"model": MODEL, **BUNDLE}
    with pytest.raises(KeyError):
        store.component("fraud", "v1", "reranker")


@pytest.mark.parametrize("given", [{}, {**BUNDLE, "more": b""}, {**BUNDLE, "calibrator": b"another"}])
def test_a_bundle_that_is_not_what_its_manifest_says_is_not_taken(store: ModelStore, given: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"consists of|do not match"):
        store.publish(bundle(), MODEL, given)
    assert store.versions("fraud") == []


def test_a_name_is_given_once_in_a_bundle(store: ModelStore) -> None:
    twice = manifest().model_copy(update={"attached": (Component(name="model", digest=digest_of(b"")),)})
    with pytest.raises(ValueError, match="one name"):
        store.publish(twice, MODEL, {"model": b""})


def test_a_manifest_of_a_single_model_is_read_as_it_was_written_before_there_were_bundles(store: ModelStore) -> None:
    store.publish(manifest(), MODEL)
    old = manifest().model_dump(mode="json", exclude={"attached", "variant_of"})
    assert ModelManifest.model_validate(old) == store.load("fraud", "v1")[0]
    assert [part.name for part in manifest().components] == ["model"]
    earlier = {"canary", "canary_share", "shadow", "withdrawn"}
    assert Deployment.model_validate(deployment(1).model_dump(mode="json", exclude=earlier)) == deployment(1)


def test_a_deployment_that_contradicts_itself_is_refused(store: ModelStore) -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        store.deploy(deployment(1).model_copy(update={"challenger_share": 1.5}))
    assert store.deployments("fraud") == []


def test_the_log_starts_empty_and_keeps_every_deployment_in_order(store: ModelStore) -> None:
    assert store.current("fraud") is None
    assert store.deployments("fraud") == []
    store.deploy(deployment(1))
    store.deploy(deployment(2, champion="v2"))
    assert store.deployments("fraud") == [deployment(1), deployment(2, champion="v2")]
    assert store.current("fraud") == deployment(2, champion="v2")
    assert store.current("other") is None


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_a_deployment_out_of_turn_is_refused(store: ModelStore, sequence: int) -> None:
    store.deploy(deployment(1))
    with pytest.raises(ValueError, match="number 2"):
        store.deploy(deployment(sequence, champion="late"))
    assert store.deployments("fraud") == [deployment(1)]


def test_of_deployments_at_once_one_wins(store: ModelStore) -> None:
    together, won, lost = threading.Barrier(8), [], []

    def promote(name: str) -> None:
        together.wait()
        try:
            store.deploy(deployment(1, champion=name))
            won.append(name)
        except ValueError:
            lost.append(name)

    threads = [threading.Thread(target=promote, args=(f"v{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert [entry.champion for entry in store.deployments("fraud")] == won


class TestFiles:
    """What only files can suffer."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        FileModelStore(tmp_path).publish(manifest(), MODEL)
        return tmp_path / "fraud" / "v1"

    def load(self, home: Path) -> bytes:
        return FileModelStore(home.parent.parent).load("fraud", "v1")[1]

    def test_another_process_sees_what_was_published(self, home: Path) -> None:
        assert self.load(home) == MODEL

    @pytest.mark.parametrize("damaged", [MODEL[:-1], b"", bytes([MODEL[0] ^ 1]) + MODEL[1:]])
    def test_a_damaged_model_is_refused(self, home: Path, damaged: bytes) -> None:
        (home / "model.onnx").write_bytes(damaged)
        with pytest.raises(CorruptModel):
            self.load(home)

    @pytest.mark.parametrize("damaged", [None, b"calibrate"])
    def test_a_damaged_or_missing_part_of_a_bundle_is_corruption(self, tmp_path: Path, damaged: bytes | None) -> None:
        store = FileModelStore(tmp_path)
        store.publish(bundle(), MODEL, BUNDLE)
        file = tmp_path / "fraud" / "v1" / "calibrator.onnx"
        file.unlink() if damaged is None else file.write_bytes(damaged)
        with pytest.raises(CorruptModel, match="calibrator"):
            store.component("fraud", "v1", "calibrator")
        assert store.component("fraud", "v1", "retrieval") == b"retrieves"

    @pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
    def test_a_missing_file_is_corruption(self, home: Path, name: str) -> None:
        (home / name).unlink()
        with pytest.raises(CorruptModel, match=name):
            self.load(home)

    def test_a_manifest_cut_off_is_corruption(self, home: Path) -> None:
        whole = (home / "manifest.json").read_bytes()
        (home / "manifest.json").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptModel):
            self.load(home)

    def test_a_manifest_of_another_version_is_corruption(self, home: Path) -> None:
        (home / "manifest.json").write_text(manifest("v7").model_dump_json())
        with pytest.raises(CorruptModel, match="v7"):
            self.load(home)

    @pytest.mark.parametrize("version", ["../v1", "a/b", ".hidden", "", ".."])
    def test_a_name_cannot_leave_the_store(self, home: Path, version: str) -> None:
        store = FileModelStore(home.parent.parent)
        with pytest.raises(KeyError):
            store.load("fraud", version)
        with pytest.raises(KeyError):
            store.publish(manifest(version), MODEL)

    def test_a_draft_of_a_writer_that_died_is_no_version(self, home: Path) -> None:
        (home.parent / ".draft-x").mkdir()
        assert FileModelStore(home.parent.parent).versions("fraud") == ["v1"]

    def test_nothing_is_left_lying_about(self, home: Path) -> None:
        store = FileModelStore(home.parent.parent)
        store.deploy(deployment(1))
        assert {path.name for path in home.parent.iterdir()} == {"v1", "deployments.jsonl", ".deployments.lock"}
