"""Drawing frames: a `Scene` prepared once, a `Renderer` for each avatar that shows it."""

from __future__ import annotations

import os
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats, floats, indices, kernel_error, kernel_errors
from .camera import Camera
from .constants import JOINTS, MAX_THREADS, OFFSETS
from .errors import BackendError, CheckpointError, ControlError
from .models import Gaussians, Head, Mouth

Picture: TypeAlias = npt.NDArray[np.uint8]
Background: TypeAlias = tuple[float, float, float] | npt.NDArray[np.uint8] | Floats | None
STAGES = ("skin", "mouth", "project", "sort", "blend")
MAX_RANK = 64
_BRIGHTEST = 1e30  # what surely is a finite float32; a sum with NaN in it is not below
_LOOKS = 10  # first offset of what a Gaussian of the mouth may change: opacity and colour


def supported_isas() -> list[str]:
    """Instruction sets that this machine can draw with, best first; "plain" is always among them."""
    return _kernels.supported_isas()


def checked_isa(isa: str) -> str:
    """`isa` if one can draw with it here; BackendError if not."""
    return one_of_isas(isa, supported_isas(), _kernels.known_isas())


def one_of_isas(isa: str, supported: list[str], every: list[str]) -> str:
    """`isa` if it is "auto" or one of `supported`, of `every` one that there is; BackendError if not."""
    if isa != "auto" and isa not in supported:
        known = "not supported by this machine" if isa in every else "unknown"
        raise BackendError(f'instruction set {isa!r} is {known}; use "auto" or one of {", ".join(supported)}')
    return isa


def checked_threads(threads: int) -> int:
    """`threads`, 0 meaning one for each core; ControlError if it is out of range."""
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 0 <= threads <= MAX_THREADS:
        raise ControlError(f"threads must be an integer from 0 (all cores) to {MAX_THREADS}, not {threads!r}")
    return int(threads) or min(len(os.sched_getaffinity(0)), MAX_THREADS)


class Scene:
    """An avatar prepared for drawing: immutable, shared by any number of renderers and threads.

    Args:
        head: the head.
        gaussians: Gaussians bound to the head's faces.
        mouth: the mouth network, or None.

    Raises:
        CheckpointError: if Gaussians name faces, or the mouth names Gaussians, that are not there.
    """

    def __init__(self, head: Head, gaussians: Gaussians, mouth: Mouth | None = None) -> None:
        faces = len(head.faces)
        if len(gaussians) and int(gaussians.face_index.max()) >= faces:
            raise CheckpointError(
                f"gaussians.face_index names face {gaussians.face_index.max()} of a head with {faces} faces; "
                "the binding belongs to another head"
            )
        if mouth is not None:
            indices("mouth.index", mouth.index, (None,), len(gaussians), CheckpointError)
        self.head = head
        self.gaussians = gaussians
        self.mouth = mouth
        self._kernel = _kernels.Scene(head.kernel, gaussians.arrays, None if mouth is None else mouth.arrays)


class Appearance:
    """An emotional residual of a scene's Gaussians: fixed offsets, of which every frame wears a weighted sum.

    Immutable, shared by any number of renderers of the scene.

    Args:
        scene: whose Gaussians they are.
        offsets: (R, G, 14) for each of R coefficients: of the mean (3, added), the quaternion (4, wxyz, added to the
            unit quaternion, then normalised), the scale (3, it is multiplied by 1 + the offset), the opacity (1, it is
            multiplied by 2 to this power, and at most 1) and the colour of degree 0 (3, added). Rounded to half
            precision.

    Raises:
        CheckpointError: if the shape does not fit the scene, a value is not finite, or a Gaussian of the mouth, which
            the mouth network moves, has offsets of place, rotation or scale.
    """

    def __init__(self, scene: Scene, offsets: npt.ArrayLike) -> None:
        checked = floats("appearance.offsets", offsets, (None, len(scene.gaussians), OFFSETS), CheckpointError)
        if not 1 <= len(checked) <= MAX_RANK:
            raise CheckpointError(f"appearance.offsets has {len(checked)} coefficients; give 1 to {MAX_RANK}")
        if scene.mouth is not None and checked[:, scene.mouth.index, :_LOOKS].any():
            raise CheckpointError("appearance.offsets moves Gaussians of the mouth; only their looks may change")
        self.scene = scene
        self.rank = len(checked)
        self._kernel = _kernels.Appearance(scene._kernel, scene.gaussians.arrays, checked)


