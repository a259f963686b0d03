"""Bundles with random weights and the sizes of a published system: for benchmarks, never for people to look at.

They are exempt from the parity refusal, because random weights make the bounds meaningless, and marked: their kind is
"synthetic" and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime.errors import ExportError
from ..training.appearance import demo_camera
from ..training.checkpoint import Arrays, AvatarInfo, Checkpoint
from ..training.corpus import demo_cues
from ..training.grmn import GRMN, GRMNConfig
from ..training.head import HeadModel
from ..training.wav2vec2 import StreamingConfig, StreamingWav2Vec2
from .bundle import ExportOptions, write_bundle
from .graphs import Precision
from .speech import load_speech

_HEAD = Path(__file__).parent.parent / "training" / "assets" / "anny_head.npz"
_SPEECH_SECONDS = 3  # enough to calibrate on; parity means nothing here
_NOTE = "Random weights: made for benchmarks, its picture and its speech mean nothing."


@dataclass(frozen=True)
class Preset:
    """Sizes of a synthetic avatar. The defaults are the base size: Wav2Vec2-base (95M parameters), the released GRMN.

    `audio` and `motion_precision` are the graphs' precisions. `encoder` are values of a Hugging Face Wav2Vec2Config
    that differ from the base model's.
    """

    gaussians: int = 60_000
    mouth: int = 2_000
    degree: int = 3
    size: int = 512
    audio: Precision = "int8"
    motion_precision: Precision = "int8"
    streaming: StreamingConfig = StreamingConfig(2, 8, 100)
    motion: GRMNConfig = GRMNConfig()
    encoder: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "base": Preset(),
    "base-fp32": Preset(audio="fp32", motion_precision="fp32"),
    "base-20k": Preset(gaussians=20_000),
    "base-120k": Preset(gaussians=120_000),
    "tiny": Preset(  # to try things out
        gaussians=2000,
        mouth=100,
        size=128,
        streaming=StreamingConfig(2, 2, 20),
        motion=GRMNConfig(
            hidden=32, layers=1, heads=4, feedforward=64, identity=24, smooth_past=1, smooth_future=1, positions=32
        ),
        encoder={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "conv_dim": [24] * 7,
            "num_conv_pos_embedding_groups": 4,
        },
    ),
}


def write_synthetic(
    preset: str | Preset, output: Path, seed: int = 0, progress: Callable[[str], None] = lambda stage: None
) -> dict[str, Any]:
    """Write the bundle of a preset (a name of `PRESETS`, or sizes) to the folder `output`; returns its report.

    Raises:
        ExportError: the preset is unknown, or `output` exists and is not a bundle.
        OutputError: the folder cannot be written.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ExportError(f"there is no synthetic bundle {preset!r}: choose one of {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    speech, name = load_speech([])
    speech = speech[: 16000 * _SPEECH_SECONDS]
    progress("random weights")
    checkpoint = synthetic_checkpoint(preset, speech, seed)
    options = ExportOptions(speech, name, audio=preset.audio, motion=preset.motion_precision, refuse=False)
    return write_bundle(checkpoint, output, options, progress)


def synthetic_checkpoint(preset: Preset, speech: NDArray[np.float32], seed: int = 0) -> Checkpoint:
    """A complete checkpoint of random weights. speech: 16 kHz, calibrates the encoder's frozen statistics."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = StreamingWav2Vec2.from_config(dict(preset.encoder), preset.streaming).eval()
    _add_biases(encoder)
    encoder.calibrate([speech])
    head = HeadModel.load(_HEAD).with_expressions(preset.motion.expression)
    cues = demo_cues()
    frames = len(cues["aus"])
    view, intrinsics = demo_camera(preset.size, preset.size)
    return Checkpoint(
        motion=GRMN(preset.motion).eval(),
        encoder=encoder,
        identity=torch.randn(preset.motion.identity),
        avatar={**head.bake().tensors(), **_gaussians(head, preset, rng)},
        cues={
            **cues,
            "view": np.repeat(np.asarray(view, np.float64)[None], frames, axis=0),
            "intrinsics": np.repeat(np.asarray(intrinsics, np.float32)[None], frames, axis=0),
        },
        info=AvatarInfo(
            name="synthetic",
            width=preset.size,
            height=preset.size,
            active_sh_degree=preset.degree,
            scale_activation="exp",
            expression_names=head.expression_names,
            licence="Apache-2.0; head shapes from MakeHuman data, CC0 1.0",
            consent="No person is shown or imitated.",
            notes=(_NOTE,),
        ),
        kind="synthetic",
    )


@torch.no_grad()
def _add_biases(encoder: StreamingWav2Vec2) -> None:
    """Fresh biases are zero, and the runtime drops the addition of a zero: a trained network's cost something."""
    for parameter in encoder.model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.05 * torch.randn_like(parameter))


def _gaussians(head: HeadModel, preset: Preset, rng: np.random.Generator) -> Arrays:
    """Flat splats of one size in the world, evenly over the surface, a seventh of them translucent."""
    corners = head.v_template[head.faces].astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(first, second), axis=1) / 2
    side = np.linalg.norm(first, axis=1)
    unit = (side + 2 * area / side) / 2  # k of the binding: mean of the first edge and of the height on it
    count = preset.gaussians
    face = np.sort(rng.choice(len(area), count, p=area / area.sum()))
    reach = 0.6 * np.sqrt(area.sum() / count) / unit[face]
    widths = np.stack([rng.uniform(0.6, 1.2, count), rng.uniform(0.1, 0.3, count), rng.uniform(0.6, 1.2, count)], 1)
    opacity = np.where(rng.random(count) < 1 / 7, rng.uniform(0.05, 0.7, count), rng.uniform(0.7, 0.999, count))
    sh = rng.normal(0, 0.04, (count, (preset.degree + 1) ** 2, 3))
    sh[:, 0] = rng.normal(0.6, 0.3, (count, 3))
    yaw = rng.uniform(0, np.pi, count)
    lips = np.flatnonzero(head.region("lips", "mouth")[face])
    arrays = {
        "gaussians.means": rng.normal(0, 0.25, (count, 3)) * [1, 0.1, 1],
        "gaussians.quats": np.stack([np.cos(yaw), 0 * yaw, np.sin(yaw), 0 * yaw], 1),
        "gaussians.scales": np.log(widths * reach[:, None]),
        "gaussians.opacities": np.log(opacity / (1 - opacity)),
        "gaussians.sh": sh,
    }
    typed: Arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    index = np.sort(rng.permutation(lips)[: preset.mouth])
    return typed | {"gaussians.face_index": face.astype(np.int32), "mouth.index": index.astype(np.int32)}
