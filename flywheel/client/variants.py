"""Publishes a smaller form of a model as a version of its own, if it decides as the model does."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.adapters.onnx_variants import NothingGained, VariantKind, smaller
from flywheel.client.errors import ClientError
from flywheel.contracts.models import ModelManifest
from flywheel.contracts.training import GateResult
from flywheel.kernel.declaration import CostPolicy, UseCase
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.ports import CorruptModel, ModelStore
from flywheel.kernel.variants import Tolerance, judge_variant

_AMOUNT_QUANTILES = (0.1, 0.5, 0.9)


def publish_variant(
    usecase: UseCase, store: ModelStore, version: str, kind: VariantKind, tolerance: Tolerance, now: datetime
) -> ModelManifest:
    """The manifest of the version `<version>-<kind>`, published without a role. Raises ClientError.

    It keeps its model's gates and adds its own; one that fails them is not published.
    """
    try:
        manifest, model = store.load(usecase.name, version)
    except (KeyError, CorruptModel) as error:
        raise ClientError(f"there is no sound model {version!r}: {error}") from error
    if manifest.attached:
        raise ClientError(f"{version} is a bundle; make its parts smaller where they are made")
    try:
        small = smaller(model, kind)
    except NothingGained as error:
        raise ClientError(f"nothing is gained by {kind} for {version}: {error}") from error
    gates = _judged(usecase, manifest, model, small, tolerance)
    if not all(gate.passed for gate in gates):
        raise ClientError("; ".join(f"{gate.name}: {gate.value:.4g}, demanded {gate.demand}" for gate in gates))
    rows = _golden(manifest)
    variant = manifest.model_copy(
        update={
            "version": f"{version}-{kind}",
            "algorithm": f"{manifest.algorithm}-{kind}",
            "created_at": now,
            "digest": digest_of(small),
            "gates": (*manifest.gates, *gates),
            "golden_scores": tuple(OnnxScorer(small).score(rows).tolist()),
            "variant_of": version,
        }
    )
    try:
        store.publish(variant, small)
    except ValueError as error:
        raise ClientError(str(error)) from error
    return variant


def _judged(
    usecase: UseCase, manifest: ModelManifest, model: bytes, small: bytes, tolerance: Tolerance
) -> tuple[GateResult, ...]:
    policy = usecase.policy
    if not isinstance(policy, CostPolicy) or policy.amount_field not in manifest.feature_names:
        raise ClientError("decisions can be compared only where costs depend on an amount that the model reads")
    rows = _golden(manifest)
    try:
        variant = OnnxScorer(small)
    except CorruptModel as error:
        raise ClientError(f"the variant could not be served: {error}") from error
    amounts = np.quantile(rows[:, manifest.feature_names.index(policy.amount_field)], _AMOUNT_QUANTILES)
    return judge_variant(OnnxScorer(model).score, variant.score, rows, policy, amounts.tolist(), tolerance)


def _golden(manifest: ModelManifest) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.array(manifest.golden_inputs, np.float32)
    if rows.ndim != 2:
        raise ClientError(f"{manifest.version} brings no golden rows to compare by")
    return rows.reshape(len(rows), -1)
