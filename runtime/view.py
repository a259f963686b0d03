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

_MOST_ZOOM = 50.0


class View:
    """`Avatar.camera`: changes to the recorded camera, or to one that was set. Each method returns the view itself.

    Angles are degrees and absolute: a second `orbit` replaces the first. All of it may be set at any time.
    """

    def __init__(self, resize: WeakMethod[Callable[[int, int], None]], size: tuple[int, int]) -> None:
        """resize: of the avatar, which owns this view and must not be kept alive by it. size: of its picture."""
        self._resize, self._pixels = resize, size
        self._base: Camera | None = None
        self._turn = (0.0, 0.0)
        self._zoom = 1.0
        self._aim: NDArray[np.float64] | None = None

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
        self._turn = _number("yaw", yaw, -180, 180), _number("pitch", pitch, -89, 89)
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
        self._base, self._turn, self._zoom, self._aim = None, (0.0, 0.0), 1.0, None
        return self

    @property
    def plain(self) -> bool:
        """Whether nothing but another camera was asked for."""
        return self._turn == (0.0, 0.0) and self._zoom == 1.0 and self._aim is None

    def of(self, recorded: Camera, pivot: NDArray[Any]) -> Camera:
        """The camera to draw with. recorded: of this frame's cue. pivot: [3] metres, what `orbit` goes around."""
        camera = self._base or recorded
        turn, zoom, aim = self._turn, self._zoom, self._aim
        if turn == (0.0, 0.0) and zoom == 1.0 and aim is None:
            return camera
        view = camera.view
        if turn != (0.0, 0.0):
            view = _orbited(view, np.asarray(pivot, np.float64), *turn)
        if aim is not None:
            view = _aimed(view, aim, camera)
        middle_x, middle_y = camera.width / 2, camera.height / 2
        return Camera(
            view=view,
            fx=camera.fx * zoom,
            fy=camera.fy * zoom,
            cx=middle_x + zoom * (camera.cx - middle_x),
            cy=middle_y + zoom * (camera.cy - middle_y),
            width=camera.width,
            height=camera.height,
        )


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


def _orbited(view: NDArray[np.float64], pivot: NDArray[np.float64], yaw: float, pitch: float) -> NDArray[np.float64]:
    """`view` after the camera has gone around `pivot`. In its axes (x right, y down) the world turns the other way."""
    y, p = math.radians(yaw), math.radians(-pitch)
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    turn = about_x.T @ about_y
    seen = view[:3, :3] @ pivot + view[:3, 3]
    out = np.eye(4)
    out[:3, :3] = turn @ view[:3, :3]
    out[:3, 3] = turn @ (view[:3, 3] - seen) + seen
    return out


def _aimed(view: NDArray[np.float64], point: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """`view` after the camera has turned in place by the shortest way until `point` is in the middle of the picture."""
    seen = view[:3, :3] @ point + view[:3, 3]
    distance = np.linalg.norm(seen)
    middle = np.array([(camera.width / 2 - camera.cx) / camera.fx, (camera.height / 2 - camera.cy) / camera.fy, 1.0])
    if distance < 1e-6:
        return view  # the point is the camera itself: every direction is as good
    start, goal = seen / distance, middle / np.linalg.norm(middle)
    cross, cosine = np.cross(start, goal), float(start @ goal)
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    behind = cosine < -0.999999  # no way is the shortest: turn about the vertical
    turn = np.diag([-1.0, 1.0, -1.0]) if behind else np.eye(3) + skew + skew @ skew / (1 + cosine)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn @ view[:3, :3], turn @ view[:3, 3]
    return out


def _number(what: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise ControlError(f"{what} {value!r} is not a number")
    if not low <= float(value) <= high:
        raise ControlError(f"{what} {value!r} is not from {low:g} to {high:g}")
    return float(value)


def _point(what: str, value: Any) -> NDArray[np.float64]:
    try:
        point = np.array(value, np.float64)
    except (TypeError, ValueError):
        point = np.zeros(0)
    if point.shape != (3,) or not (np.abs(point) < 1e4).all():
        raise ControlError(f"{what} {value!r} is not a point of three numbers, in metres")
    return point