class Renderer:
    """Draws one avatar, frame after frame, into memory of its own (≤ 25 MB for 60,000 Gaussians at 512×512).

    Pictures do not depend on the thread count. Calls from several threads take turns; different renderers do not wait
    for each other.

    Args:
        scene: what to draw.
        threads: threads that share a frame, the caller's included; 0 is one for each core.
        isa: instruction set: "auto" (the best of this machine), "plain", "avx2" or "avx512".

    Raises:
        ControlError: if the thread count is out of range.
        BackendError: if the instruction set is not available.
    """

    def __init__(self, scene: Scene, threads: int = 0, isa: str = "auto") -> None:
        self.scene = scene
        self._kernel = _kernels.Renderer(scene._kernel, checked_isa(isa), checked_threads(threads))

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._kernel.isa

    @property
    def threads(self) -> int:
        """Threads that share a frame."""
        return self._kernel.threads

    @property
    def workspace_bytes(self) -> int:
        """Memory that this renderer holds beside the scene's."""
        return self._kernel.workspace_bytes

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds of the last frame by stage: skin, mouth, project (binding included), sort (and bin), blend."""
        return dict(zip(STAGES, self.milliseconds, strict=True))

    @property
    def milliseconds(self) -> list[float]:
        """`timings` as numbers alone, for those who ask after every frame."""
        return self._kernel.milliseconds()

    @property
    def cpu_timings(self) -> dict[str, float]:
        """As `timings`, but processor time of the thread that called `draw`: the whole cost if threads is 1."""
        return dict(zip(STAGES, self._kernel.cpu_milliseconds(), strict=True))

    def draw_alone(self, alone: bool) -> None:
        """Whether frames from now on are drawn by the calling thread alone, because the other cores have other work."""
        self._kernel.set_alone(alone)

    def wear(self, appearance: Appearance | None, coefficients: npt.ArrayLike | None = None) -> None:
        """Pictures from now on show the Gaussians with an appearance's offsets; the GIL is released meanwhile.

        Args:
            appearance: of this renderer's scene; None takes off what is worn, and `coefficients` is not read.
            coefficients: (R,) weights of the offsets.

        Raises:
            ControlError: if the appearance belongs to another scene, or coefficients have a wrong shape or are not
                finite.
            BackendError: if there is not enough memory.
        """
        with kernel_errors():
            if appearance is None:
                self._kernel.wear(None, None)
                return
            if appearance.scene is not self.scene:
                raise ControlError("the appearance belongs to another scene: make one of this renderer's scene")
            if coefficients is None:
                raise ControlError("coefficients of the appearance are missing: give one for each of its offsets")
            weights = floats("coefficients", coefficients, (appearance.rank,), ControlError)
            self._kernel.wear(appearance._kernel, weights)

    def draw(
        self,
        expression: npt.ArrayLike,
        pose: npt.ArrayLike,
        translation: npt.ArrayLike,
        camera: Camera,
        encoded_audio: npt.ArrayLike | None = None,
        background: Background = (1.0, 1.0, 1.0),
        out: Picture | None = None,
    ) -> Picture:
        """Draws one frame; the GIL is released meanwhile.

        Args:
            expression: (E,) coefficients.
            pose: (5, 3) axis-angle of root, neck, jaw, left eye, right eye.
            translation: (3,) metres.
            camera: the camera; its size is the picture's.
            encoded_audio: (A,) input of the mouth network; None leaves the mouth where it is bound. Not read where
                the scene has no mouth.
            background: a colour (r, g, b) in 0…1, a picture (H, W, 3) of uint8 or of floats in 0…1, or None for RGBA.
            out: uint8 (H, W, 3), or (H, W, 4) if background is None, C-contiguous, to draw into; None makes a new one.

        Returns:
            uint8 (H, W, 3), colours truncated to 8 bits; or (H, W, 4) with straight (not premultiplied) alpha.

        Raises:
            ControlError: if an input has a wrong shape or type, or is not finite, or the picture is too much to draw.
            BackendError: if there is not enough memory.
        """
        colour, image8, image = _background(background, camera)
        picture = _output(out, camera, 4 if background is None else 3)
        audio = None
        if encoded_audio is not None and self.scene.mouth is not None:
            audio = floats("encoded_audio", encoded_audio, (self.scene.mouth.audio_size,), ControlError)
        coefficients = floats("expression", expression, (self.scene.head.expressions,), ControlError)
        joints = floats("pose", pose, (JOINTS, 3), ControlError)
        place = floats("translation", translation, (3,), ControlError)
        view, lens = camera.view, camera.intrinsics
        try:
            self._kernel.draw(coefficients, joints, place, audio, view, lens, colour, image8, image, picture)
        except (OverflowError, MemoryError) as cause:
            raise kernel_error(cause) from cause
        return picture


def _background(
    background: Background, camera: Camera
) -> tuple[tuple[float, float, float] | None, Picture | None, Floats | None]:
    """A background as colour, as bytes or as floats; all None for RGBA."""
    if background is None:
        return None, None, None
    if type(background) is tuple and len(background) == 3:
        red, green, blue = background
        if type(red) is type(green) is type(blue) is float and abs(red) + abs(green) + abs(blue) < _BRIGHTEST:
            return background, None, None
    shape = (camera.height, camera.width, 3)
    if not isinstance(background, np.ndarray) or background.ndim == 1:
        colour = floats("background", background, (3,), ControlError)
        return (float(colour[0]), float(colour[1]), float(colour[2])), None, None
    if background.dtype == np.uint8:
        if background.shape != shape:
            raise ControlError(f"background must have shape {shape}, not {background.shape}; resize it to the frame")
        return None, np.ascontiguousarray(background), None
    return None, None, floats("background", background, shape, ControlError)


def _output(out: Picture | None, camera: Camera, channels: int) -> Picture:
    shape = (int(camera.height), int(camera.width), channels)
    if out is None:
        return np.empty(shape, np.uint8)
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != shape:
        raise ControlError(f"out must be a uint8 array of shape {shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ControlError("out must be C-contiguous and writeable")
    return out
