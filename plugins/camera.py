"""The camera that a frame is drawn with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .constants import MAX_SIDE
from .errors import ControlError


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    Attributes:
        view: (4, 4) world to camera, rigid, OpenCV axes (x right, y down, z forward), metres; kept as float64.
        fx, fy, cx, cy: pixels. A point projects to u = fx·x/z + cx - 0.5; pixel centres are at integers.
        width, height: pixels, 1 to 4096.

    Raises:
        ControlError: if one of them cannot be used.
    """

    view: npt.NDArray[np.float64]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        view = np.array(self.view, np.float64)
        if view.shape != (4, 4) or not np.isfinite(view).all():
            raise ControlError("camera.view must be a finite (4, 4) world-to-camera matrix")
        rotation = view[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.abs(view[3] - [0, 0, 0, 1]).max() > 1e-6:
            raise ControlError("camera.view must be rigid: a rotation and a translation, no scale, last row 0 0 0 1")
        for name in ("width", "height"):
            side = getattr(self, name)
            if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or not 1 <= side <= MAX_SIDE:
                raise ControlError(f"camera.{name} must be an integer from 1 to {MAX_SIDE}, not {side!r}")
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not math.isfinite(value) or (name in ("fx", "fy") and not 1e-3 <= value <= 1e7):
                raise ControlError(f"camera.{name} must be a number of pixels, not {value!r}")
        view.flags.writeable = False
        object.__setattr__(self, "view", view)

    def moved(self, view: npt.NDArray[np.float64], zoom: float = 1.0) -> Camera:
        """The same camera elsewhere, its picture's middle enlarged by `zoom`.

        view: (4, 4), known to be rigid, as it is not checked; nobody may change it. Raises ControlError.
        """
        view.flags.writeable = False
        fields = {**self.__dict__, "view": view}
        if zoom != 1.0:
            x, y, fx, fy = self.width / 2, self.height / 2, self.fx * zoom, self.fy * zoom
            if not (1e-3 <= fx <= 1e7 and 1e-3 <= fy <= 1e7):
                raise ControlError(f"camera.zoom of {zoom:g} makes a focal length of {fx:g} pixels: choose less")
            fields.update(fx=fx, fy=fy, cx=x + zoom * (self.cx - x), cy=y + zoom * (self.cy - y))
        camera = object.__new__(Camera)
        camera.__dict__.update(fields)
        return camera

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy."""
        return (float(self.fx), float(self.fy), float(self.cx), float(self.cy))
