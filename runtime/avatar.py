"""The avatar: 40 ms of audio in, one picture out."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plugins import Camera
from .acting import Scene
from .ahead import Ahead, OneAhead
from .audio import AudioQueue, Samples, check_rate, check_samples, to_float
from .backends import BackendInfo, DeviceRenderer, WholeFrame, is_device_buffer, whole_frame
from .controls import Controls
from .drawing import Picture, check_size
from .errors import ControlError
from .feeling import FrameEmotion
from .frame import DeviceOnlyFrame, Frame, split_alpha
from .graphs import Float
from .hearing import Hearing
from .manifest import FRAME_SAMPLES, SAMPLE_RATE
from .model import Model
from .motion import Motion
from .sound import Sound, with_progress
from .speech import Heard
from .stats import StageClock, Stats
from .turn import Turn

_SILENCE = np.zeros(FRAME_SAMPLES, np.float32)


class Avatar(Controls):
    """A talking head. Several avatars on one `Model` may run side by side.

    Frames are for one thread to take; controls, `interrupt`, `flush` and `reset` are for any thread, at any moment.

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
        appearance: bool | None = None,
    ) -> None:
        """model: a loaded `Model`, or the bundle folder. width, height: of the picture, default those of the bundle.

        pipelined: `step` encodes its audio on another thread while it draws the frame before, which makes more frames a
        second on two cores, for one frame (40 ms) of latency more. `render` does so without being asked.
        appearance: whether the emotional residual of the Gaussians is drawn; None: where the bundle has one, True
        demands it, and with False a GPU can draw such a bundle, too. See `appearance`.
        device and threads are those of `Model.load`, and used only with a folder.
        Raises BundleError, BackendError, ControlError.
        """
        wanted = appearance is not False
        loaded = model if isinstance(model, Model) else Model.load(model, device, threads, wanted)
        manifest = loaded.manifest
        size = check_size(manifest.width if width is None else width, manifest.height if height is None else height)
        super().__init__(loaded, size)
        if appearance is not None:
            self.appearance = appearance
        self._speech = loaded.speech(self._network)
        self._queue = AudioQueue()
        self._samples = np.zeros(FRAME_SAMPLES, np.float32)
        self._clock = StageClock()
        self._pipeline = OneAhead(self._speech.encode) if pipelined else None
        self._whole = self._in_one_go()
        self._rendering: Ahead[Heard] | None = None
        self._turn = Turn()
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
    def expression_names(self) -> tuple[str, ...]:
        """Names of the expression coefficients; empty if the head has none."""
        return self._model.manifest.expression_names

    def stats(self) -> Stats:
        """Times of each stage over the newest frames."""
        return self._clock.stats()

    def camera_at(self, index: int) -> Camera:
        """The camera that frame `index` is seen by: the one that was set, or its cue's, turned as `camera` says."""
        row = self._model.cues.at(index)
        pivot = self._acting.pivot + self._model.cues.cues.translation[row]
        return self._view.of(self._painter.cue_camera(row), pivot)

    @property
    def head_middle(self) -> NDArray[np.float64]:
        """[3] the middle of the head at rest, metres: what `camera.orbit` goes around, and a point to look at."""
        return self._acting.pivot.copy()

    # Audio in, frames out

    def step(self, samples: Samples, out: Picture | None = None) -> Frame:
        """Takes exactly 640 samples (40 ms, 16 kHz mono; int16, or float32 in -1…1); returns exactly one frame.

        out: where to draw, uint8 [height, width, 3] (4 on a transparent background); a new array by default. Where a
        GPU draws, also memory of that GPU (`__cuda_array_interface__`, DLPack): the picture then stays there.
        Audio that `push` left waiting comes first. Raises AudioError, and the avatar is as before; ControlError while
        a `render` is not finished.
        """
        with self._lock:
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
        rate = check_rate(sample_rate)
        with self._lock:
            self._check_listens()
            self._queue.put(check_samples(samples), rate)
            return self._ready(self._turn)

    def flush(self) -> Iterator[Frame]:
        """Ends an utterance: silence fills its last frame and the look-ahead; yields the frames up to its last.

        That one has `end_of_speech`, whoever takes it; an utterance has exactly one such frame. The stream goes on: the
        silence has been heard, indices count on, and the frames of the silence itself come out with the next audio.
        Nothing happens if nothing was heard since the last flush.
        """
        with self._lock:
            self._check_listens()
            self._queue.finish()
            if self._turn.end(self._heard, self._queue.frames, self._delay):
                silence = np.zeros(FRAME_SAMPLES * max(self._delay, self._turn.missing), np.float32)
                if len(silence):
                    self._queue.put(silence)
            return (frame for frame in self._ready(self._turn) if frame.index >= 0)

    def interrupt(self) -> None:
        """Drops all audio that is not yet shown and shuts the mouth in 120 ms; what comes next is a new utterance.

        Indices and the head's motion go on, feeling and blinks too. The next d frames are silent. Iterations of `push`,
        `flush` and `render` that are not finished end.
        """
        with self._lock:
            self._forget()
            self._acting.interrupt()

    def reset(self) -> None:
        """As just made, except for controls and statistics. Iterations that are not finished end."""
        with self._lock:
            self._forget()
            self._acting.reset()
            self._index = -self._delay

    def render(
        self,
        source: str | Path | Samples | Hearing,
        *,
        sample_rate: int = SAMPLE_RATE,
        downmix: bool = False,
        progress: bool = True,
        start: int = 0,
    ) -> Iterator[Frame]:
        """Yields the frames of a whole sound file or array, from index 0 to the last; each is ready when asked for.

        A file is read as it is needed, so it may be hours long. Audio is encoded on a thread of its own, up to five
        frames ahead; the frames are those of `push`. The avatar is reset before and after. sample_rate is that of an
        array. downmix: average the channels of a file instead of refusing it. progress: a bar on
        stderr, if that is a terminal. start: index of the first frame to yield; those before are spoken but not drawn.
        A `Hearing` of the avatar's model is a sound that others may hear, too; it brings its rate with it.
        Raises AudioError; ControlError for a hearing of another model or with options of a sound, and a start that is
        no index.
        """
        self._model.require_audio()
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise ControlError(f"start {start!r} is not the index of a frame: give a whole number from 0")
        if isinstance(source, Hearing):
            if source.model is not self._model:
                raise ControlError("this hearing belongs to another model: make it with `avatar.model`")
            if downmix or sample_rate != SAMPLE_RATE:
                raise ControlError("a hearing has its rate and channels already: leave out sample_rate and downmix")
            return with_progress(self._render(source.listen(), start), _from(start, source.frames), progress)
        sound = Sound.open(source, sample_rate, downmix)
        return with_progress(self._render(self._speech.listen(sound), start), _from(start, sound.frames), progress)

    def cued(self, *, progress: bool = True) -> Iterator[Frame]:
        """Yields the recorded clip: its own features, cues and cameras, with silence, from index 0.

        Only for bundles made from a released checkpoint, which bring their features; BundleError otherwise.
        The avatar is reset before and after.
        """
        windows = self._model.cues.cues.windows()
        return with_progress(self._cued(windows), len(self._model.cues.cues), progress)

    def _ready(self, turn: Turn) -> Iterator[Frame]:
        while True:
            with self._lock:
                start = perf_counter()
                if turn is not self._turn or not self._queue.take(self._samples):
                    return
                frame = self._frame(start, None)
            yield frame

    def _render(self, items: Generator[Heard, None, None], first: int) -> Iterator[Frame]:
        with self._lock:
            self.reset()
            heard = self._rendering = Ahead(items)
            self._index = -self._model.manifest.lookahead_frames
        try:
            start = perf_counter()
            for item in heard:
                with self._lock:
                    if self._rendering is not heard:
                        return  # interrupted, reset, or another render began
                    self._speech.take(item)
                    self._painter.draw_alone(heard.behind)
                    if self._index < first:
                        self._move(self._scene())
                        self._index += 1
                        start = perf_counter()
                        continue
                    frame = self._due(start, item.seconds, last=item.last)
                yield frame
                start = perf_counter()
        finally:
            heard.close()
            with self._lock:
                if self._rendering is heard:
                    self.reset()

    def _cued(self, windows: Iterator[Float]) -> Iterator[Frame]:
        count, newest = len(self._model.cues.cues), self._model.manifest.motion.smooth_future
        self.reset()
        try:
            for frame in range(-newest, count):
                with self._lock:
                    start = perf_counter()
                    scene = self._acting.recall(max(frame, 0))
                    said = self._network.recorded(next(windows, None), scene.aus)
                    if frame < 0:
                        continue
                    self._index = frame
                    motion = self._acting.replay(scene, said)
                    drawn = self._draw(scene, motion, _SILENCE.copy(), None, start, start, 0.0, False)
                yield drawn
        finally:
            self.reset()

    def _frame(self, start: float, out: Picture | None) -> Frame:
        """The frame that is due once `self._samples` are heard; if pipelined, once those before them are."""
        if self._pipeline is None:
            self._speech.weigh(self._samples)
            scene = self._scene(1)
            frame = self._at_once(scene, start, out)
            if frame is not None:
                return frame
            self._speech.hear(self._samples)
            return self._due(start, perf_counter() - start, out, scene)
        heard = self._pipeline.exchange(self._samples)
        self._painter.draw_alone(self._pipeline.behind)
        if heard is not None:
            self._speech.take(heard)
        return self._due(start, 0.0 if heard is None else heard.seconds, out)

    def _at_once(self, scene: Scene, start: float, out: Any) -> Frame | None:
        """The frame that is due, made by a GPU in one go; None where there is none, or the host has a part in it."""
        if self._whole is None or not scene.untouched:
            return None
        whole, camera = self._whole, self._look(scene)
        self._painter.prepare(whole, scene.stance, camera, self._background)
        said = self._speech.at_once(self._samples, scene.aus, whole.run)
        if said is None:
            return None
        fields = self._about(scene, self._acting.finish(scene, said), self._turn.ends(self._speech.due))
        picture, on_device = whole.picture(out)
        seconds = perf_counter() - start
        self._clock.record(0.0, 0.0, 0.0, seconds, seconds, self._painter.kernel_times)
        made = whole.frames
        self._index += 1
        fields |= {"audio": self._speech.sound().copy(), "device_rgb": on_device}
        if picture is None:
            return DeviceOnlyFrame(fields, lambda: whole.download(made))
        rgb, alpha = split_alpha(picture)
        return Frame(rgb=rgb, alpha=alpha, **fields)

    def _due(
        self,
        start: float,
        audio_seconds: float,
        out: Picture | None = None,
        scene: Scene | None = None,
        last: bool = False,
    ) -> Frame:
        """The frame that is due by what was heard. start: when work on it began, in seconds. last: of a render."""
        heard = perf_counter()
        scene = scene or self._scene()
        motion = self._move(scene)
        last = self._turn.ends(self._speech.due) or last
        frame = self._draw(scene, motion, self._speech.sound().copy(), out, start, heard, audio_seconds, last)
        self._index += 1
        return frame

    def _scene(self, coming: int = 0) -> Scene:
        """The frame that is due, before its motion. To be called once a frame, and then `_move`: both count along.

        coming: 1 before its samples are heard, but weighed.
        """
        return self._acting.prepare(self._index, self._speech.speaks(coming), self._speech.due + coming < 0)

    def _move(self, scene: Scene) -> Motion:
        return self._acting.finish(scene, self._speech.motion(scene.aus))

    def _draw(
        self,
        scene: Scene,
        motion: Motion,
        audio: Float,
        out: Picture | None,
        start: float,
        heard: float,
        audio_seconds: float,
        last: bool,
    ) -> Frame:
        stance, camera = scene.stance, self._look(scene)
        moved = perf_counter()
        fields = self._about(scene, motion, last)
        worn = self._dress(motion, fields["emotion"])
        dressed = perf_counter()
        picture = self._painter.draw(scene.row, motion, camera, self._background, out, stance)
        drawn = perf_counter()
        rgb, alpha = split_alpha(picture)
        on_device = self._painter.device_picture()
        frame = Frame(rgb=rgb, alpha=alpha, audio=audio, device_rgb=on_device, **fields)
        kernels = self._painter.kernel_times
        self._clock.record(audio_seconds, moved - heard, worn, drawn - dressed, perf_counter() - start, kernels)
        return frame

    def _dress(self, motion: Motion, emotion: FrameEmotion) -> float:
        """Puts the emotional residual on, if there is one and it is wanted; the seconds that it took."""
        if not (self._wears and self._painter.wears):
            return 0.0
        start = perf_counter()
        self._painter.wear(motion, emotion.probabilities)
        return perf_counter() - start

    @property
    def _heard(self) -> int:
        """Frames heard since the utterance began, the one that is being encoded included."""
        return self._speech.heard + (self._pipeline is not None and self._pipeline.busy)

    def _look(self, scene: Scene) -> Camera:
        """The camera of a frame; eyes that follow it are turned towards it."""
        recorded = self._painter.stance_camera(scene.row, scene.stance)
        view = self._view
        if view.plain:
            camera = view.base or recorded
        else:
            camera = view.of(recorded, self._acting.pivot + scene.stance.translation)
        self._acting.look(scene.stance, camera)
        return camera

    def _about(self, scene: Scene, motion: Motion, last: bool) -> dict[str, Any]:
        """Fields of a frame beside picture and sound."""
        return {
            "index": self._index,
            "motion": motion,
            "emotion": self._acting.report(scene, motion),
            "pose": scene.stance.joints,
            "translation": scene.stance.translation,
            "speaking": scene.speaking,
            "end_of_speech": last,
        }

    def _in_one_go(self) -> WholeFrame | None:
        encoder = self._speech.encoder
        if self._pipeline is not None or encoder is None:
            return None
        return whole_frame(encoder.bound, self._network.bound, self._painter.renderer)

    def _resize(self, width: Any, height: Any) -> None:
        with self._lock:
            super()._resize(width, height)
            self._whole = self._in_one_go()

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
        self._painter.draw_alone(False)
        self._queue.clear()
        self._speech.reset()
        self._turn = Turn()

    def _check_listens(self) -> None:
        self._model.require_audio()
        if self._rendering is not None:
            raise ControlError(
                "a render of this avatar is not finished: take all its frames, close it, or call interrupt or reset"
            )

    def _check_out(self, out: Any) -> None:
        channels = 4 if self._background is None else 3
        shape = (self.height, self.width, channels)
        if is_device_buffer(out) and isinstance(self._painter.renderer, DeviceRenderer):
            return self._painter.renderer.canvas.check(out, shape)
        usable = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.uint8
        if not usable or not out.flags.c_contiguous or not out.flags.writeable:
            raise ControlError(f"out is not a writeable, contiguous uint8 array of shape {shape}: make one")


def _from(start: int, frames: int | None) -> int | None:
    """Frames that are left from `start` on."""
    return None if frames is None else max(frames - start, 0)
