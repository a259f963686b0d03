"""A tiny head, networks and scenes to train on in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from released_fixture import write_aus
from scene_fixture import write_wav
from tiny import EXPRESSIONS, avatar, cues, egg, encoder

from emotag.training.checkpoint import AvatarInfo, Checkpoint
from emotag.training.grmn import GRMN, GRMNConfig
from emotag.training.head import HeadModel
from emotag.training.mouth import MouthConfig

SIZE = 32
FRAMES = 16
NAMES = tuple(f"expression{number}" for number in range(EXPRESSIONS))


def head(seed: int = 0) -> HeadModel:
    """An egg with seven expressions and a region called mouth."""
    arrays = avatar(mouth=0, seed=seed)
    vertices, faces = egg()
    nearest = np.exp(-(np.linalg.norm(vertices[None] - arrays["head.joints"][:, None], axis=-1) ** 2) / 1e-3)
    regions = (vertices[faces].mean(1)[:, 2] > 0.06).astype(np.int8)
    return HeadModel(
        v_template=vertices,
        faces=faces,
        shape_basis=np.zeros((len(vertices), 3, 2), np.float32),
        expression_basis=arrays["head.expression_basis"].transpose(1, 2, 0),
        pose_basis=arrays["head.pose_basis"].transpose(1, 2, 0),
        joint_regressor=(nearest / nearest.sum(1, keepdims=True)).astype(np.float32),
        weights=arrays["head.weights"],
        parents=arrays["head.parents"],
        expression_names=NAMES,
        face_regions=regions,
        region_names=("skin", "mouth"),
    )


def network(mouth: bool = True, seed: int = 0) -> GRMN:
    """A GRMN for the tiny encoder and the egg."""
    torch.manual_seed(seed)
    config = GRMNConfig(
        hidden=32, width=256, layers=1, heads=2, feedforward=16, expression=EXPRESSIONS, au_width=8, identity=512,
        window_past=4, window_future=2, smooth_past=1, smooth_future=1, positions=8, steerable=True,
        mouth=MouthConfig(levels=12) if mouth else None,
    )  # fmt: skip
    return GRMN(config)


def write_start(path: Path, mouth: bool = True) -> Path:
    """A checkpoint to start from: the tiny encoder and motion network."""
    made = Checkpoint(
        motion=network(mouth).eval(),
        encoder=encoder(),
        identity=torch.ones(512),
        avatar=avatar(mouth=0),
        cues=cues(),
        info=AvatarInfo(name="start", width=64, height=48, active_sh_degree=1, expression_names=NAMES),
    )
    made.save(path)
    return path


def write_scene(root: Path, seed: int = 0, frames: int = FRAMES, maps: bool = True) -> Path:
    """A clip of an ellipse that shakes, in VHAP's layout; returns its folder."""
    rng = np.random.default_rng(seed)
    for name in ("images", "fg_masks", "flame_param", "depth", "normal"):
        (root / name).mkdir(parents=True)
    listed = []
    pose = np.eye(4)
    pose[2, 3] = 0.5  # looking along -z at the egg
    for row in range(frames):
        mask, picture = _picture(rng, row)
        Image.fromarray(picture).save(root / f"images/{row:05d}_00.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(root / f"fg_masks/{row:05d}_00.png")
        if maps:
            np.save(root / f"depth/{row:05d}_00.npy", np.where(mask > 0, 0.42, 0).astype(np.float32))
            np.save(root / f"normal/{row:05d}_00.npy", (mask[..., None] * [0, 0, -1]).astype(np.float32))
        np.savez(root / f"flame_param/{row:05d}.npz", **_tracked(rng))
        listed.append(
            {
                "timestep_index": row, "camera_index": 0, "file_path": f"images/{row:05d}_00.png",
                "fg_mask_path": f"fg_masks/{row:05d}_00.png", "flame_param_path": f"flame_param/{row:05d}.npz",
                "transform_matrix": pose.tolist(),
            }
        )  # fmt: skip
    top = {"fl_x": 60.0, "fl_y": 60.0, "cx": SIZE / 2, "cy": SIZE / 2, "w": SIZE, "h": SIZE, "frames": listed}
    (root / "transforms.json").write_text(json.dumps(top))
    write_aus(root, rng.uniform(0, 3, (frames, 6)))
    emotion = rng.random((frames, 7)).astype(np.float32)
    np.save(root / "emotion_features.npy", emotion / emotion.sum(1, keepdims=True))
    identity = rng.standard_normal(512).astype(np.float32)
    np.save(root / "identity_feature.npy", identity / np.linalg.norm(identity))
    write_wav(root / "aud.wav", frames / 25)
    return root


def _picture(rng: np.random.Generator, row: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    y, x = (np.mgrid[0:SIZE, 0:SIZE] + 0.5 - SIZE / 2) / (SIZE / 2)
    mask = ((x / 0.6) ** 2 + (y / 0.8) ** 2 < 1).astype(np.float32)
    shade = np.stack([150 + 40 * x, 120 + 30 * y, 100 + row + 0 * x], -1)
    wall = np.full(3, rng.integers(0, 255))
    return mask, (mask[..., None] * shade + (1 - mask[..., None]) * wall).clip(0, 255).astype(np.uint8)


def _tracked(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    sizes = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    values = {name: 0.02 * rng.normal(size=(1, size)) for name, size in sizes.items()}
    return values | {"expr": 0.3 * rng.normal(size=(1, EXPRESSIONS)), "shape": np.zeros(2)}
