"""The released system in float64 NumPy, written from the specification alone, to hold everything else against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Doubles = NDArray[np.float64]
State = Mapping[str, Any]


@dataclass(frozen=True)
class ReferenceMotion:
    """Means over the 8 windows of every frame, [T, ·]."""

    expression: Doubles
    jaw: Doubles
    gate: Doubles
    emotion_logits: Doubles
    base_expression: Doubles
    residual_expression: Doubles
    encoded_audio: Doubles


def doubles(state: Mapping[str, Any]) -> dict[str, Doubles]:
    """Tensors of a state dict as float64 arrays."""
    return {name: np.asarray(value.detach().numpy(), dtype=np.float64) for name, value in state.items()}


def motion(state: State, windows: Doubles, aus: Doubles, identity: Doubles | None) -> ReferenceMotion:
    """Windows [T, 16, 768], AUs [T, 6] and the identity [512] to the motion of a clip."""
    frames = len(windows)
    padded = np.concatenate([np.zeros((4, *windows.shape[1:])), windows, np.zeros((3, *windows.shape[1:]))])
    encoded = _encode(state, padded.astype(np.float64))
    parts: list[list[Doubles]] = []
    for frame in range(frames):
        around = encoded[frame : frame + 8]
        decoded = _decode(state, around, np.repeat(aus[frame : frame + 1], 8, 0), identity)
        parts.append([part.mean(0) for part in decoded])
    return ReferenceMotion(*(np.stack(column) for column in zip(*parts, strict=True)))


def _linear(state: State, name: str, x: Doubles) -> Doubles:
    out: Doubles = x @ state[f"{name}.weight"].T
    return out + state[f"{name}.bias"] if f"{name}.bias" in state else out


def _relu(x: Doubles) -> Doubles:
    return np.maximum(x, 0)


def _normalise(state: State, name: str, x: Doubles) -> Doubles:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _softmax(x: Doubles) -> Doubles:
    e: Doubles = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _encode(state: State, windows: Doubles) -> Doubles:
    x = _linear(state, "audio_proj", windows) + state["pos_encoder.pe"][:, :16]
    for layer in range(4):
        name = f"audio_transformer.layers.{layer}"
        qkv = x @ state[f"{name}.self_attn.in_proj_weight"].T + state[f"{name}.self_attn.in_proj_bias"]
        mixed = np.zeros_like(x)
        for head in range(8):
            q, k, v = (qkv[..., part * 256 + head * 32 :][..., :32] for part in range(3))
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(32)
            mixed[..., head * 32 : head * 32 + 32] = _softmax(scores) @ v
        x = _normalise(state, f"{name}.norm1", x + _linear(state, f"{name}.self_attn.out_proj", mixed))
        inner = _relu(_linear(state, f"{name}.linear1", x))
        x = _normalise(state, f"{name}.norm2", x + _linear(state, f"{name}.linear2", inner))
    return x.mean(1)


def _adain(state: State, name: str, x: Doubles, identity: Doubles | None) -> Doubles:
    if identity is None:
        return x
    gamma, beta = np.split(_linear(state, f"{name}.2", _relu(_linear(state, f"{name}.0", identity))), 2)
    spread = x.std(-1, ddof=1, keepdims=True) + 1e-5
    out: Doubles = (1 + gamma) * (x - x.mean(-1, keepdims=True)) / spread + beta
    return out


def _decode(state: State, encoded: Doubles, aus: Doubles, identity: Doubles | None) -> tuple[Doubles, ...]:
    au = _relu(_linear(state, "au_encoder.2", _relu(_linear(state, "au_encoder.0", aus))))
    audio, au = _adain(state, "audio_adain", encoded, identity), _adain(state, "au_adain", au, identity)
    shared = audio
    for index in range(4):
        shared = _linear(state, f"backbone_net.net.{index}", shared if index == 0 else _relu(shared))
    shared = shared + _linear(state, "au_fusion", au)
    base = np.concatenate([_linear(state, "flame_exp_head", shared), _linear(state, "flame_jaw_head", shared)], -1)
    hidden = _linear(state, "residual_net.net.1", _relu(_linear(state, "residual_net.net.0", shared)))
    residual = _linear(state, "residual_motion_head", hidden)
    gate = 1 / (1 + np.exp(-_linear(state, "gate_net.2", _relu(_linear(state, "gate_net.0", shared)))))
    delta = base + gate * residual
    logits = _linear(state, "emotion_head", shared)
    return delta[:, :50], delta[:, 50:], gate, logits, base[:, :50], residual[:, :50], encoded


def head_vertices(head: State, tracked: State, expression: Doubles, jaw: Doubles) -> Doubles:
    """FLAME's vertices [V, 3]: all as tracked, but expression [50] and jaw [3] as given."""
    basis = np.asarray(head["shapedirs"], dtype=np.float64)
    shaped = head["v_template"].astype(np.float64) + basis[:, :, :300] @ tracked["shape"][0].astype(np.float64)
    shaped = shaped + basis[:, :, 300 : 300 + len(expression)] @ expression
    joints = head["J_regressor"] @ shaped
    pose = [tracked["rotation"][0], tracked["neck_pose"][0], jaw, tracked["eyes_pose"][0]]
    turns = Rotation.from_rotvec(np.concatenate(pose).astype(np.float64).reshape(5, 3)).as_matrix()
    shaped = shaped + head["posedirs"].astype(np.float64) @ (turns[1:] - np.eye(3)).reshape(-1)
    world: list[Doubles] = []
    for joint, parent in enumerate((-1, 0, 1, 1, 1)):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(world[parent] @ local if parent >= 0 else local)
    out = np.zeros_like(shaped)
    for joint, transform in enumerate(world):
        moved = (shaped - joints[joint]) @ transform[:3, :3].T + transform[:3, 3]
        out += head["weights"][:, joint : joint + 1].astype(np.float64) * moved
    return out + tracked["translation"][0].astype(np.float64)


