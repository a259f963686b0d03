"""A tiny but complete checkpoint with random weights: every path of export and runtime, in seconds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from emotag.training.checkpoint import Arrays, AvatarInfo, Checkpoint
from emotag.training.grmn import GRMN, GRMNConfig
from emotag.training.mouth import MouthConfig
from emotag.training.wav2vec2 import StreamingConfig, StreamingWav2Vec2

EXPRESSIONS = 7
FRAMES = 9


def speech(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Something with pitch, syllables and pauses, 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16000)) / 16000
    phase = np.cumsum(2 * np.pi * (120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / 16000)
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    envelope = np.clip(0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * t + seed), 0, None) ** 2
    return (0.1 * voice * envelope + 0.002 * rng.standard_normal(len(t))).astype(np.float32)


def encoder(
    streaming: StreamingConfig | None = None, seed: int = 0, pre_norm: bool = False, rotary: bool = False
) -> StreamingWav2Vec2:
    """A Wav2Vec2 of two layers whose weights are alive, calibrated on `speech`."""
    torch.manual_seed(seed)
    norm = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True} if pre_norm else {}
    turned = {"position_embeddings_type": "rotary", "rotary_embedding_size": 6, "rotary_embedding_pace": 0.8}
    config = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "conv_dim": [24] * 7, "num_conv_pos_embedding_groups": 4, **norm,
        **(turned if rotary else {}),
    }  # fmt: skip
    made = StreamingWav2Vec2.from_config(config, streaming or StreamingConfig(2, 2, 20)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.calibrate([speech(3.0)])
    return made


def network(steerable: bool = True, mouth: bool = True, seed: int = 0) -> GRMN:
    """A GRMN of the tiny encoder's width."""
    torch.manual_seed(seed)
    config = GRMNConfig(
        hidden=32, width=256, layers=1, heads=4, feedforward=64, expression=EXPRESSIONS, au_width=16, identity=24,
        window_past=6, window_future=4, smooth_past=1, smooth_future=1, positions=32, steerable=steerable,
        mouth=MouthConfig() if mouth else None,
    )  # fmt: skip
    return GRMN(config).eval()


def egg(rings: int = 10, segments: int = 14) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices (metres) and faces of an egg, outward normals."""
    theta = np.linspace(0.02, np.pi - 0.02, rings)[:, None]
    phi = np.linspace(0, 2 * np.pi, segments, endpoint=False)[None]
    x, y, z = np.sin(theta) * np.cos(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.sin(phi)
    vertices = np.stack([0.08 * x, 0.11 * y, 0.09 * z], -1).reshape(-1, 3).astype(np.float32)
    r, s = np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij")
    a, b = r * segments + s, r * segments + (s + 1) % segments
    faces = np.concatenate([np.stack([a, b, b + segments], -1), np.stack([a, b + segments, a + segments], -1)])
    return vertices, faces.reshape(-1, 3).astype(np.int32)


def avatar(count: int = 400, mouth: int = 30, seed: int = 0) -> Arrays:
    """Head and Gaussians of an egg."""
    rng = np.random.default_rng(seed)
    vertices, faces = egg()
    v = len(vertices)
    basis = 0.004 * rng.standard_normal((EXPRESSIONS, v, 3))
    joints = np.array([[0, -0.1, 0], [0, -0.06, 0], [0, -0.03, 0.02], [0.03, 0.03, 0.06], [-0.03, 0.03, 0.06]])
    weights = np.exp(-(np.linalg.norm(vertices[:, None] - joints[None], axis=-1) ** 2) / 0.002) + 1e-4
    arrays = {
        "head.template": vertices,
        "head.faces": faces,
        "head.expression_basis": basis,
        "head.pose_basis": 0.002 * rng.standard_normal((36, v, 3)),
        "head.joints": joints,
        "head.joint_expression_basis": 0.001 * rng.standard_normal((EXPRESSIONS, 5, 3)),
        "head.weights": weights / weights.sum(1, keepdims=True),
        "head.parents": np.array([-1, 0, 1, 1, 1]),
        "gaussians.face_index": rng.integers(0, len(faces), count),
        "gaussians.means": 0.2 * rng.standard_normal((count, 3)),
        "gaussians.quats": rng.standard_normal((count, 4)),
        "gaussians.scales": rng.normal(-0.7, 0.3, (count, 3)),
        "gaussians.opacities": rng.normal(2.0, 1.0, count),
        "gaussians.sh": rng.normal(0.3, 0.4, (count, 4, 3)),
    }
    if mouth:
        arrays["mouth.index"] = rng.choice(count, mouth, replace=False)
    integers = ("head.faces", "head.parents", "gaussians.face_index", "mouth.index")
    return {n: np.ascontiguousarray(a, np.int32 if n in integers else np.float32) for n, a in arrays.items()}


def cues(frames: int = FRAMES, seed: int = 0) -> Arrays:
    """A short track seen by a camera half a metre away."""
    rng = np.random.default_rng(seed)
    view = np.diag([1.0, -1.0, -1.0, 1.0])
    view[2, 3] = 0.5
    emotion = rng.random((frames, 7))
    arrays: Arrays = {
        "aus": rng.uniform(0, 3, (frames, 6)),
        "emotion": emotion / emotion.sum(1, keepdims=True),
        "rotation": 0.05 * rng.standard_normal((frames, 3)),
        "neck": 0.05 * rng.standard_normal((frames, 3)),
        "eyes": 0.05 * rng.standard_normal((frames, 6)),
        "translation": 0.002 * rng.standard_normal((frames, 3)),
        "intrinsics": np.tile([120.0, 120.0, 32.0, 24.0], (frames, 1)),
    }
    typed: Arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return typed | {"view": np.tile(view, (frames, 1, 1))}


def checkpoint(
    streaming: StreamingConfig | None = None, steerable: bool = True, mouth: bool = True, identity: bool = True
) -> Checkpoint:
    """A complete checkpoint of 64×48 pictures."""
    torch.manual_seed(1)
    return Checkpoint(
        motion=network(steerable, mouth),
        encoder=encoder(streaming),
        identity=torch.randn(24) if identity else None,
        avatar=avatar(mouth=30 if mouth else 0),
        cues=cues(),
        info=AvatarInfo(name="tiny", width=64, height=48, active_sh_degree=1, licence="CC0", consent="synthetic"),
    )
