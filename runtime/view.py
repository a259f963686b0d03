"""How an avatar is looked at: around it, nearer, at another point, in another size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from ..plugins import Camera
from .errors import ControlError
from .numbers import as_number, as_numbers

_MOST_ZOOM = 50.0

Rows = list[list[float]]  # of a matrix: numbers of Python, which for so few are faster than numpy's


class View:
    """`Avatar.camera`: changes to the recorded camera, or to one that was set. Each method returns the view itself.

    Angles are degrees and absolute: a second `orbit` replaces the first. All of it may be set at any time.
    """

    def __init__(self, resize: WeakMethod[Callable[[int, int], None]], size: tuple[int, int]) -> None:
        """resize: of the avatar, which owns this view and must not be kept alive by it. size: of its picture."""
        self._resize, self._pixels = resize, size
        self._base: Camera | None = None
        self._turn: Rows | None = None
        self._zoom = 1.0
        self._aim: tuple[float, ...] | None = None

    @property
    def base(self) -> Camera | None:
        """The camera that was set; None is the recorded one, which moves with the cues."""
        return self._base

    def use(self, camera: Camera | None) -> View:
        """Looks through `camera`; None goes back to the recorded one. Orbit, zoom and aim stay. Raises ControlError."""
        if camera is not None:
            if not isinstance(camera, Camera):
                raise ControlError(f"camera is {type(camera).__name__}: set an emotag.plugins.Camera, or None")
            if (camera.width, camera.height) != self._pixels:
                width, height = self._pixels
                raise ControlError(
                    f"camera is {camera.width}x{camera.height}, the avatar {width}x{height}: "
                    "make the camera of that size, or the avatar with width= and height="
                )
        self._base = camera
        return self

    def orbit(self, yaw: float, pitch: float = 0.0) -> View:
        """Goes around the head: yaw to the camera's right, pitch upwards, both in degrees.

        yaw from -180 to 180, pitch from -89 to 89. Raises ControlError.
        """
        yaw, pitch = _number("yaw", yaw, -180, 180), _number("pitch", pitch, -89, 89)
        self._turn = _turn(yaw, pitch) if yaw or pitch else None
        return self

    def zoom(self, factor: float) -> View:
        """Enlarges the middle of the picture by `factor`, 1/50 to 50. Raises ControlError."""
        self._zoom = _number("zoom", factor, 1 / _MOST_ZOOM, _MOST_ZOOM)
        return self

    def look_at(self, point: Any) -> View:
        """Turns the camera, where it stands, until `point` [3] (metres) is in the middle; None looks as recorded.

        Raises ControlError.
        """
        self._aim = None if point is None else _point("look_at", point)
        return self

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        return self._pixels

    @resolution.setter
    def resolution(self, size: tuple[int, int]) -> None:
        try:
            width, height = size
        except (TypeError, ValueError):
            raise ControlError(f"resolution {size!r} is not (width, height)") from None
        resize = self._resize()
        if resize is None:
            raise ControlError("the avatar of this camera is gone: keep a reference to it")
        resize(width, height)
        before, self._pixels = self._pixels, (width, height)
        if self._base is not None and before != self._pixels:
            self._base = resized(self._base, width, height)

    def reset(self) -> View:
        """Back to the recorded camera, unturned; the resolution stays."""
        self._base, self._turn, self._zoom, self._aim = None, None, 1.0, None
        return self

    @property
    def plain(self) -> bool:
        """Whether nothing but another camera was asked for."""
        return self._turn is None and self._zoom == 1.0 and self._aim is None

    def of(self, recorded: Camera, pivot: NDArray[Any]) -> Camera:
        """The camera to draw with. recorded: of this frame's cue. pivot: [3] metres, what `orbit` goes around."""
        camera = self._base or recorded
        turn, zoom, aim = self._turn, self._zoom, self._aim
        if turn is None and aim is None:
            return camera if zoom == 1.0 else camera.moved(camera.view, zoom)
        *view, last = camera.view.tolist()
        if turn is not None:
            view = _orbited(view, pivot.tolist(), turn)
        if aim is not None:
            view = _aimed(view, aim, camera)
        return camera.moved(np.array([*view, last]), zoom)