@dataclass(frozen=True)
class ReferenceGaussians:
    """Gaussians of one frame in the world: [G, ·], rotation wxyz, scale activated; mouth offsets [M, ·]."""

    position: Doubles
    rotation: Doubles
    scale: Doubles
    d_mu: Doubles
    d_rot: Doubles
    d_scale: Doubles


def gaussians(
    state: State,
    capture: tuple[Any, ...],
    vertices: Doubles,
    faces: NDArray[Any],
    face_index: NDArray[Any],
    mouth: NDArray[Any],
    encoded_audio: Doubles,
) -> ReferenceGaussians:
    """Bind to the triangles (Eq. 7), then the mouth's residual offsets (Eq. 8). `encoded_audio` [256] of the frame."""
    means, scaling, rotation = (np.asarray(capture[i].detach().numpy(), np.float64) for i in (1, 4, 5))
    v0, v1, v2 = (vertices[faces[:, corner]][face_index] for corner in range(3))
    a0 = _unit(v1 - v0)
    a1 = _unit(np.cross(a0, v2 - v0))
    a2 = -_unit(np.cross(a1, a0))
    frame = np.stack([a0, a1, a2], -1)
    k = (np.linalg.norm(v1 - v0, axis=1) + np.abs((a2 * (v2 - v0)).sum(1))) / 2
    position = k[:, None] * np.einsum("gab,gb->ga", frame, means) + (v0 + v1 + v2) / 3
    turn = _multiply(Rotation.from_matrix(frame).as_quat(scalar_first=True), _unit(rotation))
    scale = k[:, None] * _softplus(scaling)
    d_mu, d_rot, d_scale = mouth_offsets(state, position[mouth], encoded_audio)
    position[mouth] += d_mu
    turn[mouth] = _multiply(turn[mouth], _unit(d_rot))
    scale[mouth] *= _softplus(d_scale)
    return ReferenceGaussians(position, turn, scale, d_mu, d_rot, d_scale)


def mouth_offsets(state: State, points: Doubles, encoded_audio: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Δμ [M, 3], Δr [M, 4], Δs [M, 3] at deformed positions [M, 3]."""
    x = (points + 0.15) / 0.30
    planes = {"xy": x[:, [0, 1]], "yz": x[:, [1, 2]], "xz": x[:, [0, 2]]}
    features = [_plane(state, plane, at) for plane, at in planes.items()]
    hidden = np.concatenate([*features, np.repeat(encoded_audio[None], len(points), 0)], 1)
    for index in range(3):
        hidden = _linear(state, f"mouth_mlp.net.{index}", hidden if index == 0 else _relu(hidden))
    out = _linear(state, "mouth_head", hidden)
    return out[:, :3] * 0.01, out[:, 3:7], out[:, 7:] * 0.001


def _plane(state: State, plane: str, points: Doubles) -> Doubles:
    table = state[f"encoder_{plane}.embeddings"][:, 0]
    offsets = state[f"encoder_{plane}.offsets"].astype(int)
    growth = np.log2(38.4 / 16) / 11
    out = np.zeros((len(points), 12))
    for row, point in enumerate(points):
        if (point < 0).any() or (point > 1).any():
            continue
        for level in range(12):
            scale = 2 ** (level * growth) * 16 - 1
            resolution, size = int(np.ceil(scale)) + 1, offsets[level + 1] - offsets[level]
            at = point * scale + 0.5
            cell, part = np.floor(at).astype(int), at - np.floor(at)
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                weight = (part[0] if dx else 1 - part[0]) * (part[1] if dy else 1 - part[1])
                index = (cell[0] + dx + (cell[1] + dy) * (resolution + 1)) % size
                out[row, level] += weight * table[offsets[level] + index]
    return out


def _unit(x: Doubles) -> Doubles:
    out: Doubles = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return out


def _softplus(x: Doubles) -> Doubles:
    out: Doubles = np.logaddexp(0, x)
    return out


def _multiply(a: Doubles, b: Doubles) -> Doubles:
    """Hamilton product of quaternions wxyz."""
    aw, ax, ay, az = a.T
    bw, bx, by, bz = b.T
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )
