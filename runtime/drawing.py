"""From a motion and a cue to a picture: the only place of the runtime that draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plugins import Camera, Gaussians, Head, Mouth, Renderer, Scene
from ..plugins.constants import MAX_SIDE
from .appearance import Wearer
from .backends import DeviceArray, DeviceRenderer, Drawing, WholeFrame
from .cues import CuePlayer, Stance
from .errors import BundleError, CheckpointError, ControlError
from .graphs import Float
from .manifest import Manifest
from .motion import Motion
from .tensors import AvatarTensors

Picture = NDArray[np.uint8]
Background = tuple[float, float, float] | Picture | None


def build_scene(tensors: AvatarTensors, manifest: Manifest) -> Scene:
    """The kernels' form of the avatar's geometry, prepared once and shared by its avatars. Raises BundleError."""
    try:
        gaussians = Gaussians(
            **tensors.gaussians,
            active_sh_degree=manifest.active_sh_degree,
            scale_activation=manifest.scale_activation,
        )
        return Scene(Head(**tensors.head), gaussians, _mouth(tensors.mouth))
    except CheckpointError as error:
        raise BundleError(f"avatar.safetensors: {error}: export the bundle again") from None


def _mouth(tensors: Mapping[str, NDArray[Any]] | None) -> Mouth | None:
    if tensors is None:
        return None
    return Mouth(
        index=tensors["index"],
        bound=float(tensors["bound"][0]),
        xy=tensors["grid.xy"],
        yz=tensors["grid.yz"],
        xz=tensors["grid.xz"],
        offsets=tensors["grid.offsets"],
        layers=(tensors["mlp.0"], tensors["mlp.1"], tensors["mlp.2"]),
        head_weight=tensors["head.weight"],
        head_bias=tensors["head.bias"],
    )


def check_size(width: Any, height: Any) -> tuple[int, int]:
    """Width and height of a picture in pixels. Raises ControlError."""
    for name, value in (("width", width), ("height", height)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
            raise ControlError(f"{name} {value!r} is not a whole number of pixels from 1 to {MAX_SIDE}")
    return width, height


def check_background(value: Any, width: int, height: int) -> Background:
    """A background as the kernels take it. Raises ControlError.

    value: three numbers 0…1, an image uint8 [height, width, 3] (copied), or None for transparent.
    """
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.ndim == 3:
        if value.shape != (height, width, 3) or value.dtype != np.uint8:
            raise ControlError(
                f"background image has shape {value.shape} and type {value.dtype}, "
                f"not ({height}, {width}, 3) and uint8: resize and convert it"
            )
        return np.ascontiguousarray(value).copy()
    try:
        red, green, blue = (float(channel) for channel in value)
    except (TypeError, ValueError):
        raise ControlError(
            f"background {value!r} is neither three numbers from 0 to 1, nor an image, nor None for transparent"
        ) from None
    if not all(0 <= channel <= 1 for channel in (red, green, blue)):
        raise ControlError(f"background {(red, green, blue)} is not within 0…1: divide 8-bit colours by 255")
    return red, green, blue


def fitted_background(value: Background, width: int, height: int) -> Background:
    """A background of another size: an image is resampled (bilinear), anything else fits as it is."""
    if not isinstance(value, np.ndarray):
        return value
    rows, down = _taps(value.shape[0], height)
    columns, right = _taps(value.shape[1], width)
    picture = np.pad(value.astype(np.float32), ((0, 1), (0, 1), (0, 0)), mode="edge")
    picture = picture[rows] + down[:, None, None] * (picture[rows + 1] - picture[rows])
    picture = picture[:, columns] + right[None, :, None] * (picture[:, columns + 1] - picture[:, columns])
    return np.rint(picture).astype(np.uint8)


def _taps(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """First of the two neighbours of every wanted pixel's middle, and the share of the second."""
    place = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    first = np.minimum(place.astype(np.intp), max(size - 2, 0))
    return first, (place - first).astype(np.float32)


class Painter:
    """Draws the frames of one avatar at one size."""

    def __init__(
        self,
        renderer: Drawing,
        manifest: Manifest,
        cues: CuePlayer,
        size: tuple[int, int],
        wearer: Wearer | None = None,
    ) -> None:
        """wearer: of the bundle's emotional residual, on that renderer."""
        self.width, self.height = size
        self._wearer = wearer
        self._renderer = renderer
        self._processor = renderer if isinstance(renderer, Renderer) else None
        self._canvas = renderer.canvas if isinstance(renderer, DeviceRenderer) else None
        self._cues = cues
        self._scale = min(self.width / manifest.width, self.height / manifest.height)
        self._shift = (
            (self.width - self._scale * manifest.width) / 2,
            (self.height - self._scale * manifest.height) / 2,
        )
        self._pose = np.zeros((5, 3), np.float32)
        self._cameras: dict[int, Camera] = {}

    def cue_camera(self, row: int) -> Camera:
        """The recorded camera of a cue, its picture fitted into this size without distortion."""
        row = 0 if self._cues.one_camera else row
        camera = self._cameras.get(row)
        if camera is None:
            track = self._cues.cues
            fx, fy, cx, cy = (float(value) * self._scale for value in track.intrinsics[row])
            camera = self._cameras[row] = Camera(
                view=track.view[row],
                fx=fx,
                fy=fy,
                cx=cx + self._shift[0],
                cy=cy + self._shift[1],
                width=self.width,
                height=self.height,
            )
        return camera

    @property
    def renderer(self) -> Drawing:
        """What draws: `plugins.Renderer`, or its counterpart on a GPU."""
        return self._renderer

    def device_picture(self) -> DeviceArray | None:
        """The last picture where a GPU drew it, None where the processor did."""
        return None if self._canvas is None else self._canvas.device_picture()

    def prepare(self, whole: WholeFrame, stance: Stance, camera: Camera, background: Background) -> None:
        """What a GPU needs to draw a frame, but for the motion, which it makes itself."""
        whole.prepare(stance.joints, stance.translation, camera, background)

    @property
    def kernel_times(self) -> list[float]:
        """Milliseconds of the last picture's kernels, in the order of `stats.KERNELS`."""
        return self._renderer.milliseconds

    @property
    def kernel_cpu_times(self) -> tuple[float, ...]:
        """The same in processor time of the thread that drew: the whole cost if it drew alone."""
        return tuple(self._renderer.cpu_timings.values())

    def stance_camera(self, row: int, stance: Stance) -> Camera:
        """The recorded camera of a stance: its cue's, or one between two cues."""
        camera = self.cue_camera(row)
        return camera if stance.view is None else camera.moved(stance.view)

    def draw_alone(self, alone: bool) -> None:
        """Whether the processor draws from now on on one thread, because the other cores have other work."""
        if self._processor is not None:
            self._processor.draw_alone(alone)

    @property
    def wears(self) -> bool:
        """Whether there is an emotional residual to wear."""
        return self._wearer is not None

    def wear(self, motion: Motion, emotion: Float) -> None:
        """Dresses the Gaussians for the next picture. emotion: [C] probabilities that the frame is made with."""
        if self._wearer is not None:
            self._wearer.wear(motion, emotion)

    def undress(self) -> None:
        """The next picture shows the Gaussians as they are."""
        if self._wearer is not None:
            self._wearer.undress()

    def draw(
        self,
        row: int,
        motion: Motion,
        camera: Camera | None,
        background: Background,
        out: Picture | None,
        stance: Stance | None = None,
    ) -> Picture:
        """The picture uint8 [height, width, 3], or 4 channels on a transparent background, of a cue and a motion.

        camera, stance: instead of the cue's.
        """
        pose, translation = self._pose, self._cues.cues.translation[row]
        if stance is None:
            self._cues.pose(row, motion.jaw, pose)
        else:
            pose, translation = stance.joints, stance.translation
        return self._renderer.draw(
            motion.expression,
            pose,
            translation,
            self.cue_camera(row) if camera is None else camera,
            encoded_audio=motion.encoded_audio,
            background=background,
            out=out,
        )
