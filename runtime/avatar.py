"""The avatar: 40 ms of audio in, one picture out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..plugins import Camera
from .ahead import Ahead, OneAhead
from .audio import AudioQueue, Samples, check_rate, check_samples, to_float
from .backends import BackendInfo, DeviceRenderer, is_device_buffer, whole_frame
from .drawing import Background, Painter, Picture, check_background, check_size
from .errors import BundleError, ControlError
from .frame import DeviceOnlyFrame, Frame, split_alpha
from .graphs import Float
from .manifest import FRAME_SAMPLES, SAMPLE_RATE
from .model import Model
from .motion import Motion
from .sound import Sound, with_progress
from .speech import Closing, Heard
from .stats import StageClock, Stats

_SILENCE = np.zeros(FRAME_SAMPLES, np.float32)


class Avatar:
    """A talking head. Not for use by two threads at once; several avatars on one `Model` may run side by side.

    A frame's picture needs d frames of look-ahead (`latency_ms`). The first d frames show the rest pose with
    silence and have negative indices; from then on `frame.audio` is what belongs to `frame.rgb`.
    """

    def __init__(
        self,
        model: Model | str | Path,
        *,
        device: str = "auto",
        threads: int = 0,
        width: int | None = None,
        height: int | None = None,
        pipelined: bool = False,
    ) -> None:
        """model: a loaded `Model`, or the bundle folder. width, height: of the picture, default those of the bundle.

        pipelined: `step` encodes its audio on another thread while it draws the frame before, which makes more frames a
        second on two cores, for one frame (40 ms) of latency more. `render` does so without being asked.
        device and threads are those of `Model.load`, and used only with a folder.
        Raises BundleError, BackendError, ControlError.
        """
        self._model = model if isinstance(model, Model) else Model.load(model, device, threads)
        manifest = self._model.manifest
        size = check_size(manifest.width if width is None else width, manifest.height if height is None else height)
        self._painter = Painter(self._model.renderer(*size), manifest, self._model.cues, size)
        self._network = self._model.motion_network()
        self._speech = self._model.speech(self._network)
        self._closing = Closing(self._network.rest)
        self._queue = AudioQueue()
        self._samples = np.zeros(FRAME_SAMPLES, np.float32)
        self._background: Background = manifest.background
        self._camera: Camera | None = None
        self._clock = StageClock()
        self._shown: Motion = self._network.rest
        self._pipeline = OneAhead(self._speech.encode) if pipelined else None
        encoder, renderer = self._speech.encoder, self._painter.renderer
        bound = None if encoder is None else encoder.bound
        self._whole = None if pipelined else whole_frame(bound, self._network.bound, renderer)
        self._rendering: Ahead[Heard] | None = None
        self._index = -self._delay

    # What it is

    @property
    def model(self) -> Model:
        """What it shares with other avatars of its bundle."""
        return self._model

    @property
    def backend(self) -> BackendInfo:
        """Where it runs: "cpu", "cuda" or "tensorrt", with the `reason` why, the `device` and the `precision`."""
        return self._model.backend

    @property
    def latency_ms(self) -> int:
        """Milliseconds between a sound and the picture that belongs to it."""
        return 40 * self._delay

    @property
    def width(self) -> int:
        """Of the picture, in pixels."""
        return self._painter.width

    @property
    def height(self) -> int:
        """Of the picture, in pixels."""
        return self._painter.height

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the expression coefficients; empty if the head has none."""
        return self._model.manifest.expression_names

    def stats(self) -> Stats:
        """Times of each stage over the newest frames."""
        return self._clock.stats()

    # What can be set at any time

    @property
    def background(self) -> Background:
        """Three numbers 0…1, an image uint8 [height, width, 3], or None for transparent (`Frame.alpha`)."""
        return self._background

    @background.setter
    def background(self, value: Any) -> None:
        self._background = check_background(value, self.width, self.height)

    @property
    def camera(self) -> Camera | None:
        """The camera that looks; None is the recorded one, which moves with the cues."""
        return self._camera

    @camera.setter
    def camera(self, value: Camera | None) -> None:
        if value is not None:
            if not isinstance(value, Camera):
                raise ControlError(f"camera is {type(value).__name__}: set an emotag.plugins.Camera, or None")
            if (value.width, value.height) != (self.width, self.height):
                raise ControlError(
                    f"camera is {value.width}x{value.height}, the avatar {self.width}x{self.height}: "
                    "make the camera of that size, or the avatar with width= and height="
                )
        self._camera = value

    def camera_at(self, index: int) -> Camera:
        """The camera that frame `index` is seen by: the one that was set, or its cue's."""
        return self._camera or self._painter.cue_camera(self._model.cues.at(index))

    # Audio in, frames out

    def step(self, samples: Samples, out: Picture | None = None) -> Frame:
        """Takes exactly 640 samples (40 ms, 16 kHz mono; int16, or float32 in -1…1); returns exactly one frame.

        out: where to draw, uint8 [height, width, 3] (4 on a transparent background); a new array by default. Where a
        GPU draws, also memory of that GPU (`__cuda_array_interface__`, DLPack): the picture then stays there.
        Audio that `push` left waiting comes first. Raises AudioError, and the avatar is as before; ControlError while
        a `render` is not finished.
        """
        self._check_listens()
        samples = check_samples(samples, FRAME_SAMPLES)
        if out is not None:
            self._check_out(out)
        start = perf_counter()
        if self._queue.idle:
            to_float(samples, self._samples)
        else:
            self._queue.put(samples)
            self._queue.take(self._samples)
        return self._frame(start, out)

    def push(self, samples: Samples, sample_rate: int = SAMPLE_RATE) -> Iterator[Frame]:
        """Takes mono audio of any length and rate; yields the frames that became ready, the same as repeated `step`.

        The audio is checked and taken in at once, frames are made as they are asked for: what is not asked for
        waits for the next call. `interrupt` ends the iteration. Raises AudioError, and the avatar is as before;
        ControlError while a `render` is not finished.
        """
        self._check_listens()
        rate = check_rate(sample_rate)
        self._queue.put(check_samples(samples), rate)
        return self._ready()

    def flush(self) -> Iterator[Frame]:
        """Ends an utterance: silence fills its last frame and the look-ahead; yields the frames up to its last.

        The stream goes on: the silence has been heard, indices count on, and the frames of the silence itself
        come out with the next audio.
        """
        self._check_listens()
        silence = np.zeros(FRAME_SAMPLES * self._delay, np.float32)
        self._queue.finish()
        if len(silence):
            self._queue.put(silence)
        return (frame for frame in self._ready() if frame.index >= 0)

    def interrupt(self) -> None:
        """Drops all audio that is not yet shown and closes the mouth within 120 ms; what comes next is a new utterance.

        Indices count on. The next d frames are silent. A `render` that is not finished ends.
        """
        self._forget()
        self._closing.begin(self._shown)

    def reset(self) -> None:
        """As just made, except for background, camera and statistics. A `render` that is not finished ends."""
        self._forget()
        self._closing.cancel()
        self._shown = self._network.rest
        self._index = -self._delay

    def render(
        self,
        source: str | Path | Samples,
        *,
        sample_rate: int = SAMPLE_RATE,
        downmix: bool = False,
        progress: bool = True,
    ) -> Iterator[Frame]:
        """Yields the frames of a whole sound file or array, from index 0 to the last; each is ready when asked for.

        A file is read as it is needed, so it may be hours long. Audio is encoded on a thread of its own, two or three
        frames ahead; the frames are those of `push`. The avatar is reset before and after. sample_rate is that of an
        array. downmix: average the channels of a file instead of refusing it. progress: a bar on
        stderr, if that is a terminal. Raises AudioError.
        """
        self._check_speaks()
        sound = Sound.open(source, sample_rate, downmix)
        return with_progress(self._render(sound), sound.frames, progress)

    def cued(self, *, progress: bool = True) -> Iterator[Frame]:
        """Yields the recorded clip: its own features, cues and cameras, with silence, from index 0.

        Only for bundles made from a released checkpoint, which bring their features; BundleError otherwise.
        The avatar is reset before and after.
        """
        windows = self._model.cues.cues.windows()
        return with_progress(self._cued(windows), len(self._model.cues.cues), progress)

    def _ready(self) -> Iterator[Frame]:
        while True:
            start = perf_counter()
            if not self._queue.take(self._samples):
                return
            yield self._frame(start, None)

    def _render(self, sound: Sound) -> Iterator[Frame]:
        self.reset()
        heard = self._rendering = Ahead(self._speech.listen(sound))
        try:
            self._index = -self._model.manifest.lookahead_frames
            start = perf_counter()
            for item in heard:
                self._speech.take(item)
                if self._index < 0:
                    self._move()
                    self._index += 1
                    continue
                yield self._due(start, item.seconds)
                if self._rendering is not heard:
                    return  # interrupted, reset, or another render began
                start = perf_counter()
        finally:
            heard.close()
            if self._rendering is heard:
                self.reset()

    def _cued(self, windows: Iterator[Float]) -> Iterator[Frame]:
        aus, newest = self._model.cues.cues.aus, self._model.manifest.motion.smooth_future
        self.reset()
        try:
            for frame in range(-newest, len(aus)):
                start = perf_counter()
                motion = self._network.recorded(next(windows, None), aus[max(frame, 0)])
                if frame >= 0:
                    self._index = frame
                    yield self._draw(frame, motion, _SILENCE.copy(), None, start, start, 0.0)
        finally:
            self.reset()

    def _frame(self, start: float, out: Picture | None) -> Frame:
        """The frame that is due once `self._samples` are heard; if pipelined, once those before them are."""
        if self._pipeline is None:
            frame = self._at_once(start, out)
            if frame is not None:
                return frame
            self._speech.hear(self._samples)
            return self._due(start, perf_counter() - start, out)
        heard = self._pipeline.exchange(self._samples)
        if heard is not None:
            self._speech.take(heard)
        return self._due(start, 0.0 if heard is None else heard.seconds, out)

    def _at_once(self, start: float, out: Any) -> Frame | None:
        """The frame that is due, made by a GPU in one go; None where there is none, or the host has a part in it."""
        if self._whole is None or self._closing.active:
            return None
        whole, row = self._whole, self._model.cues.at(self._index)
        self._painter.prepare(whole, row, self._camera, self._background)
        motion = self._speech.at_once(self._samples, self._model.cues.cues.aus[row], whole.run)
        if motion is None:
            return None
        self._shown = motion.copy()
        picture, on_device = whole.picture(out)
        seconds = perf_counter() - start
        self._clock.record(0.0, 0.0, seconds, seconds, self._painter.kernel_times)
        index, audio, made = self._index, self._speech.sound().copy(), whole.frames
        self._index += 1
        if picture is None:
            return DeviceOnlyFrame(index, audio, self._shown, on_device, lambda: whole.download(made))
        return Frame(index, *split_alpha(picture), audio, self._shown, on_device)

    def _due(self, start: float, audio_seconds: float, out: Picture | None = None) -> Frame:
        """The frame that is due by what was heard. start: when work on it began, in seconds."""
        heard = perf_counter()
        row, motion = self._move()
        frame = self._draw(row, motion, self._speech.sound().copy(), out, start, heard, audio_seconds)
        self._index += 1
        return frame

    def _move(self) -> tuple[int, Motion]:
        """Cue and motion of the frame that is due. To be called once a frame: the network counts along."""
        row = self._model.cues.at(self._index)
        return row, self._closing.apply(self._speech.motion(self._model.cues.cues.aus[row]))

    def _draw(
        self,
        row: int,
        motion: Motion,
        audio: Float,
        out: Picture | None,
        start: float,
        heard: float,
        audio_seconds: float,
    ) -> Frame:
        self._shown = motion.copy()
        moved = perf_counter()
        picture = self._painter.draw(row, self._shown, self._camera, self._background, out)
        drawn = perf_counter()
        rgb, alpha = split_alpha(picture)
        renderer = self._painter.renderer
        on_device = renderer.canvas.device_picture() if isinstance(renderer, DeviceRenderer) else None
        frame = Frame(self._index, rgb, alpha, audio, self._shown, on_device)
        kernels = self._painter.kernel_times
        self._clock.record(audio_seconds, moved - heard, drawn - moved, perf_counter() - start, kernels)
        return frame

    @property
    def _delay(self) -> int:
        """Frames between a sound and its picture."""
        return self._model.manifest.lookahead_frames + (self._pipeline is not None)

    def _forget(self) -> None:
        """Drops all audio, and stops whatever encodes it."""
        if self._rendering is not None:
            self._rendering.close()
            self._rendering = None
        if self._pipeline is not None:
            self._pipeline.clear()
        self._queue.clear()
        self._speech.reset()

    def _check_listens(self) -> None:
        self._check_speaks()
        if self._rendering is not None:
            raise ControlError(
                "a render of this avatar is not finished: take all its frames, close it, or call interrupt or reset"
            )

    def _check_speaks(self) -> None:
        if self._model.manifest.audio is None:
            raise BundleError(
                f"{self._model.bundle.path} has no audio encoder, it can only play its recording (cued, --cued): "
                "export it with --encoder to make it speak"
            )

    def _check_out(self, out: Any) -> None:
        channels = 4 if self._background is None else 3
        shape = (self.height, self.width, channels)
        if is_device_buffer(out) and isinstance(self._painter.renderer, DeviceRenderer):
            return self._painter.renderer.canvas.check(out, shape)
        usable = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.uint8
        if not usable or not out.flags.c_contiguous or not out.flags.writeable:
            raise ControlError(f"out is not a writeable, contiguous uint8 array of shape {shape}: make one")
