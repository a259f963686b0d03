"""The library libemotag_cuda.so through ctypes: plans, buffers and errors. Imports no CUDA package."""

from __future__ import annotations

import ctypes
import enum
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _kernels
from .._checks import Floats, floats
from ..camera import Camera
from ..constants import JOINTS, MAX_SIDE
from ..errors import BackendError, ControlError
from ..renderer import Scene
from .packing import scene_arrays
from .structures import INTERFACE, FrameStruct, OptionsStruct, SceneArrays, StatusStruct

PIXELS = {"rgb8": 0, "rgba8": 1, "rgba32f": 2}
BACKGROUNDS = {None: 0, "colour": 1, "image_u8": 2, "image_f32": 3}
CONTROL_FLOATS = 40
STATUS_BYTES = ctypes.sizeof(StatusStruct)
HOW_TO_BUILD = (
    "build it with nvcc 12.8 or newer: pip install . -C cmake.define.EMOTAG_CUDA=ON (docs/cuda_kernels.md), "
    'or use device="cpu"'
)


class Stages(enum.IntFlag):
    """Steps of a frame, in order; see emotag_cuda.h."""

    SKIN = 1
    MOUTH = 2
    PROJECT = 4
    SORT = 8
    BLEND = 16
    ALL = 31


class Array(enum.IntEnum):
    """Arrays in a plan's workspace; see emotag_cuda.h for their layouts."""

    VERTICES = 0
    MOUTH_MOVES = 1
    RECORDS = 2
    COUNTS = 3
    TILE_BEGIN = 4


@dataclass(frozen=True)
class Options:
    """What a plan is for.

    Attributes:
        width, height: pixels, 1 to 4096.
        avatars: B, pictures drawn together: one scene under B sets of controls.
        pixels: "rgb8" (needs a background), "rgba8" (straight alpha where there is no background) or "rgba32f".
        background: None, "colour" (each avatar's, in its controls), "image_u8" or "image_f32".
        mouth_moves: whether encoded audio moves the mouth; needs a scene with a mouth.
        pairs: room for pairs of a Gaussian and a tile, all avatars together; 0 is four for each Gaussian.
    """

    width: int
    height: int
    avatars: int = 1
    pixels: Literal["rgb8", "rgba8", "rgba32f"] = "rgb8"
    background: Literal["colour", "image_u8", "image_f32"] | None = "colour"
    mouth_moves: bool = False
    pairs: int = 0

    @property
    def picture_shape(self) -> tuple[int, int, int, int]:
        """(B, H, W, channels)."""
        return (self.avatars, self.height, self.width, 3 if self.pixels == "rgb8" else 4)

    @property
    def picture_bytes(self) -> int:
        """Size of all pictures of a frame."""
        return int(np.prod(self.picture_shape)) * (4 if self.pixels == "rgba32f" else 1)


@dataclass(frozen=True)
class Buffers:
    """Device addresses of one frame, B avatars; 0 is none.

    Attributes:
        controls: `controls(…)` of each avatar, float32 (B, 40).
        picture: `Options.picture_shape`, 16-byte aligned.
        status: `STATUS_BYTES` bytes, 8-byte aligned; read it back with the picture.
        expression: float32 (B, E); needed where the head has expressions.
        jaw: float32 (B, 3), in place of the controls' jaw.
        encoded_audio: float32 (B, A); needed where the mouth moves.
        background: an image (H, W, 3), or one for each avatar, background_stride bytes apart.
        background_stride: 0 is one image for all.
        vertices: float32 (B, V, 3): skinning writes, and binding reads, here instead of in the workspace.
    """

    controls: int
    picture: int
    status: int
    expression: int = 0
    jaw: int = 0
    encoded_audio: int = 0
    background: int = 0
    background_stride: int = 0
    vertices: int = 0


@dataclass(frozen=True)
class Status:
    """What the device says of a frame.

    Attributes:
        pairs: pairs of a Gaussian and a tile that the frame needed.
        capacity: pairs that the plan has room for.
        overflow: pairs > capacity: the pictures were not written; draw again with `Plan.grown`.
        frames: one more than in the frame before.
    """

    pairs: int
    capacity: int
    overflow: bool
    frames: int

    @classmethod
    def read(cls, memory: bytes | bytearray | memoryview | npt.NDArray[np.uint8]) -> Status:
        """From the `STATUS_BYTES` bytes that were copied back."""
        raw = StatusStruct.from_buffer_copy(bytes(memory))
        return cls(raw.pairs, raw.capacity, bool(raw.overflow), raw.frames)


