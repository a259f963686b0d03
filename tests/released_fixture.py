"""Write a small checkpoint, scene and FLAME-like head in the released layout (spec §3), with random weights.

The networks have the released sizes, everything else is small: an egg of 302 vertices, a few hundred Gaussians.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from tests.released_reference import head_vertices

Doubles = NDArray[np.float64]

RINGS, SEGMENTS = 16, 20
RADII = np.array([0.075, 0.11, 0.09])
ANCHORS = np.array([[0, -0.13, 0], [0, -0.09, -0.02], [0, -0.04, 0.03], [0.03, 0.03, 0.07], [-0.03, 0.03, 0.07]])
PARENTS = (-1, 0, 1, 1, 1)
FOCAL = 1.92  # times the picture's width
DISTANCE = 1.104
AU_COLUMNS = ("AU01_r", "AU04_r", "AU05_r", "AU06_r", "AU07_r", "AU45_r")


@dataclass(frozen=True)
class Fixture:
    """Paths of one released avatar."""

    root: Path

    @property
    def checkpoint(self) -> Path:
        return self.root / "chkpnt_face_latest.pth"

    @property
    def scene(self) -> Path:
        return self.root / "scene"

    @property
    def flame(self) -> Path:
        return self.root / "generic_model.pkl"

    def paths(self) -> tuple[Path, Path, Path]:
        """In the order in which `load_released` takes them."""
        return self.checkpoint, self.scene, self.flame

    def load(self) -> tuple[Any, ...]:
        """The checkpoint's tuple."""
        content: tuple[Any, ...] = torch.load(self.checkpoint, weights_only=True)
        return content

    def save(self, content: object) -> None:
        """Another content for the checkpoint."""
        self.checkpoint.unlink(missing_ok=True)  # it may be a link to another fixture's
        torch.save(content, self.checkpoint)

    def head(self) -> dict[str, Any]:
        """What `generic_model.pkl` holds."""
        with open(self.flame, "rb") as file:
            content: dict[str, Any] = pickle.load(file)
        return content

    def save_head(self, head: dict[str, Any]) -> None:
        """Another content for `generic_model.pkl`."""
        self.flame.unlink(missing_ok=True)
        with open(self.flame, "wb") as file:
            pickle.dump(head, file, protocol=2)

    def tracked(self) -> dict[str, dict[str, Any]]:
        """What `flame_params.npz` holds, by frame number."""
        with np.load(self.scene / "flame_params.npz", allow_pickle=True) as archive:
            return {key: archive[key].item() for key in archive}

    def copy(self, root: Path) -> Fixture:
        """The same avatar below `root`, whose files may be changed."""
        twin = Fixture(root)
        shutil.copytree(self.scene, twin.scene)
        for ours, theirs in ((self.checkpoint, twin.checkpoint), (self.flame, twin.flame)):
            os.link(ours, theirs)
        return twin


def write_released(
    root: Path,
    *,
    seed: int = 0,
    gaussians: int = 300,
    frames: int = 12,
    stored_degree: int = 2,
    active_degree: int | None = None,
    size: int = 64,
    identity: bool = True,
) -> Fixture:
    """Write everything below `root`; the same arguments give the same values."""
    rng = np.random.default_rng(seed)
    fixture = Fixture(root)
    fixture.scene.mkdir(parents=True)
    head = egg_head(rng)
    fixture.save_head(head)
    face_index, mouth = _write_binding(fixture.scene, rng, head, gaussians)
    tracked = _write_tracking(fixture.scene, rng, frames, len(head["v_template"]))
    _write_first_frame(fixture.scene, head, tracked[0], face_index)
    _write_features(fixture.scene, rng, frames, identity)
    _write_cameras(fixture.scene, frames, size)
    np.save(fixture.scene / "mouth_point_indices.npy", mouth)
    active = stored_degree if active_degree is None else active_degree
    capture = _capture(rng, gaussians, stored_degree, active)
    fixture.save((capture, motion_state(seed), {"state": {}, "param_groups": []}, 20000))
    return fixture


