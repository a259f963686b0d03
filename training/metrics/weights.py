"""Weights of judges that the user brings: loaded without executing anything, checked against what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...runtime.errors import CheckpointError
from ..checkpoint import load_tensors
from .errors import MetricError

__all__ = ["fill", "read_weights"]


def read_weights(paths: Sequence[Path], what: str) -> dict[str, Tensor]:
    """The tensors of one or several state-dict files together.

    Raises:
        MetricError: no file is given, one is missing or is not a set of tensors.
    """
    if not paths:
        raise MetricError(f"{what}: no weights were given")
    state: dict[str, Tensor] = {}
    for path in paths:
        if not path.is_file():
            raise MetricError(f"{what}: {path} is missing: give the file with the weights")
        try:
            content = load_tensors(path)
        except CheckpointError as error:
            raise MetricError(f"{what}: {error}") from error
        except Exception as error:  # a broken file can raise nearly every exception there is
            raise MetricError(f"{what}: {path} is not a file of tensors ({type(error).__name__})") from error
        content = content.get("state_dict", content) if isinstance(content, dict) else content
        if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
            raise MetricError(f"{what}: {path} is not a state dict: give the published weights")
        state |= {str(name): value for name, value in content.items()}
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load `state` into `module`; names that it has not are ignored. Raises MetricError for others that misfit."""
    wanted: dict[str, Any] = module.state_dict()
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise MetricError(
            f"{what}: the weights lack {len(missing)} tensors, such as {missing[0]}: they are of another network"
        )
    for name, value in wanted.items():
        if name in state and tuple(state[name].shape) != tuple(value.shape):
            raise MetricError(
                f"{what}: {name} has the shape {tuple(state[name].shape)}, it should be {tuple(value.shape)}: the "
                "weights are of another network"
            )
    module.load_state_dict({name: state.get(name, value) for name, value in wanted.items()})
    module.requires_grad_(False).eval()
