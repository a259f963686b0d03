"""Drawing on a GPU: one avatar's picture, its controls, and the room that the kernels need."""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...plugins import Camera, Scene
from ...plugins.cuda import Buffers, Options, Status, controls
from ...plugins.renderer import STAGES
from ..errors import BackendError, ControlError
from ..graphs import Float, Shapes
from .bound import Recorder, Stream
from .driver import Driver
from .memory import Allocation, Block, DeviceArray, device_buffer, is_device_buffer

Picture = NDArray[np.uint8]
_CONTROLS, _STATUS = 40, 8  # floats of EmotagCudaControls, and as many 4-byte words of EmotagCudaStatus


class Plan(Protocol):
    """A picture's size and kind with what the kernels prepared for it: `plugins.cuda.Plan`."""

    options: Options
    workspace_bytes: int

    def bind(self, blob: int, workspace: int, workspace_bytes: int) -> None: ...

    def run(self, buffers: Buffers, stream: int = 0) -> None: ...

    def grown(self, status: Status) -> Plan: ...


class Kernels(Protocol):
    """The CUDA kernels: `plugins.cuda.Library`."""

    def pack(self, scene: Scene) -> NDArray[np.uint8]: ...

    def plan(self, blob: NDArray[np.uint8], options: Options) -> Plan: ...


class DeviceScene:
    """The packed scene on the GPU, shared by the avatars of a model."""

    def __init__(self, driver: Driver, kernels: Kernels, scene: Scene, stream: int) -> None:
        self.scene, self.blob = scene, kernels.pack(scene)
        self.memory = Allocation(driver, self.blob.nbytes)
        driver.upload(self.memory.pointer, self.blob, stream)
        driver.synchronize(stream)


class Canvas:
    """One avatar's picture on the GPU. What it enqueues stays the same while `version` does."""

    def __init__(self, driver: Driver, kernels: Kernels, scene: DeviceScene, width: int, height: int) -> None:
        self.width, self.height, self.scene = width, height, scene
        self._driver, self._kernels = driver, kernels
        self.controls = Block(driver, {"controls": (_CONTROLS,)}, mirrored=True)
        self._status = Block(driver, {"status": (_STATUS,)}, mirrored=True)
        self._picture = Allocation(driver, width * height * 4)
        self._mirror = driver.allocate_host(width * height * 4)
        self.version = 0
        self._plan: Plan | None = None
        self._workspace: Allocation | None = None
        self._image: Allocation | None = None
        self._shown: Picture | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the picture: height, width, channels."""
        return self.height, self.width, 4 if self._prepared.options.background is None else 3

    @property
    def _prepared(self) -> Plan:
        if self._plan is None:
            raise BackendError("a frame was drawn before its picture was prepared: call prepare first")
        return self._plan

    def prepare(self, background: Any, mouth_moves: bool, stream: int) -> None:
        """Readies for a background: a colour, an image uint8 [H, W, 3], or None."""
        image = isinstance(background, np.ndarray) and background.ndim == 3
        if image and background is not self._shown:
            self._upload_image(background, stream)
        options = Options(
            self.width,
            self.height,
            pixels="rgba8" if background is None else "rgb8",
            background=None if background is None else "image_u8" if image else "colour",
            mouth_moves=mouth_moves,
            pairs=0 if self._plan is None else self._plan.options.pairs,
        )
        if self._plan is None or options != self._plan.options:
            self._take(self._kernels.plan(self.scene.blob, options))

    def _upload_image(self, image: Picture, stream: int) -> None:
        if self._image is None:
            self._image = Allocation(self._driver, self.width * self.height * 3)
        self._driver.upload(self._image.pointer, image, stream)
        self._driver.synchronize(stream)  # pageable memory: the caller may change it next
        self._shown = image

    def _take(self, plan: Plan) -> None:
        if self._workspace is None or self._workspace.size < plan.workspace_bytes:
            if self._workspace is not None:
                self._workspace.close()
                self._workspace = None
            self._workspace = Allocation(self._driver, plan.workspace_bytes)
        plan.bind(self.scene.memory.pointer, self._workspace.pointer, self._workspace.size)
        self._plan = plan
        self.version += 1

    def write(self, pose: Float, translation: Float, camera: Camera, background: Any) -> None:
        """The controls of the next frame, to page-locked memory."""
        colour = background if self._prepared.options.background == "colour" else (0.0, 0.0, 0.0)
        controls(camera, pose, translation, colour, out=self.controls.host["controls"])

    def enqueue(self, expression: int, jaw: int, encoded_audio: int, stream: int) -> None:
        """Uploads the controls, draws with what lies at these device addresses, downloads the status."""
        plan = self._prepared
        self.controls.upload(stream)
        shows_image = self._image is not None and plan.options.background == "image_u8"
        buffers = Buffers(
            controls=self.controls.pointers["controls"],
            picture=self._picture.pointer,
            status=self._status.pointers["status"],
            expression=expression,
            jaw=jaw,
            encoded_audio=encoded_audio if plan.options.mouth_moves else 0,
            background=self._image.pointer if self._image is not None and shows_image else 0,
        )
        plan.run(buffers, stream)
        self._status.download(stream)

    def overflowed(self) -> bool:
        """Whether the finished frame had more pairs than room, and was not drawn. Makes more room if so."""
        status = Status.read(self._status.host["status"].view(np.uint8))
        if status.overflow:
            self._take(self._prepared.grown(status))
        return status.overflow

    def device_picture(self) -> DeviceArray:
        """The picture where it is."""
        return DeviceArray(self._picture.pointer, self.shape, self._driver.device.index, self._picture)

    def check(self, buffer: Any, shape: tuple[int, ...]) -> None:
        """Raises ControlError unless `buffer` is GPU memory that a picture of this shape can be copied to."""
        device_buffer(buffer, shape, self._driver.device.index)

    def copy_to(self, buffer: Any, stream: int) -> None:
        """Enqueues a copy to the caller's GPU buffer. Raises ControlError."""
        pointer = device_buffer(buffer, self.shape, self._driver.device.index)
        self._driver.copy(pointer, self._picture.pointer, self._bytes, stream)

    def enqueue_download(self, stream: int) -> None:
        self._driver.download(self._mirror[: self._bytes], self._picture.pointer, stream)

    def downloaded(self, out: Picture | None) -> Picture:
        """What `enqueue_download` brought, once the stream is done: in `out`, or a new array."""
        picture: Picture = self._mirror[: self._bytes].reshape(self.shape)
        if out is None:
            return picture.copy()
        out[...] = picture
        return out

    @property
    def _bytes(self) -> int:
        return prod(self.shape)


