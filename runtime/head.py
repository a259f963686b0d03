"""What a caller adds to the recorded head: a pose, a gaze, expressions by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..plugins import Camera
from .cues import LEFT_EYE, NECK, RIGHT_EYE, ROTATION, Stance
from .easing import Eased, EasedArray
from .errors import ControlError
from .graphs import Float
from .numbers import as_number, as_numbers

Vector = tuple[float, float, float]

POSE_SECONDS, GAZE_SECONDS, BLEND_SECONDS = 0.15, 0.08, 0.08
_LARGEST_BLEND = 3.0
_GAZE_YAW, _GAZE_PITCH = 40.0, 30.0  # degrees that eyes turn


@dataclass(frozen=True)
class HeadPose:
    """A head pose in place of the recorded one; what is None stays recorded.

    rotation, neck: axis-angle in radians [3]. translation: metres [3].
    """

    rotation: Vector | None = None
    neck: Vector | None = None
    translation: Vector | None = None


def check_pose(value: Any) -> HeadPose | None:
    """A pose from what a caller gave: a `HeadPose`, a rotation [3], or None. Raises ControlError."""
    if value is None:
        return None
    rotation, neck, translation = value, None, None
    if isinstance(value, HeadPose):
        rotation, neck, translation = value.rotation, value.neck, value.translation
    return HeadPose(
        _vector("pose.rotation", rotation, 2 * math.pi),
        _vector("pose.neck", neck, 2 * math.pi),
        _vector("pose.translation", translation, 10.0),
    )


def _vector(what: str, value: Any, limit: float) -> Vector | None:
    if value is None:
        return None
    numbers = as_numbers(value)
    if numbers is None or len(numbers) != 3:
        raise ControlError(f"{what} {value!r} is not three numbers")
    x, y, z = numbers
    if not (abs(x) <= limit and abs(y) <= limit and abs(z) <= limit):
        raise ControlError(f"{what} {value!r} is not within {limit:.4g} of 0")
    return x, y, z


class Poser:
    """Eases between the recorded pose and the caller's."""

    def __init__(self) -> None:
        self.pose: HeadPose | None = None
        self._given = False
        self._eased = Eased(12, POSE_SECONDS)  # three vectors times their weight, and the three weights

    @property
    def eased(self) -> Eased:
        return self._eased

    def set(self, value: Any) -> None:
        """Raises ControlError."""
        pose = check_pose(value)
        parts = (None,) * 3 if pose is None else (pose.rotation, pose.neck, pose.translation)
        vectors = [number for part in parts for number in part or (0.0, 0.0, 0.0)]
        weights = [0.0 if part is None else 1.0 for part in parts]
        self.pose, self._given = pose, any(weights)
        self._eased.aim(vectors + weights)

    def apply(self, stance: Stance) -> None:
        """Writes into a stance. Once a frame."""
        if self._eased.still and not self._given:
            return
        rx, ry, rz, nx, ny, nz, tx, ty, tz, *weights = self._eased.advance()
        _mix(stance.joints[ROTATION], weights[0], (rx, ry, rz))
        _mix(stance.joints[NECK], weights[1], (nx, ny, nz))
        _mix(stance.translation, weights[2], (tx, ty, tz))


def _mix(part: Float, weight: float, given: Vector) -> None:
    """Takes a weight's share from a recorded vector [3], in place, and adds what was given times the weight."""
    if weight:
        x, y, z = part.tolist()
        rest = 1 - weight
        part[:] = rest * x + given[0], rest * y + given[1], rest * z + given[2]


class Gaze:
    """Eases between the recorded gaze and a direction, or a point that the eyes hold while the head moves."""

    def __init__(self, eyes: Float) -> None:
        """eyes: [2, 3] centres of the eyeballs at rest, metres."""
        self.wish: Any = None
        self._middle: Vector = tuple(eyes.mean(axis=0).tolist())
        self._angles: tuple[float, float] | None = None
        self._point: Vector | None = None
        self._eased = Eased(3, GAZE_SECONDS)  # rotation about x and y, times its weight, and the weight
        self._fresh = True

    def reset(self) -> None:
        """The next frame looks where it wants to at once."""
        self._fresh = True

    def set(self, value: Any) -> None:
        """None, "camera", (yaw, pitch) in degrees from ahead, or a point [3] in metres. Raises ControlError."""
        angles, point = None, None
        if value is not None and not (isinstance(value, str) and value == "camera"):
            numbers = as_numbers(value) or ()
            if len(numbers) not in (2, 3) or not all(abs(number) < 1e4 for number in numbers):
                raise ControlError(
                    f'gaze {value!r} is neither "camera", nor (yaw, pitch) in degrees, nor a point [3] in metres, '
                    "nor None"
                )
            if len(numbers) == 2:
                if abs(numbers[0]) > _GAZE_YAW or abs(numbers[1]) > _GAZE_PITCH:
                    raise ControlError(f"gaze {value!r}: eyes turn {_GAZE_YAW:g}° aside, {_GAZE_PITCH:g}° up or down")
                angles = -math.radians(numbers[1]), math.radians(numbers[0])
            else:
                point = numbers[0], numbers[1], numbers[2]
            value = numbers
        self.wish, self._angles, self._point = value, angles, point
        if value is None:
            self._eased.aim((0.0, 0.0, 0.0))

    def apply(self, stance: Stance, camera: Camera) -> None:
        """Writes into a stance, towards a camera or what else was wished for. Once a frame, after the pose is final."""
        if self.wish is None and self._eased.still:  # at 0, then
            self._fresh = False
            return
        if self.wish is not None:
            point = _place(camera) if self._point is None else self._point
            about_x, about_y = self._angles or self._towards(stance, point)
            self._eased.aim((about_x, about_y, 1.0))
        if self._fresh:
            self._eased.snap()
            self._fresh = False
        about_x, about_y, weight = self._eased.advance()
        if weight:
            for eye in (LEFT_EYE, RIGHT_EYE):
                _mix(stance.joints[eye], weight, (about_x, about_y, 0.0))

    def _towards(self, stance: Stance, point: Vector) -> tuple[float, float]:
        """Rotation of the eyes about x and y, in the head's axes, that meets a point."""
        (px, py, pz), (tx, ty, tz) = point, stance.translation.tolist()
        seen = _unturned(stance.joints[ROTATION], (px - tx, py - ty, pz - tz))
        x, y, z = _unturned(stance.joints[NECK], seen)
        x, y, z = x - self._middle[0], y - self._middle[1], z - self._middle[2]
        limit_x, limit_y = math.radians(_GAZE_PITCH), math.radians(_GAZE_YAW)
        about_x = -math.atan2(y, math.hypot(x, z))
        about_y = math.atan2(x, z)
        return max(-limit_x, min(limit_x, about_x)), max(-limit_y, min(limit_y, about_y))


