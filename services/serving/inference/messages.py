"""What is asked of models and what they answer, whichever protocol carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.serving.inference.tensors import Tensor

SERVER_NAME = "flywheel"
SERVER_VERSION = "1"
PLATFORM = "onnx_onnxv1"
"""As the protocol calls models in the ONNX format."""
Parameter = bool | int | float | str


class UnknownModel(LookupError):
    """There is no such model or version; the message says what there is."""


class ModelNotReady(Exception):
    """The model exists and nothing of it is loaded yet; the caller tries again."""


class ModelFailed(Exception):
    """The model gave no scores for these rows."""


@dataclass(frozen=True)
class TensorDescription:
    """What a tensor has to look like; -1 in the shape stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelDescription:
    """What a model takes and gives, and which of its versions may be asked for."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    platform: str = PLATFORM


@dataclass(frozen=True)
class IndexEntry:
    """One published version. `reason`: its role where it is loaded, else why it is not."""

    name: str
    version: str
    ready: bool
    reason: str

    @property
    def state(self) -> str:
        """As the protocol calls it."""
        return "READY" if self.ready else "UNAVAILABLE"


@dataclass(frozen=True)
class InferenceRequest:
    """Which model is to run on what. No version means the champion, no outputs all of them."""

    model: str
    inputs: Sequence[Tensor]
    version: str = ""
    id: str = ""
    outputs: Sequence[str] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class InferenceAnswer:
    """The scores, and who gave them."""

    model: str
    version: str
    id: str
    outputs: Sequence[Tensor]
    parameters: Mapping[str, Parameter]
