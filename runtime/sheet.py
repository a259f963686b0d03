"""A sheet to look at: every emotion at three levels, and the head from -60° to +60°, of one moment of a speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .avatar import Avatar
from .cues import LEFT_EYE, RIGHT_EYE
from .emotion import CALM, LEVELS, NAMES, NEUTRAL, Emotion
from .errors import ControlError
from .frame import Frame
from .hearing import Hearing
from .lettering import letter
from .manifest import ACTION_UNITS
from .model import Model

Picture = NDArray[np.uint8]
CELL = 192  # pixels
VIEWS = ((-60, 0), (-30, 0), (0, 0), (30, 0), (60, 0), (0, 25))
_SECONDS = 6.0  # of the speech, in which the sheet's moment is looked for
_COLUMNS = 2 * LEVELS
_NEAR = 1.7  # zoom on the face that feels
_SMALL = 16  # pixels of pictures that nobody looks at
_LABEL = 18  # pixels above a cell
_BLINK = ACTION_UNITS.index("AU45")


def sheet(model: Model, sound: str | Path, size: int = CELL, downmix: bool = False) -> Picture:
    """Two classes a row at levels 1, 2, 3, then a row of views; uint8 [H, W, 3].

    A network that cannot be steered shows the emotion of the audio alone. Raises AudioError.
    """
    hearing = Hearing(model, sound, downmix=downmix)
    moment = _moment(list(_first(Avatar(model, width=_SMALL, height=_SMALL).render(hearing, progress=False))), model)
    avatar = Avatar(model, width=size, height=size)
    cells = []
    avatar.camera.zoom(_NEAR).look_at(_face(model, avatar))
    for name in _classes(model):
        for level in range(1, LEVELS + 1):
            avatar.emotion = None if name == "audio" else Emotion(name, level=level)
            cells.append((f"{name} {level}", _at(avatar, hearing, moment)))
    avatar.emotion = None
    avatar.camera.reset()
    while len(cells) % _COLUMNS:
        cells.append(("", np.full((size, size, 3), 255, np.uint8)))
    for yaw, pitch in VIEWS:
        avatar.camera.orbit(yaw, pitch)
        label = f"up {pitch}°" if pitch else f"{yaw:+d}°"
        cells.append((label, _at(avatar, hearing, moment)))
    return tiled(cells, _COLUMNS)


def grid(model: Model, sound: str | Path, size: int = CELL, downmix: bool = False) -> Iterator[Frame]:
    """Frames whose picture is all classes at level 3, and the head at -30° and +30°. Raises AudioError."""
    wishes = [(name, 0) for name in _classes(model)] + [("audio", -30), ("audio", 30)]
    columns = -(-len(wishes) // 2)
    hearing = Hearing(model, sound, downmix=downmix, listeners=len(wishes))
    voices = []
    for name, yaw in wishes:
        avatar = Avatar(model, width=size, height=size)
        avatar.camera.orbit(yaw)
        avatar.emotion = None if name == "audio" else Emotion(name)
        voices.append(avatar.render(hearing, progress=False))
    for frames in zip(*voices, strict=True):
        labels = [name if not yaw else f"{yaw:+d}°" for name, yaw in wishes]
        picture = tiled([(label, frame.rgb) for label, frame in zip(labels, frames, strict=True)], columns)
        height, width = (side - side % 2 for side in picture.shape[:2])  # H.264 halves the colours
        yield replace(frames[0], rgb=np.ascontiguousarray(picture[:height, :width]), alpha=None)


def tiled(cells: Sequence[tuple[str, Picture]], columns: int) -> Picture:
    """Labelled pictures of one size in rows of `columns`, on white."""
    height, width = cells[0][1].shape[:2]
    rows = -(-len(cells) // columns)
    out = np.full((rows * (height + _LABEL), columns * width, 3), 255, np.uint8)
    for number, (label, picture) in enumerate(cells):
        top, left = number // columns * (height + _LABEL), number % columns * width
        letter(out, label, left + 4, top + 3)
        out[top + _LABEL : top + _LABEL + height, left : left + width] = picture
    return out


def _classes(model: Model) -> list[str]:
    spec = model.manifest.motion
    if not spec.steerable:
        return ["audio"]
    order = [name for name in NAMES if name in spec.emotions and name not in (NEUTRAL, CALM)]
    return [NEUTRAL, *order]


def _face(model: Model, avatar: Avatar) -> NDArray[np.float64]:
    """[3] metres: half an eyes' distance below the middle of the head, so that the chin is in the picture too."""
    left, right = model.scene.head.joints[[LEFT_EYE, RIGHT_EYE]].astype(np.float64)
    face = avatar.head_middle
    face[1] -= 0.5 * float(np.linalg.norm(left - right))
    return face


def _first(frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame.index >= _SECONDS * 25:
            return


def _moment(frames: Sequence[Frame], model: Model) -> int:
    """The frame with open eyes whose jaw is nearest to a third of the widest: it speaks and can still feel."""
    if not frames:
        raise ControlError("a sheet needs speech of at least one frame")
    jaw = np.array([np.linalg.norm(frame.jaw) for frame in frames])
    blink = np.array([model.cues.cues.aus[model.cues.at(frame.index), _BLINK] for frame in frames])
    return int(np.argmin(np.abs(jaw - jaw.max() / 3) + 10 * (blink > 0.5)))


def _at(avatar: Avatar, hearing: Hearing, moment: int) -> Picture:
    """The picture of one frame."""
    frames = avatar.render(hearing, progress=False, start=moment)
    try:
        for frame in frames:
            return frame.rgb
    finally:
        avatar.reset()
    raise ControlError(f"the speech has no frame {moment}")
