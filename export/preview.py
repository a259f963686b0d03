"""The bundle's preview.png: the rest pose as the first cue frame's camera sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .. import plugins
from ..runtime.errors import OutputError
from ..training.checkpoint import Checkpoint


def write_preview(checkpoint: Checkpoint, path: Path) -> None:
    """Draw `checkpoint` at rest to a PNG file.

    Raises:
        OutputError: the file cannot be written.
    """
    save_png(draw_rest(checkpoint), path)


def draw_rest(checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of the rest expression in the first cue frame's pose and camera."""
    info, cues = checkpoint.info, checkpoint.cues
    avatar = {name: np.asarray(array) for name, array in checkpoint.avatar.items()}
    head = plugins.Head(**_group(avatar, "head."))
    gaussians = plugins.Gaussians(
        **_group(avatar, "gaussians."),
        active_sh_degree=info.active_sh_degree,
        scale_activation=info.scale_activation,
    )
    fx, fy, cx, cy = (float(value) for value in cues["intrinsics"][0])
    camera = plugins.Camera(cues["view"][0].astype(np.float32), fx, fy, cx, cy, info.width, info.height)
    zero = np.zeros(3, np.float32)
    eyes = cues["eyes"][0].astype(np.float32)
    pose = np.stack([cues["rotation"][0], cues["neck"][0], zero, eyes[:3], eyes[3:]]).astype(np.float32)
    expression = np.zeros(len(avatar["head.expression_basis"]), np.float32)
    translation = cues["translation"][0].astype(np.float32)
    renderer = plugins.Renderer(plugins.Scene(head, gaussians))
    return renderer.draw(expression, pose, translation, camera, background=info.background)


def _group(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): np.ascontiguousarray(a) for n, a in arrays.items() if n.startswith(prefix)}


def save_png(rgb: NDArray[np.uint8], path: Path) -> None:
    """Write RGB [H, W, 3] as PNG."""
    try:
        with av.open(str(path), "w", format="image2") as file:
            stream = file.add_stream("png")
            stream.height, stream.width = rgb.shape[:2]
            stream.pix_fmt = "rgb24"
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            for packet in [*stream.encode(frame), *stream.encode()]:
                file.mux(packet)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}): choose a folder you may write to") from error
