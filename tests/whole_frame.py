"""Whole-frame graphs, their scene packed by the kernels that run on the host; exported once for all tests."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny

from emotag import plugins
from emotag.export.frame_graph import FrameStep, Picture, frame_graph
from emotag.export.motion_graph import MotionStep
from emotag.training.checkpoint import Checkpoint

sys.path.append(str(Path(__file__).parent / "cuda_host"))
import emulated  # noqa: E402

SIZE = (64, 48)


def scene_of(checkpoint: Checkpoint) -> plugins.Scene:
    """Head and Gaussians of a checkpoint, without a mouth head."""

    def group(prefix: str) -> dict[str, Any]:
        arrays = checkpoint.avatar.items()
        return {n.removeprefix(prefix): np.ascontiguousarray(a) for n, a in arrays if n.startswith(prefix)}

    info = checkpoint.info
    looks = {"active_sh_degree": info.active_sh_degree, "scale_activation": info.scale_activation}
    return plugins.Scene(plugins.Head(**group("head.")), plugins.Gaussians(**group("gaussians."), **looks))


def frame_step(checkpoint: Checkpoint, picture: Picture | None = None) -> FrameStep:
    """The module of a checkpoint's whole frame."""
    return FrameStep(MotionStep(checkpoint.motion, checkpoint.identity).eval(), checkpoint, picture).eval()


@cache
def tiny_frame() -> onnx.ModelProto:
    """GRMN and skinning of the tiny checkpoint in one graph; not to be changed."""
    return frame_graph(frame_step(tiny.checkpoint()))


@cache
def tiny_picture() -> onnx.ModelProto:
    """The same with a picture of `SIZE`."""
    checkpoint = tiny.checkpoint()
    packed = emulated.load().pack(scene_of(checkpoint))
    return frame_graph(frame_step(checkpoint, Picture(packed, *SIZE, False)))