def _place(camera: Camera) -> Vector:
    """Where a camera is, metres."""
    (a, b, c, x), (d, e, f, y), (g, h, i, z), _ = camera.view.tolist()
    return -(a * x + d * y + g * z), -(b * x + e * y + h * z), -(c * x + f * y + i * z)


def _unturned(axis_angle: Float, vector: Vector) -> Vector:
    """`vector` turned back by an axis-angle vector [3] in radians: Rodrigues's formula with the angle reversed."""
    (ax, ay, az), (x, y, z) = axis_angle.tolist(), vector
    angle = math.sqrt(ax * ax + ay * ay + az * az)
    if angle < 1e-8:
        return vector
    ax, ay, az = ax / angle, ay / angle, az / angle
    c, s = math.cos(angle), math.sin(angle)
    k = (1 - c) * (ax * x + ay * y + az * z)
    return (
        c * x - s * (ay * z - az * y) + k * ax,
        c * y - s * (az * x - ax * z) + k * ay,
        c * z - s * (ax * y - ay * x) + k * az,
    )


def rotation_matrix(axis_angle: Any) -> Float:
    """[3, 3] of an axis-angle vector in radians."""
    x, y, z = (float(part) for part in axis_angle)
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-8:
        return np.eye(3, dtype=np.float32)
    x, y, z = x / angle, y / angle, z / angle
    c, s = math.cos(angle), math.sin(angle)
    k = 1 - c
    rows = (
        (c + k * x * x, k * x * y - s * z, k * x * z + s * y),
        (k * x * y + s * z, c + k * y * y, k * y * z - s * x),
        (k * x * z - s * y, k * y * z + s * x, c + k * z * z),
    )
    return np.array(rows, np.float32)


class Blend(MutableMapping[str, float]):
    """Expressions that a caller adds, by name: `avatar.blend["browInnerUp"] = 0.5`; deleting one eases it back to 0.

    A head whose expressions have no names takes "0", "1", ….
    """

    def __init__(self, names: tuple[str, ...], count: int) -> None:
        given = names or tuple(str(number) for number in range(count))
        self._index = {name: number for number, name in enumerate(given)}
        self._lock = Lock()
        self._values: dict[str, float] = {}
        """Never written to, as another thread may be going through it: a change makes a new one."""
        self._eased = EasedArray(count, BLEND_SECONDS)

    @property
    def eased(self) -> EasedArray:
        return self._eased

    def __getitem__(self, name: str) -> float:
        return self._values[self._known(name)]

    def __setitem__(self, name: str, value: float) -> None:
        number = as_number(value)
        if number is None:
            raise ControlError(f"blend[{name!r}] = {value!r} is not a number")
        if not abs(number) <= _LARGEST_BLEND:
            raise ControlError(f"blend[{name!r}] = {value!r} is not from -{_LARGEST_BLEND:g} to {_LARGEST_BLEND:g}")
        known = self._known(name)
        with self._lock:
            self._values = {**self._values, known: number}
            self._aim(known, number)

    def __delitem__(self, name: str) -> None:
        known = self._known(name)
        with self._lock:
            self._aim(known, 0.0)
            self._values = {other: value for other, value in self._values.items() if other != known}

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Blend({self._values})"

    @property
    def active(self) -> bool:
        """Whether anything is added, or was until now."""
        return bool(self._values) or not self._eased.still

    def added(self, expression: Float) -> Float:
        """Coefficients [E] and what is added to them. Once a frame."""
        with self._lock:
            return expression + self._eased.advance()

    def _known(self, name: Any) -> str:
        if not isinstance(name, str) or name not in self._index:
            raise ControlError(f"blend has no expression {name!r}: choose from {', '.join(self._index)}")
        return name

    def _aim(self, name: str, value: float) -> None:
        target = self._eased.target.copy()
        target[self._index[name]] = value
        self._eased.aim(target)