def controls(
    camera: Camera,
    pose: npt.ArrayLike,
    translation: npt.ArrayLike,
    background: npt.ArrayLike = (1.0, 1.0, 1.0),
    out: Floats | None = None,
) -> Floats:
    """One avatar's controls as the device reads them: float32 (40,), to be copied there.

    Args:
        camera: its size must be the plan's.
        pose: (5, 3) axis-angle of root, neck, jaw, left eye, right eye.
        translation: (3,) metres.
        background: (3,) colour in 0…1; read where the plan's background is "colour".
        out: float32 (40,) to write into, such as a row of page-locked memory; None makes a new array.

    Raises:
        ControlError: if a value has a wrong shape or is not finite.
    """
    packed = np.zeros(CONTROL_FLOATS, np.float32) if out is None else out
    if packed.shape != (CONTROL_FLOATS,) or packed.dtype != np.float32:
        raise ControlError(f"out must be float32 of shape ({CONTROL_FLOATS},), not {packed.dtype} {packed.shape}")
    packed[:12] = camera.view[:3].ravel()
    packed[12:16] = camera.intrinsics
    packed[16:31] = floats("pose", pose, (JOINTS, 3), ControlError).ravel()
    packed[31:34] = floats("translation", translation, (3,), ControlError)
    packed[34:37] = floats("background", background, (3,), ControlError)
    packed[37:] = 0.0
    return packed


def load(path: str | Path | None = None) -> Library:
    """Loads the library; needs no GPU yet.

    Args:
        path: the file; None is the one built with this package.

    Raises:
        BackendError: if it was not built, does not load, or speaks another version of the interface.
    """
    file = Path(_kernels.__file__).parent / "cuda" / "libemotag_cuda.so" if path is None else Path(path)
    if not file.exists():
        raise BackendError(f"the CUDA kernels are not installed ({file} is missing); {HOW_TO_BUILD}")
    try:
        loaded = ctypes.CDLL(str(file))
        version = int(loaded.emotag_cuda_version())
    except (OSError, AttributeError) as cause:
        raise BackendError(f"{file} does not load as EmoTaG's CUDA kernels: {cause}; {HOW_TO_BUILD}") from cause
    if version != INTERFACE:
        raise BackendError(f"{file} has interface {version}, this package needs {INTERFACE}; {HOW_TO_BUILD}")
    return Library(loaded, file)


class Library:
    """The loaded kernels; made by `load`."""

    def __init__(self, loaded: ctypes.CDLL, path: Path) -> None:
        self.path = path
        self._c = loaded
        _declare(loaded)

    def check(self, result: int) -> None:
        """Raises what a result code means: ControlError for a bad argument, else BackendError."""
        if result == 0:
            return
        message = self._c.emotag_cuda_error().decode("utf-8", "replace")
        raise (ControlError if result == 1 else BackendError)(message)

    def pack(self, scene: Scene) -> npt.NDArray[np.uint8]:
        """The scene as the kernels read it: (N,) bytes, position-independent, to be copied to the device.

        Raises:
            ControlError: if it has no room in 32-bit indices.
        """
        arrays, keep = scene_arrays(scene)
        size = c_size_t()
        self.check(self._c.emotag_cuda_pack_bytes(byref(arrays), byref(size)))
        blob = np.zeros(size.value, np.uint8)
        self.check(self._c.emotag_cuda_pack(byref(arrays), blob.ctypes.data, blob.nbytes))
        del keep  # the arrays that `arrays` points into lived until here
        return blob

    def plan(self, blob: npt.NDArray[np.uint8], options: Options) -> Plan:
        """A plan for a packed scene, given in host memory; it still needs `Plan.bind`.

        Raises:
            ControlError: if the blob or an option cannot be used.
            BackendError: if there is no GPU to plan for.
        """
        return Plan(self, blob, options)


