"""A contact sheet of identities and emotions, to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...plugins.camera import Camera
from ...runtime.errors import OutputError
from ...runtime.manifest import ACTION_UNITS
from ..corpus import LOOKS, upper_face
from .corpus import CorpusOptions, renderer_of
from .encode import encode_picture
from .figure import Pose, Skin, anny_head
from .mesh_renderer import MeshRenderer
from .motion import held_manner
from .noise import Doubles
from .takes import LEVELS, Take, camera_of

__all__ = ["emotion_pose", "save_sheet"]

_CELL = 256
_OPEN_JAW = 0.20
Floats = NDArray[np.float32]


def emotion_pose(emotion: str, intensity: float, rest_jaw: float = 0.0, jaw: float = 0.0) -> Pose:
    """A silent head in an emotion at 0…1, its jaw opened by `jaw` (rad)."""
    names = anny_head().expression_names
    look = LOOKS[emotion]
    units = np.zeros((1, len(ACTION_UNITS)), np.float32)
    for unit, height in look.aus.items():
        units[0, ACTION_UNITS.index(unit)] = height * intensity
    tracks = {name: float(value[0]) for name, value in upper_face(units).items()}
    expression = np.zeros(len(names), np.float32)
    for name in names:
        expression[names.index(name)] = tracks.get(name, 0.0) + intensity * look.mouth.get(name, 0.0)
    lean, gaze = held_manner(emotion, intensity)
    eyes = np.array([gaze[0] - 0.8 * lean[0], gaze[1] - 0.8 * lean[1], 0], np.float32)
    return Pose(
        expression=np.clip(expression, 0, 1),
        jaw=np.array([rest_jaw + jaw, 0, 0], np.float32),
        rotation=(0.3 * lean).astype(np.float32),
        neck=(0.7 * lean).astype(np.float32),
        eyes=np.concatenate([eyes, eyes]),
        translation=np.zeros(3, np.float32),
    )


def save_sheet(path: Path, options: CorpusOptions, progress: bool = False) -> None:
    """A row for each identity: front, side, mouth open, then the emotions, the levels rising from row to row.

    Raises `OutputError` if the file cannot be written.
    """
    small = replace(options, size=_CELL)
    people = range(options.first, options.first + options.identities)
    rows = []
    for row, identity in enumerate(tqdm(people, unit="person", disable=not progress)):
        rows.append(_row(small, identity, sorted(LEVELS)[row % len(LEVELS)]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_picture(np.vstack(rows), "png"))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


def _row(options: CorpusOptions, identity: int, level: int) -> NDArray[np.uint8]:
    take = Take(options.seed, identity, "neutral", 0, 0)
    renderer = renderer_of(take, options)
    camera = camera_of(take, options.size)
    figure = renderer.figure
    calm = emotion_pose("neutral", 0.0, figure.rest_jaw)
    cells = [_cell(renderer, calm, camera)]
    for angle in (35, 80):
        cells.append(_cell(renderer, calm, _turned(camera, np.radians(angle))))
    cells.append(_cell(renderer, emotion_pose("neutral", 0.0, figure.rest_jaw, _OPEN_JAW), camera))
    for emotion in options.emotions:
        if emotion != "neutral":
            pose = emotion_pose(emotion, LEVELS[level], figure.rest_jaw)
            skin = None if options.still_skin else figure.skin(pose, emotion, LEVELS[level])
            cells.append(_cell(renderer, pose, camera, skin))
    return np.hstack(cells)


def _cell(renderer: MeshRenderer, pose: Pose, camera: Camera, skin: Skin | None = None) -> NDArray[np.uint8]:
    return renderer.draw(renderer.figure.vertices(pose), camera, skin).rgb


def _turned(camera: Camera, angle: float) -> Camera:
    """The camera carried round the head's vertical axis."""
    turn = np.eye(4)
    turn[:3, :3] = _about_y(angle)
    return replace(camera, view=camera.view @ turn)


def _about_y(angle: float) -> Doubles:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
