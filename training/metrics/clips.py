"""What is measured: a clip's pictures and per-frame tracks, from a scene, a video, a folder or an `.npz`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...runtime.manifest import FRAME_RATE
from ..released_scene import load_action_units
from ..scenes import Scene, open_scene
from ..scenes.listing import is_scene
from ..scenes.pictures import read_rgb
from ..scenes.sound import find_sound
from ..scenes.timing import video_rate
from .errors import MetricError
from .face import LOWER_AUS, UPPER_AUS
from .landmarks import lip_gap

__all__ = ["Clip", "open_clip"]

Pixels = NDArray[np.uint8]

TRACKS = {  # name → numbers a frame
    "expression": None, "jaw": 3, "rotation": 3, "translation": 3, "emotion": 7, "emotion_logits": 7,
    "landmarks": None, "lip_gap": 0, "valence": 0, "arousal": 0, "gate": None,
}  # fmt: skip
_VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm"})
_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_ALL_AUS = tuple(sorted(LOWER_AUS + UPPER_AUS))
_HEAVY = ("frames", "render_rgb")
_KEPT = 8  # of a video's last frames, so that windows that overlap need no second decoding


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip. Row t of every track belongs to frame t; pictures may be there of some frames only."""

    name: str
    frame_rate: float
    tracks: dict[str, NDArray[Any]] = field(default_factory=dict)  # see `TRACKS`
    picture_rows: tuple[int, ...] = ()  # frames that have a picture
    read: Callable[[int], Pixels] | None = None  # frame → RGB [H, W, 3]
    mask: Callable[[int], NDArray[np.float32]] | None = None  # frame → head coverage [H, W]
    action_units: Path | None = None  # OpenFace's CSV
    sound: Path | None = None
    test_rows: tuple[int, ...] | None = None  # of a scene: the frames held out
    train_rows: tuple[int, ...] | None = None
    level: float | None = None

    def track(self, name: str) -> NDArray[Any]:
        """A track by name; emotion also from logits, the lips' gap also from landmarks. Raises MetricError."""
        if name in self.tracks:
            return self.tracks[name]
        if name == "emotion" and "emotion_logits" in self.tracks:
            logits = self.tracks["emotion_logits"].astype(np.float64)
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            return np.asarray(raised / raised.sum(axis=1, keepdims=True))
        if name == "lip_gap" and "landmarks" in self.tracks:
            return lip_gap(self.tracks["landmarks"])
        raise MetricError(f"{self.name} has no {name.replace('_', ' ')}")

    def units(self) -> dict[str, NDArray[Any]]:
        """OpenFace's 17 AUs, name → [T]. Raises MetricError if there is no CSV that has them all."""
        if self.action_units is None:
            raise MetricError(f"{self.name} has no OpenFace CSV: run `FeatureExtraction -f VIDEO -aus` on it")
        try:
            values = load_action_units(self.action_units, _ALL_AUS)
        except CheckpointError as error:
            raise MetricError(str(error)) from error
        return dict(zip(_ALL_AUS, values.T, strict=True))


def open_clip(path: str | Path) -> Clip:
    """A scene, a video, an `.npz` of tracks (`emotag-render --dump`), a folder of pictures, or a folder of such files.

    Raises:
        MetricError: none of these. CheckpointError: a scene that cannot be read.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _from_npz(path)
    if path.is_file() and path.suffix.lower() in _VIDEOS:
        return _from_video(path)
    if path.is_dir() and is_scene(path):
        return _from_scene(open_scene(path))
    if path.is_dir():
        return _from_folder(path)
    raise MetricError(f"{path}: no scene, video, .npz or folder of pictures; check the path")


def _from_scene(scene: Scene) -> Clip:
    """The first camera's pictures and the tracked head."""
    first = min(picture.camera_index for picture in scene.pictures)
    shots = {picture.row: picture for picture in scene.pictures if picture.camera_index == first}
    tracks: dict[str, NDArray[Any]] = {
        "expression": scene.head.expression,
        "jaw": scene.head.jaw_pose,
        "rotation": scene.head.rotation,
        "translation": scene.head.translation,
    }
    if scene.emotion is not None:
        tracks["emotion"] = scene.emotion
    marked = [row for row in shots if shots[row].landmark_path is not None]
    if len(marked) == scene.rows:
        tracks["landmarks"] = np.stack([shots[row].landmarks() for row in sorted(marked)])
    csv = scene.folder / "au_features.csv"
    rows = [{scene.pictures[i].row for i in part} for part in (scene.split.train, scene.split.test)]
    return Clip(
        name=scene.folder.name,
        frame_rate=FRAME_RATE,
        tracks=tracks,
        picture_rows=tuple(row for row in sorted(shots) if shots[row].path.is_file()),
        read=lambda row: shots[row].rgb(),
        mask=(lambda row: shots[row].mask()) if any(shot.mask_path for shot in shots.values()) else None,
        action_units=csv if csv.is_file() else None,
        sound=scene.sound,
        train_rows=tuple(sorted(rows[0])),
        test_rows=tuple(sorted(rows[1])),
    )


