"""What can be set on an avatar at any time, from any thread, and shows in the next frame."""

from __future__ import annotations

from threading import RLock
from typing import Any
from weakref import WeakMethod

from .acting import Acting
from .drawing import Background, Painter, check_background, check_size, fitted_background
from .easing import check_seconds
from .errors import ControlError
from .head import Blend, HeadPose
from .idle import Idle, check_idle
from .model import Model
from .view import View


class Controls:
    """The controls of an `Avatar`. A value that cannot be used raises ControlError and changes nothing.

    Whatever is set while frames are made eases in; set before the first frame, or after `reset`, it holds from there.
    """

    def __init__(self, model: Model, size: tuple[int, int]) -> None:
        self._model = model
        self._lock = RLock()  # of frames and of everything that a frame reads
        self._wears = model.appearance is not None
        self._painter = self._paint(size)
        self._view = View(WeakMethod(self._resize), size)
        self._background_given: Background = model.manifest.background
        self._background: Background = self._background_given
        self._network = model.motion_network()
        self._acting = Acting(model, self._network)

    @property
    def emotion(self) -> Any:
        """What the face shall show; None (the default) leaves it to the audio.

        Set a name ("happy"), an `Emotion`, a mixture ({"happy": 0.7, "surprise": 0.3}), or a timeline [(seconds,
        emotion), …], whose seconds count from the frame after it was set, and from index 0 in `render`. A bundle
        whose motion network cannot be steered (a released checkpoint) refuses everything but None.
        """
        return self._acting.feeling.wish

    @emotion.setter
    def emotion(self, value: Any) -> None:
        with self._lock:
            self._acting.feeling.wish = value

    @property
    def emotion_seconds(self) -> float:
        """Time constant of a change of emotion, seconds; 0 changes at once."""
        return self._acting.feeling.seconds

    @emotion_seconds.setter
    def emotion_seconds(self, value: float) -> None:
        self._acting.feeling.seconds = check_seconds("emotion_seconds", value)

    @property
    def appearance(self) -> bool:
        """Whether the emotional residual of the Gaussians is drawn; True by default where the bundle has one.

        Setting True raises ControlError where there is none, or where it was not loaded.
        """
        return self._wears

    @appearance.setter
    def appearance(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise ControlError(f"appearance {value!r} is neither True nor False")
        with self._lock:
            if value and self._model.appearance is None:
                raise ControlError(
                    f"{self._model.manifest.name} has no emotional residual of its Gaussians, or was loaded without: "
                    "learn one with `emotag-train appearance` and export the bundle again"
                )
            self._wears = value
            if not value:
                self._painter.undress()

    @property
    def idle(self) -> Idle | None:
        """What the head does in silence; False or None: it follows the recording, and the mouth whatever is heard."""
        return self._acting.resting.settings

    @idle.setter
    def idle(self, value: Idle | bool | None) -> None:
        settings = check_idle(value)
        with self._lock:
            self._acting.resting.settings = settings

    @property
    def pose(self) -> HeadPose | None:
        """Pose of the head instead of the recorded one: a `HeadPose`, or a rotation [3] (axis-angle, radians)."""
        return self._acting.poser.pose

    @pose.setter
    def pose(self, value: Any) -> None:
        with self._lock:
            self._acting.poser.set(value)

    @property
    def gaze(self) -> Any:
        """Where the eyes look: "camera", (yaw, pitch) in degrees from ahead, a point [3] in metres, or None."""
        return self._acting.gaze.wish

    @gaze.setter
    def gaze(self, value: Any) -> None:
        with self._lock:
            self._acting.gaze.set(value)

    @property
    def blend(self) -> Blend:
        """Expressions added to what the network says, by name: `avatar.blend["browInnerUp"] = 0.5`."""
        return self._acting.blend

    @property
    def camera(self) -> View:
        """The view: `orbit`, `zoom`, `look_at`, `resolution`. A Camera may be set; None is the recorded one."""
        return self._view

    @camera.setter
    def camera(self, value: Any) -> None:
        with self._lock:
            if value is None:
                self._view.reset()
            elif value is not self._view:
                self._view.use(value)

    @property
    def background(self) -> Background:
        """Three numbers 0…1, an image uint8 [height, width, 3], or None for transparent (`Frame.alpha`).

        A change of `camera.resolution` resizes an image.
        """
        return self._background

    @background.setter
    def background(self, value: Any) -> None:
        checked = check_background(value, self.width, self.height)
        with self._lock:
            self._background = self._background_given = checked

    @property
    def width(self) -> int:
        """Of the picture, in pixels."""
        return self._painter.width

    @property
    def height(self) -> int:
        """Of the picture, in pixels."""
        return self._painter.height

    def _paint(self, size: tuple[int, int]) -> Painter:
        return self._model.painter(*size)

    def _resize(self, width: Any, height: Any) -> None:
        size = check_size(width, height)
        with self._lock:
            if size != (self.width, self.height):
                self._painter = self._paint(size)
                self._background = fitted_background(self._background_given, *size)