def resized(camera: Camera, width: int, height: int) -> Camera:
    """A camera whose picture is fitted into another size without distortion."""
    scale = min(width / camera.width, height / camera.height)
    return Camera(
        view=camera.view,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=camera.cx * scale + (width - scale * camera.width) / 2,
        cy=camera.cy * scale + (height - scale * camera.height) / 2,
        width=width,
        height=height,
    )


def _turn(yaw: float, pitch: float) -> Rows:
    """[3, 3] by which the world turns when the camera goes around it: the other way. x is right, y down."""
    y, p = math.radians(yaw), math.radians(-pitch)
    cy, sy, cp, sp = math.cos(y), math.sin(y), math.cos(p), math.sin(p)
    return [[cy, 0.0, sy], [-sp * sy, cp, sp * cy], [-cp * sy, -sp, cp * cy]]


def _turned(view: Rows, turn: Rows) -> Rows:
    """turn [3, 3] times view [3, 4]."""
    columns = list(zip(*view, strict=True))
    return [[a * x + b * y + c * z for x, y, z in columns] for a, b, c in turn]


def _orbited(view: Rows, pivot: list[float], turn: Rows) -> Rows:
    """`view` [3, 4] after the camera has gone around `pivot`."""
    px, py, pz = pivot
    seen = [a * px + b * py + c * pz + place for a, b, c, place in view]
    around = [[a, b, c, place - middle] for (a, b, c, place), middle in zip(view, seen, strict=True)]
    return [[a, b, c, place + middle] for (a, b, c, place), middle in zip(_turned(around, turn), seen, strict=True)]


def _aimed(view: Rows, point: tuple[float, ...], camera: Camera) -> Rows:
    """`view` [3, 4] after the camera turned in place, the shortest way, until `point` is in the picture's middle."""
    px, py, pz = point
    sx, sy, sz = (a * px + b * py + c * pz + place for a, b, c, place in view)
    distance = math.sqrt(sx * sx + sy * sy + sz * sz)
    if distance < 1e-6:
        return view  # the point is the camera itself: every direction is as good
    sx, sy, sz = sx / distance, sy / distance, sz / distance
    gx, gy = (camera.width / 2 - camera.cx) / camera.fx, (camera.height / 2 - camera.cy) / camera.fy
    length = math.sqrt(gx * gx + gy * gy + 1)
    gx, gy, gz = gx / length, gy / length, 1 / length
    cosine = sx * gx + sy * gy + sz * gz
    if cosine < -0.999999:
        turn = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]  # no way is the shortest: about the vertical
    else:
        # Rodrigues: I + [c] + [c]²/(1 + cosine), c = start × goal; written out, as this runs every frame.
        cx, cy, cz = sy * gz - sz * gy, sz * gx - sx * gz, sx * gy - sy * gx
        k = 1 / (1 + cosine)
        turn = [
            [cosine + k * cx * cx, k * cx * cy - cz, k * cx * cz + cy],
            [k * cx * cy + cz, cosine + k * cy * cy, k * cy * cz - cx],
            [k * cx * cz - cy, k * cy * cz + cx, cosine + k * cz * cz],
        ]
    return _turned(view, turn)


def _number(what: str, value: Any, low: float, high: float) -> float:
    number = as_number(value)
    if number is None:
        raise ControlError(f"{what} {value!r} is not a number")
    if not low <= number <= high:
        raise ControlError(f"{what} {value!r} is not from {low:g} to {high:g}")
    return number


def _point(what: str, value: Any) -> tuple[float, ...]:
    numbers = as_numbers(value)
    if numbers is None or len(numbers) != 3 or not all(abs(number) < 1e4 for number in numbers):
        raise ControlError(f"{what} {value!r} is not a point of three numbers, in metres")
    return numbers