def _from_npz(path: Path) -> Clip:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            tracks = {name: np.asarray(archive[name]) for name in TRACKS if name in names}
            heavy = next((name for name in _HEAVY if name in names), None)
            pictures = None if heavy is None else np.asarray(archive[heavy])
            rows = archive["render_frames"].tolist() if heavy == "render_rgb" and "render_frames" in names else None
            rate = float(archive["frame_rate"]) if "frame_rate" in names else float(FRAME_RATE)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise MetricError(f"{path}: not an .npz of tracks ({error})") from error
    for name, values in tracks.items():
        _check_track(path, name, values)
    clip = Clip(path.name, rate, tracks)
    if pictures is None:
        return clip
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise MetricError(f"{path}: its pictures have the shape {pictures.shape}, they should be [R, H, W, 3]")
    where = {int(row): index for index, row in enumerate(range(len(pictures)) if rows is None else rows)}
    return replace(clip, picture_rows=tuple(sorted(where)), read=lambda row: _eight_bits(pictures[where[row]]))


def _check_track(path: Path, name: str, values: NDArray[Any]) -> None:
    size = TRACKS[name]
    fits = values.ndim == 1 if size == 0 else (values.ndim >= 2 and size in (None, values.shape[1]))
    if name == "gate":
        fits = values.ndim in (1, 2)
    if values.dtype.kind not in "fiu" or not fits or not np.isfinite(values).all():
        raise MetricError(f"{path}: {name} has the shape {values.shape} or is not finite; see docs/metrics.md")


def _eight_bits(picture: NDArray[Any]) -> Pixels:
    """As a frame is shown: clamped and truncated to 8 bits."""
    if picture.dtype == np.uint8:
        return picture
    shown: Pixels = (picture.clip(0, 1) * 255).astype(np.uint8)
    return shown


def _from_video(path: Path) -> Clip:
    rate = video_rate(path)
    reader = _VideoReader(path)
    if rate is None or reader.count == 0:
        raise MetricError(f"{path}: has no pictures that can be decoded")
    return Clip(path.name, rate, picture_rows=tuple(range(reader.count)), read=reader.read, sound=path)


class _VideoReader:
    """Frames in the order of a video; asking for an earlier one starts again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._frames: Iterator[Pixels] = iter(())
        self._kept: dict[int, Pixels] = {}
        try:
            with av.open(str(path)) as file:
                self.count = sum(packet.size > 0 for packet in file.demux(video=0))
        except (av.FFmpegError, OSError, IndexError) as error:
            raise MetricError(f"{path}: not a video that can be read ({error})") from error

    def read(self, row: int) -> Pixels:
        """Frame `row`, RGB [H, W, 3]. Raises MetricError if the video ends before it."""
        if row in self._kept:
            return self._kept[row]
        if row < self._next or self._next == 0:
            self._next, self._frames = 0, self._decode()
            self._kept.clear()
        for picture in self._frames:
            self._kept[self._next] = picture
            self._kept.pop(self._next - _KEPT, None)
            self._next += 1
            if self._next > row:
                return picture
        raise MetricError(f"{self._path}: ends before frame {row}")

    def _decode(self) -> Iterator[Pixels]:
        with av.open(str(self._path)) as file:
            for frame in file.decode(video=0):
                picture: Pixels = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                yield picture


def _from_folder(folder: Path) -> Clip:
    """A folder of numbered pictures, or one with `*.npz`, a video or `frames/`, and OpenFace's CSV and sound beside."""
    numbered = _numbered(folder) or _numbered(folder / "frames")
    tracks = sorted(folder.glob("*.npz"))
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in _VIDEOS)
    if len(tracks) > 1 or len(videos) > 1:
        raise MetricError(f"{folder}: holds several .npz files or videos; pass the one that is meant")
    if not (numbered or tracks or videos):
        raise MetricError(f"{folder}: holds neither pictures named by number, nor an .npz, nor a video")
    clip = _from_npz(tracks[0]) if tracks else Clip(folder.name, FRAME_RATE)
    if numbered:
        clip = replace(clip, picture_rows=tuple(sorted(numbered)), read=lambda row: read_rgb(numbered[row]))
    elif videos:
        video = _from_video(videos[0])
        clip = replace(clip, picture_rows=video.picture_rows, read=video.read, frame_rate=video.frame_rate)
    csv, sound = folder / "au_features.csv", find_sound(folder) or (videos[0] if videos else None)
    return replace(clip, name=folder.name, action_units=csv if csv.is_file() else None, sound=sound)


def _numbered(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    files = [path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.stem.isdecimal()]
    return {int(path.stem): path for path in files}
