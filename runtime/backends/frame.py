"""A whole frame on a GPU as one CUDA graph: hear, move, draw, without the host in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...plugins import Camera
from ..errors import ControlError
from ..graphs import Float
from .bound import DeviceBound, Recorder, Stream
from .canvas import Canvas, Picture
from .driver import Driver
from .memory import DeviceArray, is_device_buffer


class WholeFrame:
    """Encoder, motion network and canvas of one avatar, enqueued together on one stream.

    The host writes all inputs before (samples, the older tokens of the window, cues, camera); the newest tokens, the
    expression and the jaw go from graph to graph on the GPU. The order of what is enqueued:

    upload encoder inputs, upload motion inputs, encode, state, tokens to the window's end, move, state, upload
    controls, draw, download tokens, download motion, download status. The picture is copied after that.
    """

    def __init__(self, driver: Driver, encoder: DeviceBound, motion: DeviceBound, canvas: Canvas) -> None:
        self._driver, self._encoder, self._motion, self.canvas = driver, encoder, motion, canvas
        self._stream: Stream = encoder.stream  # the rings are kept on it
        self._recorder = Recorder(driver)
        tokens, window = encoder.outputs["tokens"], motion.inputs["window"]
        end = motion.pointers["window"] + window.nbytes
        self._tail = end - tokens.nbytes, encoder.pointers["tokens"], tokens.nbytes
        self.frames = 0
        """Frames made: tells whether a picture is still the newest."""
        self._mouth = canvas.scene.scene.mouth is not None

    def prepare(self, pose: Float, translation: Float, camera: Camera, background: Any) -> None:
        """What is drawn next beside the motion. Shapes as for `plugins.Renderer.draw`; the pose's jaw is not used."""
        self._driver.select()
        self.canvas.prepare(background, self._mouth, self._stream.handle)
        self.canvas.write(pose, translation, camera, background)

    def run(self) -> None:
        """The frame of the inputs that were written. Waits for the GPU."""
        stream = self._stream.handle
        self.frames += 1
        self._play("frame", self._work, stream)
        while self.canvas.overflowed():
            self._play("draw", self._draw, stream)

    def _play(self, key: str, work: Callable[[int], None], stream: int) -> None:
        self._recorder.keep_for(self.canvas.version)
        self._recorder.play(key, work, stream)
        self._driver.synchronize(stream)

    def _work(self, stream: int) -> None:
        self._encoder.upload(stream)
        self._motion.upload(stream)
        self._encoder.enqueue(stream)
        self._driver.copy(*self._tail, stream)
        self._motion.enqueue(stream)
        self._draw(stream)
        self._encoder.download(stream)
        self._motion.download(stream)

    def _draw(self, stream: int) -> None:
        out = self._motion.pointers
        self.canvas.enqueue(out["expression"], out["jaw"], out["encoded_audio"], stream)

    def picture(self, out: Any) -> tuple[Picture | None, DeviceArray]:
        """The finished picture: on the host (in `out`, or a new array), and on the GPU.

        With a GPU buffer as `out` it is copied there and not to the host. Raises ControlError.
        """
        stream = self._stream.handle
        if is_device_buffer(out):
            self.canvas.copy_to(out, stream)
            self._driver.synchronize(stream)
            return None, self.canvas.device_picture()
        self.canvas.enqueue_download(stream)
        self._driver.synchronize(stream)
        return self.canvas.downloaded(out), self.canvas.device_picture()

    def download(self, frame: int) -> Picture:
        """The picture of the frame that was the `frame`-th, copied to the host now.

        Raises ControlError if a later one has overwritten it.
        """
        if frame != self.frames:
            raise ControlError("this frame's picture on the GPU was overwritten: read frame.rgb before the next step")
        self._driver.select()
        self.canvas.enqueue_download(self._stream.handle)
        self._driver.synchronize(self._stream.handle)
        return self.canvas.downloaded(None)
