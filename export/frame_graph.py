"""GRMN and skinning as one graph, and with the picture the whole frame."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..plugins.tensorrt.nodes import RASTERIZATION_OUTPUTS
from ..training.checkpoint import Checkpoint
from .custom_ops import OPSET, complete, translations
from .graphs import strip_metadata
from .motion_graph import MotionStep

_HEAD = ("template", "expression_basis", "pose_basis", "joints", "joint_expression_basis", "weights")
CONTROLS = 40  # floats of `plugins.cuda.controls`


@dataclass(frozen=True)
class Picture:
    """What a whole frame draws. scene: the bytes of `plugins.cuda.Library.pack`, uint8 [N]."""

    scene: NDArray[np.uint8]
    width: int
    height: int
    mouth_moves: bool


class FrameStep(nn.Module):
    """`MotionStep`, then the head skinned with its expression and jaw, then the picture if one is asked for.

    Inputs are those of motion.onnx, `pose` [5,3] (axis-angle; the jaw's row is not used) and `translation` [3], for a
    picture `controls` [40] as well; outputs those of motion.onnx, `vertices` [V,3] in metres, `picture` uint8 [H,W,3]
    and `status` int32 [8].
    """

    def __init__(self, step: MotionStep, checkpoint: Checkpoint, picture: Picture | None = None) -> None:
        super().__init__()
        self.step = step
        self.parents = [int(parent) for parent in checkpoint.avatar["head.parents"]]
        for name in _HEAD:
            value = torch.from_numpy(np.ascontiguousarray(checkpoint.avatar[f"head.{name}"], np.float32))
            self.register_buffer(name, value)
        self.picture = picture
        if picture is not None:
            self.register_buffer("scene", torch.from_numpy(picture.scene.copy()))

    def input_names(self) -> list[str]:
        """Inputs, in the order of `forward`."""
        return ["pose", "translation", *(["controls"] if self.picture else []), *self.step.input_names()]

    def output_names(self) -> list[str]:
        """Outputs, in the order of `forward`."""
        return [*self.step.output_names(), "vertices", *(RASTERIZATION_OUTPUTS if self.picture else ())]

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes."""
        controls = (torch.zeros(CONTROLS),) if self.picture else ()
        return (torch.zeros(5, 3), torch.zeros(3), *controls, *self.step.example_inputs())

    def forward(self, pose: Tensor, translation: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `input_names` to tensors in the order of `output_names`."""
        outputs = self.step(*inputs[1:] if self.picture else inputs)
        named = dict(zip(self.step.output_names(), outputs, strict=True))
        posed = torch.cat([pose[:2], named["jaw"][None], pose[3:]])
        constants = [getattr(self, name) for name in _HEAD]
        operators: Any = torch.ops.emotag
        vertices = operators.flame_skinning(named["expression"], posed, translation, *constants, self.parents)
        if self.picture is None:
            return (*outputs, vertices)
        size = self.picture.width, self.picture.height, self.picture.mouth_moves
        drawn = operators.gaussian_rasterization(vertices, named["encoded_audio"], inputs[0], self.scene, *size)
        return (*outputs, vertices, *drawn)


def frame_graph(step: FrameStep) -> onnx.ModelProto:
    """The graph of a `FrameStep`. ONNX Runtime, TensorRT for RTX and full TensorRT read it, a picture only the last."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            step,
            step.example_inputs(),
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
