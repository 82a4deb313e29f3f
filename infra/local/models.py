"""Why no model decides, and what to do, for whoever thinks that one does."""

from __future__ import annotations

from flywheel.client.fitting_models import fitting, is_deployed
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import ModelStore


def told_when_undeployed(models: ModelStore, usecase: UseCase) -> str:
    """One sentence; empty when a model of the declared features is deployed."""
    if is_deployed(models, usecase):
        return ""
    return f"No model is deployed: the rule of {usecase.name} answers. {_why(models, usecase)}"


def _why(models: ModelStore, usecase: UseCase) -> str:
    found = list(fitting(models, usecase, models.versions(usecase.name)))
    if not found:
        return "None of the declared features is trained yet; once there are labels: make train"
    newest = max(found, key=lambda manifest: manifest.created_at)
    failed = ", ".join(gate.name for gate in newest.gates if not gate.passed)
    what = f"did not pass {failed}" if failed else "was not deployed"
    return f"The newest, {newest.version}, {what} (make models). Once there are more labels: make train"