class DeviceRenderer:
    """`plugins.Renderer` on a GPU: motion comes from the host, the picture goes back to it.

    `timings` are 0: kernels in a CUDA graph have no clock of their own. Benchmarks measure them with events.
    """

    def __init__(self, driver: Driver, canvas: Canvas, stream: Stream) -> None:
        self.canvas, self.driver, self._stream = canvas, driver, stream
        scene = canvas.scene.scene
        self._audio = scene.mouth.audio_size if scene.mouth is not None else 0
        shapes: Shapes = {"expression": (scene.head.expressions,), "encoded_audio": (self._audio,)}
        self._inputs = Block(driver, shapes, mirrored=True)
        self._recorder = Recorder(driver)

    @property
    def timings(self) -> dict[str, float]:
        return dict.fromkeys(STAGES, 0.0)

    @property
    def milliseconds(self) -> list[float]:
        return [0.0] * len(STAGES)

    @property
    def cpu_timings(self) -> dict[str, float]:
        return dict.fromkeys(STAGES, 0.0)

    def draw(
        self,
        expression: Float,
        pose: Float,
        translation: Float,
        camera: Camera,
        encoded_audio: Float | None = None,
        background: Any = (1.0, 1.0, 1.0),
        out: Any = None,
    ) -> Picture:
        """As `plugins.Renderer.draw`. out may also be memory of this GPU; the result is then on the host as well.

        Raises ControlError, BackendError.
        """
        if (camera.width, camera.height) != (self.canvas.width, self.canvas.height):
            size = f"{self.canvas.width}x{self.canvas.height}"
            raise ControlError(f"camera is {camera.width}x{camera.height}, the picture {size}: make one of that size")
        self.driver.select()
        stream, moves = self._stream.handle, encoded_audio is not None and self._audio > 0
        self.canvas.prepare(background, moves, stream)
        self.canvas.write(pose, translation, camera, background)
        self._inputs.host["expression"][...] = expression
        if moves:
            self._inputs.host["encoded_audio"][...] = encoded_audio
        self._play(stream)
        while self.canvas.overflowed():
            self._play(stream)
        to_host = not is_device_buffer(out)
        if not to_host:
            self.canvas.copy_to(out, stream)
        self.canvas.enqueue_download(stream)
        self.driver.synchronize(stream)
        return self.canvas.downloaded(out if to_host else None)

    def _play(self, stream: int) -> None:
        self._recorder.keep_for(self.canvas.version)
        self._recorder.play("draw", self._work, stream)
        self.driver.synchronize(stream)

    def _work(self, stream: int) -> None:
        self._inputs.upload(stream)
        pointers = self._inputs.pointers
        self.canvas.enqueue(pointers["expression"], 0, pointers["encoded_audio"], stream)
