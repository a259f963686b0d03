"""From samples to motion: encoder, token history and motion network of one avatar, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from .audio import AudioQueue, check_samples
from .encoder import StreamingEncoder
from .errors import AudioError
from .graphs import Float
from .loudness import Loudness
from .manifest import FRAME_SAMPLES, Manifest
from .motion import MOTION_NAMES, Motion, MotionNetwork
from .sound import Sound

CLOSING_FRAMES = 3  # 120 ms from speaking to rest after an interruption


@dataclass(frozen=True, eq=False)
class Heard:
    """A frame of samples [640], the chunks of tokens [c, H] that it completed, and the seconds that this took.

    last: with it, the last frame of a whole sound is due.
    """

    samples: Float
    chunks: list[Float]
    seconds: float
    last: bool = False


class Speech:
    """One utterance in progress. Its own frames are counted from 0; d of them pass before the first has a motion."""

    def __init__(self, manifest: Manifest, encoder: StreamingEncoder | None, network: MotionNetwork) -> None:
        self._encoder, self._network = encoder, network
        self._lookahead = manifest.lookahead_frames
        self._newest = manifest.motion.smooth_future
        self._sound = np.zeros((self._lookahead + 1, FRAME_SAMPLES), np.float32)
        self._loudness, self._spoken = Loudness(), [False] * (self._lookahead + 2)
        self._heard = self._weighed = 0

    def reset(self) -> None:
        """The next samples begin a new utterance; what was heard before leaves no trace."""
        if self._encoder is not None:
            self._encoder.reset()
        self._network.reset()
        self._sound[:] = 0
        self._loudness.reset()
        self._spoken = [False] * len(self._spoken)
        self._heard = self._weighed = 0

    @property
    def heard(self) -> int:
        """Frames of samples taken in since the utterance began."""
        return self._heard

    @property
    def due(self) -> int:
        """Number of the frame that is due, counted from 0; negative before the first."""
        return self._heard - 1 - self._lookahead

    def hear(self, samples: Float) -> None:
        """Takes one frame of 640 samples (float32, −1…1) in."""
        assert self._encoder is not None, "Avatar refuses audio without an encoder"
        self._encoder.feed(samples, self._network.history.append)
        self._keep(samples)

    def at_once(self, samples: Float, aus: Float, run: Callable[[], None]) -> Motion | None:
        """`hear` and `motion` where a GPU does both, and draws, in one go: `run` is called when all inputs are written.

        None, and nothing is done, where that is not possible: while the first frames are awaited, or for c ≠ 2.
        """
        encoder, network = self._encoder, self._network
        frame = self._heard - self._lookahead
        if encoder is None or frame < 0 or not encoder.offer(samples):
            return None
        if not network.offer(frame + self._newest, aus, encoder.chunk_tokens):
            return None
        run()
        encoder.accept(network.history.append)
        self._keep(samples)
        return network.newest

    def encode(self, samples: Float) -> Heard:
        """The first half of `hear`, for a thread of its own: it touches the encoder and nothing else.

        samples are kept, not copied.
        """
        assert self._encoder is not None, "Avatar refuses audio without an encoder"
        chunks: list[Float] = []
        start = perf_counter()
        self._encoder.feed(samples, lambda tokens: chunks.append(tokens.copy()), alone=True)
        return Heard(samples, chunks, perf_counter() - start)

    def take(self, heard: Heard) -> None:
        """The second half of `hear`, in the order in which the frames were encoded."""
        for tokens in heard.chunks:
            self._network.history.append(tokens)
        self._keep(heard.samples)

    def listen(self, sound: Sound) -> Generator[Heard, None, None]:
        """Encodes a whole sound, and silence until its last frame has all its look-ahead. Raises AudioError."""
        frames = self._padded(sound)
        held = next(frames, None)
        while held is not None:  # one is held back, because the last one is to be known as such
            try:
                following = next(frames, None)
            except AudioError:
                yield self.encode(held)  # what comes before the fault is good
                raise
            heard = self.encode(held)
            yield replace(heard, last=True) if following is None else heard
            held = following

    def _padded(self, sound: Sound) -> Generator[Float, None, None]:
        """Frames of samples of a sound, and of the silence after it."""
        queue, samples = AudioQueue(), np.zeros(FRAME_SAMPLES, np.float32)
        for block in sound.blocks:
            queue.put(check_samples(block), sound.rate)
            while queue.take(samples):
                yield samples.copy()
        queue.finish()
        if self._lookahead:
            queue.put(np.zeros(FRAME_SAMPLES * self._lookahead, np.float32))
        while queue.take(samples):
            yield samples.copy()

    @property
    def encoder(self) -> StreamingEncoder | None:
        """The encoder; None for a bundle without one."""
        return self._encoder

    def weigh(self, samples: Float) -> None:
        """Judges the loudness of a frame of samples before it is heard, for `speaks`; else `hear` or `take` do it."""
        if self._weighed == self._heard:
            self._spoken[self._heard % len(self._spoken)] = self._loudness.hear(samples)
            self._weighed += 1

    def _keep(self, samples: Float) -> None:
        self.weigh(samples)
        self._sound[self._heard % len(self._sound)] = samples
        self._heard += 1

    def speaks(self, coming: int = 0) -> bool:
        """Whether there is speech in the frame that is due or, where that was heard already, in the one after it.

        coming: 1 asks for the frame that will be due once the samples that were weighed are heard.
        """
        due, spoken = self._heard - 1 - self._lookahead + coming, self._spoken
        if 0 <= due < self._weighed and spoken[due % len(spoken)]:
            return True
        due += 1
        return 0 <= due < self._weighed and spoken[due % len(spoken)]

    def sound(self) -> Float:
        """The samples [640] of the frame that is due: those of d frames ago. Silence before the first."""
        due: Float = self._sound[self._heard % len(self._sound)]
        return due

    def motion(self, aus: Float) -> Motion:
        """Motion of the frame that is due; the rest pose before the first. Call once after each `hear` or `take`.

        The arrays are overwritten by the next call. aus: [6] action units of this frame's cue, 0…5.
        """
        frame = self.due
        if frame + self._newest < 0 or not self._heard:
            return self._network.rest
        motion = self._network.hear(frame + self._newest, aus)
        return motion if frame >= 0 else self._network.rest


class Closing:
    """Cross-fades from the motion that was shown last to what comes, so that an interruption closes the mouth.

    The share of the old motion falls as a smooth step: lips that are cut off gather speed and slow down again.
    """

    def __init__(self, rest: Motion) -> None:
        self._from = rest.copy()
        self._left = 0

    def begin(self, shown: Motion) -> None:
        """Starts from `shown`, whose values are copied."""
        for name in MOTION_NAMES:
            getattr(self._from, name)[...] = getattr(shown, name)
        self._left = CLOSING_FRAMES

    def cancel(self) -> None:
        self._left = 0

    @property
    def active(self) -> bool:
        """Whether the next motion will be mixed."""
        return self._left > 0

    def apply(self, motion: Motion) -> None:
        """Mixes what was shown before into `motion`, in place, while the fade lasts; its last frame is exact."""
        if not self._left:
            return
        self._left -= 1
        part = self._left / CLOSING_FRAMES
        share = np.float32(part * part * (3 - 2 * part))
        if not share:
            return
        for name in MOTION_NAMES:
            values = getattr(motion, name)
            values += share * (getattr(self._from, name) - values)
