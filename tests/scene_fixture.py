"""Small scenes in both layouts, with pictures, masks, maps, landmarks and sound."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from released_fixture import write_aus, write_released

SIZE = 64
VERTICES = 40


def write_wav(path: Path, seconds: float, rate: int = 16000, channels: int = 1) -> None:
    """A tone that swells."""
    time = np.arange(round(seconds * rate)) / rate
    tone = 8000 * np.sin(2 * np.pi * 180 * time) * np.sin(np.pi * time / max(seconds, 1e-9))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(tone.astype("<i2")[:, None], channels, 1).tobytes())


def picture(row: int, camera: int = 0) -> NDArray[np.uint8]:
    """A smooth picture that tells frame and camera by its colours."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    return np.stack([4 * row + x, 40 * camera + y, 128 + 0 * x], -1).clip(0, 255).astype(np.uint8)


def write_released_scene(root: Path, frames: int = 12, seconds: float | None = None) -> Path:
    """A whole scene in the released layout; returns its folder."""
    scene = write_released(root, gaussians=20, frames=frames, size=SIZE).scene
    for name in ("gt_imgs", "ori_imgs", "parsing", "sapiens/depth/sapiens_1b", "sapiens/normal/sapiens_1b"):
        (scene / name).mkdir(parents=True)
    parsing = np.full((SIZE, SIZE, 3), 255, np.uint8)
    parsing[8:56, 16:48] = (0, 0, 255)
    parsing[40:44, 28:36] = (100, 100, 100)
    for row in range(frames):
        Image.fromarray(picture(row)).save(scene / f"gt_imgs/{row}.jpg", quality=98, subsampling=0)
        Image.fromarray(parsing).save(scene / f"parsing/{row}.png")
        np.savetxt(scene / f"ori_imgs/{row}.lms", np.arange(136).reshape(68, 2) + row, fmt="%.3f")
        np.save(scene / f"sapiens/depth/sapiens_1b/{row}.npy", np.full((SIZE, SIZE), row, np.float32))
        np.save(scene / f"sapiens/normal/sapiens_1b/{row}.npy", np.full((SIZE, SIZE, 3), [0, 0, 1], np.float32))
    write_wav(scene / "aud.wav", frames / 25 if seconds is None else seconds)
    return scene


def write_vhap_scene(root: Path, frames: int = 6, cameras: int = 2) -> Path:
    """A VHAP dataset with features beside it; returns its folder."""
    rng = np.random.default_rng(5)
    for name in ("images", "fg_masks", "flame_param"):
        (root / name).mkdir(parents=True)
    listed: list[dict[str, Any]] = []
    shape, offset = rng.normal(size=300), 1e-3 * rng.normal(size=(1, VERTICES, 3))
    for row in range(frames):
        np.savez(root / f"flame_param/{row:05d}.npz", static_offset=offset, **flame_parameters(rng, shape))
        for camera in range(cameras):
            name = f"{row:05d}_{camera:02d}.png"
            Image.fromarray(picture(row, camera)).save(root / "images" / name)
            Image.fromarray(np.full((SIZE, SIZE), 51 * camera, np.uint8)).save(root / "fg_masks" / name)
            listed.append(
                {
                    "timestep_index": row,
                    "camera_index": camera,
                    "file_path": f"images/{name}",
                    "fg_mask_path": f"fg_masks/{name}",
                    "flame_param_path": f"flame_param/{row:05d}.npz",
                    "transform_matrix": camera_to_world(camera).tolist(),
                    "cx": 30.0 + camera,
                }
            )
    top = {"fl_x": 120.0, "fl_y": 121.0, "cx": 30.0, "cy": 33.0, "w": SIZE, "h": SIZE, "frames": listed}
    (root / "transforms.json").write_text(json.dumps(top))
    write_aus(root, np.ones((frames, 6)))
    np.save(root / "emotion_features.npy", np.eye(7, dtype=np.float32)[np.arange(frames) % 7])
    np.save(root / "identity_feature.npy", np.ones(512, np.float32))
    write_wav(root / "aud.wav", frames / 25)
    return root


def flame_parameters(rng: np.random.Generator, shape: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What VHAP exports for a timestep, besides static_offset."""
    sizes = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3, "expr": 100}
    return {"shape": shape} | {name: 0.1 * rng.normal(size=(1, size)) for name, size in sizes.items()}


def camera_to_world(camera: int) -> NDArray[np.float64]:
    """OpenGL axes: a camera 1.2 m in front of the face, turned by 0.3 rad a camera about y."""
    angle = 0.3 * camera
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = 1.2 * pose[:3, 2]
    return pose