def egg_head(rng: np.random.Generator) -> dict[str, Any]:
    """A head in the layout of FLAME's pickle: V = 302, 300 shape and 100 expression components, 5 joints."""
    vertices, faces = _egg()
    count = len(vertices)
    smooth = np.exp(-((vertices[:, None] - vertices[None]) ** 2).sum(-1) / (2 * 0.03**2))
    smooth /= smooth.sum(1, keepdims=True)

    def basis(components: int, size: float) -> NDArray[np.float32]:
        noise = np.einsum("vu,ukc->vkc", smooth, rng.normal(size=(count, 3, components)))
        return (size * noise).astype(np.float32)

    distance = ((vertices[:, None] - ANCHORS[None]) ** 2).sum(-1)
    weights = np.exp(-distance / (2 * 0.03**2)) + 1e-6
    near = np.argsort(distance, axis=0)[:6]
    regressor = sparse.csc_matrix(
        (np.full(30, 1 / 6), (np.repeat(np.arange(5), 6), near.T.reshape(-1))), shape=(5, count)
    )
    kinematics = np.array([[2**32 - 1, *PARENTS[1:]], range(5)], dtype=np.uint32)
    return {
        "v_template": vertices.astype(np.float32),
        "f": faces.astype(np.uint32),
        "shapedirs": np.concatenate([basis(300, 5e-4), basis(100, 3e-3)], 2),
        "posedirs": basis(36, 2e-3),
        "J_regressor": regressor,
        "kintree_table": kinematics,
        "weights": (weights / weights.sum(1, keepdims=True)).astype(np.float32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def _egg() -> tuple[Doubles, NDArray[np.int64]]:
    """Vertices [302, 3] and faces [600, 3], counter-clockwise seen from outside."""
    ring, segment = np.meshgrid(np.arange(1, RINGS), np.arange(SEGMENTS), indexing="ij")
    polar, azimuth = np.pi * ring / RINGS, 2 * np.pi * segment / SEGMENTS
    sides = np.stack([np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], -1)
    vertices = np.concatenate([sides.reshape(-1, 3), [[0, 1, 0], [0, -1, 0]]]) * RADII
    top, bottom = len(vertices) - 2, len(vertices) - 1
    faces = []
    for j in range(SEGMENTS):
        k = (j + 1) % SEGMENTS
        faces.append((top, j, k))
        for i in range(RINGS - 2):
            a, b = i * SEGMENTS + j, i * SEGMENTS + k
            faces += [(a, a + SEGMENTS, b), (b, a + SEGMENTS, b + SEGMENTS)]
        last = (RINGS - 2) * SEGMENTS
        faces.append((bottom, last + k, last + j))
    return vertices, np.array(faces)


def _write_binding(
    scene: Path, rng: np.random.Generator, head: dict[str, Any], gaussians: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gaussians on random triangles; the mouth's are those low in front."""
    corners = head["v_template"][head["f"]]
    face_index = rng.integers(0, len(corners), gaussians)
    bary = rng.dirichlet(np.ones(3), gaussians)
    center = np.einsum("gk,gkc->gc", bary, corners[face_index])
    mouth = np.flatnonzero((np.abs(center[:, 1] + 0.04) < 0.04) & (center[:, 2] > 0.02))
    np.save(scene / "face_indices.npy", face_index)
    np.save(scene / "bary_coords.npy", bary)
    return face_index, mouth


def _write_tracking(scene: Path, rng: np.random.Generator, frames: int, vertices: int) -> list[dict[str, Any]]:
    shape = rng.normal(size=(1, 300))
    phase = np.linspace(0, 2 * np.pi, frames)
    tracked = []
    for t in range(frames):
        rotation = np.array([[0.02, 0.06 * np.sin(phase[t]), 0.03]])
        jaw = np.array([[0.1 + 0.08 * np.sin(3 * phase[t]), 0.0, 0.0]])
        values = {
            "shape": shape,
            "expression": 0.5 * rng.normal(size=(1, 100)),
            "rotation": rotation,
            "jaw_pose": jaw,
            "neck_pose": np.array([[0.02, 0.01 * np.cos(phase[t]), 0.0]]),
            "eyes_pose": 0.05 * rng.normal(size=(1, 6)),
            "translation": np.array([[0.0, 0.001, 0.003]]),
            "static_offset": 1e-4 * rng.normal(size=(1, vertices, 3)),
            "pose": np.concatenate([rotation, jaw], 1),
        }
        tracked.append({name: value.astype(np.float32) for name, value in values.items()})
    write_tracking(scene, {str(t): values for t, values in enumerate(tracked)})
    return tracked


def write_tracking(scene: Path, entries: dict[str, Any]) -> None:
    """`flame_params.npz`: every entry a pickled object."""
    arrays = {}
    for key, entry in entries.items():
        arrays[key] = np.empty((), dtype=object)
        arrays[key][()] = entry
    np.savez(scene / "flame_params.npz", **arrays)


def _write_first_frame(
    scene: Path, head: dict[str, Any], tracked: dict[str, Any], face_index: NDArray[np.int64]
) -> None:
    """The mesh with the tracked pose, expression and jaw at rest, and the points bound to it."""
    vertices = head_vertices(head, tracked, np.zeros(50), np.zeros(3)).astype(np.float32)
    bary = np.load(scene / "bary_coords.npy")
    points = np.einsum("gk,gkc->gc", bary, vertices[head["f"][face_index]])
    np.save(scene / "vertices.npy", vertices)
    np.save(scene / "model_center.npy", vertices.mean(0))
    write_ply(scene / "points3D.ply", points)


def write_ply(path: Path, points: Doubles, order: str = "<") -> None:
    """Points with normals and colours; `order`: "<", ">" or "" for ASCII."""
    kinds = {"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}
    floats, colours = ("x", "y", "z", "nx", "ny", "nz"), ("red", "green", "blue")
    properties = [f"property float {name}" for name in floats] + [f"property uchar {name}" for name in colours]
    header = ["ply", f"format {kinds[order]} 1.0", "comment made by a test", f"element vertex {len(points)}"]
    text = "\n".join([*header, *properties, "end_header"]) + "\n"
    if order:
        record = np.dtype([(name, order + "f4") for name in floats] + [(name, "u1") for name in colours])
        table = np.zeros(len(points), record)
        for axis, name in enumerate("xyz"):
            table[name] = points[:, axis]
        path.write_bytes(text.encode() + table.tobytes())
        return
    lines = [f"{x:.9g} {y:.9g} {z:.9g} 0 0 0 128 128 128" for x, y, z in points]
    path.write_text(text + "\n".join(lines) + "\n")


def _write_features(scene: Path, rng: np.random.Generator, frames: int, identity: bool) -> None:
    tokens = rng.normal(size=(2 * frames + 16, 768)).astype(np.float32) * 0.5
    windows = np.stack([tokens[2 * f : 2 * f + 16] for f in range(frames)])
    np.save(scene / "aud_w2v.npy", windows)
    logits = rng.normal(size=(frames, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.save(scene / "emotion_features.npy", probabilities.astype(np.float32))
    if identity:
        np.save(scene / "identity_feature.npy", (rng.normal(size=512) / 22).astype(np.float32))
    write_aus(scene, np.round(rng.uniform(0, 3, (frames, 6)), 2))


def write_aus(scene: Path, values: Doubles, columns: tuple[str, ...] = AU_COLUMNS, gap: str = ", ") -> None:
    """`au_features.csv` as OpenFace writes it: most column names start with a space, frames count from 1."""
    lines = [gap.join(("frame", "face_id", "timestamp", "confidence", "success", *columns))]
    for row, aus in enumerate(values):
        lines.append(
            gap.join((str(row + 1), "0", f"{row * 0.04:.3f}", "0.98", "1", *(f"{value:.2f}" for value in aus)))
        )
    (scene / "au_features.csv").write_text("\n".join(lines) + "\n")


def _write_cameras(scene: Path, frames: int, size: int) -> None:
    """A camera in front of the face that swings a little, camera-to-world with OpenGL axes."""
    listed = []
    for t in range(frames):
        angle = 0.06 * t / max(frames - 1, 1)
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = DISTANCE * pose[:3, 2]
        listed.append({"timestep_index": t, "camera_index": 0, "transform_matrix": pose.tolist()})
    focal = FOCAL * size
    top = {"fl_x": focal, "fl_y": focal, "cx": size / 2, "cy": size / 2, "w": size, "h": size}
    write_transforms(scene, {**top, "frames": listed})


def write_transforms(scene: Path, content: dict[str, Any]) -> None:
    (scene / "transforms.json").write_text(json.dumps(content))


def read_transforms(scene: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((scene / "transforms.json").read_text())
    return content


def _capture(rng: np.random.Generator, gaussians: int, stored: int, active: int) -> tuple[Any, ...]:
    def parameter(array: Doubles) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.from_numpy(array.astype(np.float32)))

    return (
        active,
        parameter(0.1 * rng.normal(size=(gaussians, 3))),
        parameter(0.8 * rng.normal(size=(gaussians, 1, 3))),
        parameter(0.2 * rng.normal(size=(gaussians, (stored + 1) ** 2 - 1, 3))),
        parameter(rng.uniform(-1.5, 0.5, (gaussians, 3))),
        parameter(rng.normal(size=(gaussians, 4))),
        parameter(rng.normal(size=(gaussians, 1))),
        torch.zeros(gaussians),
        torch.zeros(gaussians, 1),
        torch.zeros(gaussians, 1),
        {"state": {}, "param_groups": []},
        1.0,
        {"bound": torch.tensor(0.13), "coord_center": torch.zeros(3)},
        None,
    )


def motion_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released `motion_state_dict`, written from the specification."""
    shapes: dict[str, tuple[int, ...]] = {"pos_encoder.pe": (1, 1024, 256)}

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    linear("audio_proj", 768, 256)
    for layer in range(4):
        name = f"audio_transformer.layers.{layer}"
        shapes |= {f"{name}.self_attn.in_proj_weight": (768, 256), f"{name}.self_attn.in_proj_bias": (768,)}
        linear(f"{name}.self_attn.out_proj", 256, 256)
        linear(f"{name}.linear1", 256, 1024)
        linear(f"{name}.linear2", 1024, 256)
        for norm in ("norm1", "norm2"):
            shapes |= {f"{name}.{norm}.weight": (256,), f"{name}.{norm}.bias": (256,)}
    linear("au_encoder.0", 6, 64)
    linear("au_encoder.2", 64, 64)
    linear("au_fusion", 64, 256)
    for stream, width in (("audio_adain", 256), ("au_adain", 64)):
        linear(f"{stream}.0", 512, 256)
        linear(f"{stream}.2", 256, 2 * width)
    for plane in ("xy", "yz", "xz"):
        shapes |= {f"encoder_{plane}.embeddings": (9464, 1), f"encoder_{plane}.offsets": (13,)}
    for index in range(4):
        linear(f"backbone_net.net.{index}", 256, 256, bias=False)
    linear("flame_exp_head", 256, 50)
    linear("flame_jaw_head", 256, 3)
    for index in range(2):
        linear(f"residual_net.net.{index}", 256, 256, bias=False)
    linear("residual_motion_head", 256, 53)
    linear("gate_net.0", 256, 128)
    linear("gate_net.2", 128, 1)
    linear("emotion_head", 256, 7)
    for index, inputs in enumerate((292, 64, 64)):
        linear(f"mouth_mlp.net.{index}", inputs, 64, bias=False)
    linear("mouth_head", 64, 10)
    return shapes


def motion_state(seed: int) -> dict[str, torch.Tensor]:
    """Random values for every tensor, of sizes that keep the motion small."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in motion_shapes().items():
        if name.endswith("offsets"):
            state[name] = torch.tensor(_grid_offsets(), dtype=torch.int32)
        elif "norm" in name or name.endswith("embeddings"):
            values = 0.1 * torch.randn(shape, generator=generator)
            state[name] = values + 1 if name.endswith("weight") else values
        elif name == "pos_encoder.pe":
            state[name] = _positions(1024, 256)
        else:
            state[name] = torch.randn(shape, generator=generator) / (shape[1] ** 0.5 if len(shape) > 1 else 10)
    for name in ("flame_jaw_head.weight", "flame_jaw_head.bias"):
        state[name] *= 0.05
    for name in ("residual_motion_head.weight", "residual_motion_head.bias"):
        state[name][50:] *= 0.05
    return state


def _positions(count: int, width: int) -> torch.Tensor:
    angle = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(1, count, width)


def _grid_offsets() -> list[int]:
    """First row of each level: (resolution + 1)² rows, rounded up to 8."""
    rows = [0]
    for level in range(12):
        resolution = int(np.ceil((38.4 / 16) ** (level / 11) * 16 - 1)) + 1
        rows.append(rows[-1] + -(-((resolution + 1) ** 2) // 8) * 8)
    return rows
