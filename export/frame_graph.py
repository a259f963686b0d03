"""GRMN and skinning as one graph, and with the rasterization node the whole frame."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..training.checkpoint import Checkpoint
from .custom_ops import OPSET, complete, translations
from .graphs import strip_metadata
from .motion_graph import MotionStep

_HEAD = ("template", "expression_basis", "pose_basis", "joints", "joint_expression_basis", "weights")


class FrameStep(nn.Module):
    """`MotionStep`, then the head skinned with its expression and jaw.

    Inputs are those of motion.onnx, `pose` [5,3] (axis-angle; the jaw's row is not used) and `translation` [3];
    outputs those of motion.onnx and `vertices` [V,3] in metres.
    """

    def __init__(self, step: MotionStep, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.step = step
        self.parents = [int(parent) for parent in checkpoint.avatar["head.parents"]]
        for name in _HEAD:
            value = torch.from_numpy(np.ascontiguousarray(checkpoint.avatar[f"head.{name}"], np.float32))
            self.register_buffer(name, value)

    def input_names(self) -> list[str]:
        """Inputs, in the order of `forward`."""
        return ["pose", "translation", *self.step.input_names()]

    def output_names(self) -> list[str]:
        """Outputs, in the order of `forward`."""
        return [*self.step.output_names(), "vertices"]

    def forward(self, pose: Tensor, translation: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `input_names` to tensors in the order of `output_names`."""
        outputs = self.step(*inputs)
        expression, jaw = outputs[0], outputs[1]
        posed = torch.cat([pose[:2], jaw[None], pose[3:]])
        constants = [getattr(self, name) for name in _HEAD]
        vertices = torch.ops.emotag.flame_skinning(expression, posed, translation, *constants, self.parents)
        return (*outputs, vertices)


def frame_graph(step: FrameStep) -> onnx.ModelProto:
    """The graph of a `FrameStep`; ONNX Runtime, TensorRT for RTX and full TensorRT read it as it is."""
    inputs = (torch.zeros(5, 3), torch.zeros(3), *step.step.example_inputs())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            step,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=step.input_names(),
            output_names=step.output_names(),
            custom_translation_table=translations(),
            verbose=False,
        )
    assert program is not None
    return complete(strip_metadata(program.model_proto))


def write_frame_graph(step: FrameStep, path: Path) -> None:
    """`frame_graph` as a checked file."""
    model = frame_graph(step)
    onnx.checker.check_model(model)
    onnx.save(model, path)