class Plan:
    """How to draw one scene at one size; made by `Library.plan`. Close it, or use it in a `with` block."""

    def __init__(self, library: Library, blob: npt.NDArray[np.uint8], options: Options) -> None:
        _check_options(options)
        self._blob = np.ascontiguousarray(blob, np.uint8)
        self._library = library
        self._handle = c_void_p()
        struct = OptionsStruct(
            *(options.width, options.height, options.avatars, PIXELS[options.pixels]),
            *(BACKGROUNDS[options.background], int(options.mouth_moves), options.pairs),
        )
        library.check(
            library._c.emotag_cuda_plan_create(
                self._blob.ctypes.data, self._blob.nbytes, byref(struct), byref(self._handle)
            )
        )
        self.options = replace(options, pairs=int(library._c.emotag_cuda_plan_pairs(self._handle)))
        self.workspace_bytes = int(library._c.emotag_cuda_plan_workspace_bytes(self._handle))

    def bind(self, blob: int, workspace: int, workspace_bytes: int) -> None:
        """Gives the plan its device memory: the copied blob and `workspace_bytes` of room, both 256-byte aligned.

        Raises:
            ControlError: if an address is not aligned or the workspace is too small.
        """
        self._library.check(self._library._c.emotag_cuda_plan_bind(self._open(), blob, workspace, workspace_bytes))

    def run(self, buffers: Buffers, stream: int = 0, stages: Stages = Stages.ALL) -> None:
        """Launches a frame, or some stages of it, on a stream and returns at once.

        May be captured in a CUDA graph, once a first frame has run: the driver loads kernels at their first use.

        Raises:
            ControlError: if a buffer that the plan needs is missing.
            BackendError: if the CUDA runtime refuses a launch.
        """
        frame = _frame_struct(buffers)
        self._library.check(self._library._c.emotag_cuda_run(self._open(), byref(frame), int(stages), stream))

    def bound(self, buffers: Buffers, means: int, quats: int, scales: int, stream: int = 0) -> None:
        """Launches the binding of avatar 0 alone: world means (G, 3), quaternions (G, 4), scales (G, 3), float32."""
        frame = _frame_struct(buffers)
        self._library.check(
            self._library._c.emotag_cuda_bound(self._open(), byref(frame), means, quats, scales, stream)
        )

    def array(self, array: Array) -> tuple[int, int]:
        """Offset and size, in bytes, of an array in the workspace."""
        offset, size = c_size_t(), c_size_t()
        self._library.check(
            self._library._c.emotag_cuda_plan_array(self._open(), int(array), byref(offset), byref(size))
        )
        return int(offset.value), int(size.value)

    def grown(self, status: Status) -> Plan:
        """A plan with room for what `status` says was needed, and a quarter more; this one stays as it is."""
        pairs = max(status.pairs + status.pairs // 4, self.options.pairs)
        return Plan(self._library, self._blob, replace(self.options, pairs=pairs))

    def close(self) -> None:
        """Frees what the plan holds on the host; the device memory is the caller's. May be called twice."""
        if self._handle:
            self._library._c.emotag_cuda_plan_destroy(self._handle)
            self._handle = c_void_p()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def _open(self) -> c_void_p:
        if not self._handle:
            raise ControlError("this CUDA plan was closed; make a new one")
        return self._handle


def _frame_struct(buffers: Buffers) -> FrameStruct:
    return FrameStruct(**{name: int(getattr(buffers, name)) for name, _ in FrameStruct._fields_})  # type: ignore[misc]


def _check_options(options: Options) -> None:
    for name, top in (("width", MAX_SIDE), ("height", MAX_SIDE), ("avatars", 1024)):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= top:
            raise ControlError(f"{name} must be an integer from 1 to {top}, not {value!r}")
    if options.pixels not in PIXELS:
        raise ControlError(f"pixels must be one of {', '.join(PIXELS)}, not {options.pixels!r}")
    if options.background not in BACKGROUNDS:
        raise ControlError(f'background must be None, "colour", "image_u8" or "image_f32", not {options.background!r}')
    if not 0 <= options.pairs < 2**31:
        raise ControlError(f"pairs must be from 0 to 2**31 - 1, not {options.pairs!r}; draw fewer avatars at once")


def _declare(c: ctypes.CDLL) -> None:
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "error": (c_char_p, []),
        "pack_bytes": (c_int, [POINTER(SceneArrays), POINTER(c_size_t)]),
        "pack": (c_int, [POINTER(SceneArrays), c_void_p, c_size_t]),
        "plan_create": (c_int, [c_void_p, c_size_t, POINTER(OptionsStruct), POINTER(c_void_p)]),
        "plan_destroy": (None, [c_void_p]),
        "plan_workspace_bytes": (c_size_t, [c_void_p]),
        "plan_pairs": (c_uint64, [c_void_p]),
        "plan_array": (c_int, [c_void_p, c_int, POINTER(c_size_t), POINTER(c_size_t)]),
        "plan_bind": (c_int, [c_void_p, c_uint64, c_uint64, c_size_t]),
        "run": (c_int, [c_void_p, POINTER(FrameStruct), c_uint32, c_uint64]),
        "bound": (c_int, [c_void_p, POINTER(FrameStruct), c_uint64, c_uint64, c_uint64, c_uint64]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(c, f"emotag_cuda_{name}")
        function.restype, function.argtypes = result, arguments
