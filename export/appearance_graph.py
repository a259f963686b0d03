"""The emotional residual of the Gaussians in a bundle: what `appearance.onnx` computes, and its offsets as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from ..runtime.appearance import COEFFICIENTS, INPUTS, OFFSETS_FILE
from ..runtime.graphs import BoundGraph
from ..runtime.graphs import Graph as Session
from ..runtime.manifest import OFFSET_GROUPS
from ..training.emotional_residual import EmotionalResidual
from .graphs import Graph, write_graph
from .parity import Check
from .step import StepModule

GRAPH_BOUND = 1e-5
"""Largest difference of the graph's coefficients, which are within -1…1, from PyTorch's."""
OFFSET_BOUND = 1e-3
"""Largest rounding error of an offset as a half, as a share of its group's bound."""
NEUTRAL_BOUND = 1e-9
"""Largest coefficient of a neutral frame, whose Gaussians are as they are."""
_FRAMES = 32


class AppearanceStep(StepModule):
    """Displacement [E], encoded audio [D] and emotion [C] of a frame to coefficients [R]. No state."""

    def __init__(self, residual: EmotionalResidual) -> None:
        super().__init__()
        self.residual = residual

    def input_names(self) -> list[str]:
        """Inputs, in the order of `forward`."""
        return list(INPUTS)

    def output_names(self) -> list[str]:
        """Outputs, in the order of `forward`."""
        return [COEFFICIENTS]

    def forward(self, displacement: Tensor, encoded_audio: Tensor, emotion: Tensor) -> Tensor:
        """One frame."""
        return self.residual.coefficients(displacement[None], encoded_audio[None], emotion[None])[0]

    def initial_state(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of a neutral frame."""
        own = self.residual.config
        return torch.zeros(own.expression), torch.zeros(own.audio), torch.eye(own.classes)[own.neutral]


def write_appearance(residual: EmotionalResidual, folder: Path) -> list[Check]:
    """Write `appearance.onnx` and `appearance.safetensors` to `folder`; what they differ from PyTorch by.

    Raises:
        ExportError: the graph cannot be exported.
    """
    step = AppearanceStep(residual).eval()
    graph = Graph("appearance", step, "fp32")
    write_graph(graph, folder / graph.file)
    basis: NDArray[np.float32] = residual.basis().detach().numpy()
    halves = np.ascontiguousarray(basis, np.float16)
    save_file({"offsets": halves}, folder / OFFSETS_FILE)
    largest, neutral = _differences(step, folder / graph.file)
    first, rounding = 0, 0.0
    for name, size in OFFSET_GROUPS.items():
        part = np.abs(halves.astype(np.float32) - basis)[:, :, first : first + size]
        rounding = max(rounding, float(part.sum(0).max()) / offset_bounds(residual)[name])
        first += size
    return [
        Check("appearance: ONNX against PyTorch, coefficients, max", largest, GRAPH_BOUND),
        Check("appearance: coefficients of neutral frames, max", neutral, NEUTRAL_BOUND),
        Check("appearance: offsets in half precision, share of their bound, max", rounding, OFFSET_BOUND),
    ]


def appearance_section(residual: EmotionalResidual) -> dict[str, Any]:
    """The section `appearance` of manifest.json."""
    return {"rank": residual.config.rank, "bounds": offset_bounds(residual)}


def offset_bounds(residual: EmotionalResidual) -> dict[str, float]:
    """The largest offset that any frame can wear, by group."""
    most, first, bounds = residual.bounds.amax(0), 0, {}
    for name, size in OFFSET_GROUPS.items():
        bounds[name] = round(float(most[first : first + size].max()), 6)
        first += size
    return bounds


@torch.no_grad()
def _differences(step: AppearanceStep, path: Path) -> tuple[float, float]:
    """Of the graph, run as the runtime does, from PyTorch over random frames; and its largest neutral coefficient."""
    bound, rng = BoundGraph(Session(path), {}), np.random.default_rng(0)
    largest = neutral = 0.0
    for number in range(_FRAMES):
        bound.inputs["displacement"][:] = 0.5 * rng.standard_normal(bound.inputs["displacement"].shape)
        bound.inputs["encoded_audio"][:] = rng.standard_normal(bound.inputs["encoded_audio"].shape)
        bound.inputs["emotion"][:] = rng.dirichlet(np.full(step.residual.config.classes, 0.5))
        if number % 4 == 0:
            bound.inputs["emotion"][:] = step.example_inputs()[2].numpy()
        bound.run()
        found = bound.outputs[COEFFICIENTS]
        wanted = step(*(torch.from_numpy(bound.inputs[name]) for name in INPUTS)).numpy()
        largest = max(largest, float(np.abs(found - wanted).max()))
        if number % 4 == 0:
            neutral = max(neutral, float(np.abs(found).max()))
    return largest, neutral
