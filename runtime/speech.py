"""From samples to motion: encoder, token history and motion network of one avatar, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from .audio import AudioQueue, check_samples
from .encoder import StreamingEncoder
from .graphs import Float
from .manifest import FRAME_SAMPLES, Manifest
from .motion import MOTION_NAMES, Motion, MotionNetwork
from .sound import Sound

CLOSING_FRAMES = 3  # 120 ms from speaking to rest after an interruption


@dataclass(frozen=True, eq=False)
class Heard:
    """A frame of samples [640], the chunks of tokens [c, H] that it completed, and the seconds that this took."""

    samples: Float
    chunks: list[Float]
    seconds: float


class Speech:
    """One utterance in progress. Its own frames are counted from 0; d of them pass before the first has a motion."""

    def __init__(self, manifest: Manifest, encoder: StreamingEncoder | None, network: MotionNetwork) -> None:
        self._encoder, self._network = encoder, network
        self._lookahead = manifest.lookahead_frames
        self._newest = manifest.motion.smooth_future
        self._sound = np.zeros((self._lookahead + 1, FRAME_SAMPLES), np.float32)
        self._heard = 0

    def reset(self) -> None:
        """The next samples begin a new utterance; what was heard before leaves no trace."""
        if self._encoder is not None:
            self._encoder.reset()
        self._network.reset()
        self._sound[:] = 0
        self._heard = 0

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
        self._encoder.feed(samples, lambda tokens: chunks.append(tokens.copy()))
        return Heard(samples, chunks, perf_counter() - start)

    def take(self, heard: Heard) -> None:
        """The second half of `hear`, in the order in which the frames were encoded."""
        for tokens in heard.chunks:
            self._network.history.append(tokens)
        self._keep(heard.samples)

    def listen(self, sound: Sound) -> Generator[Heard, None, None]:
        """Encodes a whole sound, and silence until its last frame has all its look-ahead. Raises AudioError."""
        queue, samples = AudioQueue(), np.zeros(FRAME_SAMPLES, np.float32)
        for block in sound.blocks:
            queue.put(check_samples(block), sound.rate)
            while queue.take(samples):
                yield self.encode(samples.copy())
        queue.finish()
        if self._lookahead:
            queue.put(np.zeros(FRAME_SAMPLES * self._lookahead, np.float32))
        while queue.take(samples):
            yield self.encode(samples.copy())

    @property
    def encoder(self) -> StreamingEncoder | None:
        """The encoder; None for a bundle without one."""
        return self._encoder

    def _keep(self, samples: Float) -> None:
        self._sound[self._heard % len(self._sound)] = samples
        self._heard += 1

    def sound(self) -> Float:
        """The samples [640] of the frame that is due: those of d frames ago. Silence before the first."""
        due: Float = self._sound[self._heard % len(self._sound)]
        return due

    def motion(self, aus: Float) -> Motion:
        """Motion of the frame that is due; the rest pose before the first. Call once after each `hear` or `take`.

        The arrays are overwritten by the next call. aus: [6] action units of this frame's cue, 0…5.
        """
        frame = self._heard - 1 - self._lookahead
        if frame + self._newest < 0 or not self._heard:
            return self._network.rest
        motion = self._network.hear(frame + self._newest, aus)
        return motion if frame >= 0 else self._network.rest


class Closing:
    """Cross-fades from the motion that was shown last to what comes, so that an interruption closes the mouth."""

    def __init__(self, rest: Motion) -> None:
        self._from, self._mixed = rest.copy(), rest.copy()
        self._left = 0

    def begin(self, shown: Motion) -> None:
        """Starts from `shown`, whose values are copied."""
        _assign(self._from, shown)
        self._left = CLOSING_FRAMES

    def cancel(self) -> None:
        self._left = 0

    @property
    def active(self) -> bool:
        """Whether the next motion will be mixed."""
        return self._left > 0

    def apply(self, motion: Motion) -> Motion:
        """`motion`, or its mixture with what was shown before while the fade lasts; its last frame is exact."""
        if not self._left:
            return motion
        self._left -= 1
        if not self._left:
            return motion
        share = np.float32(self._left / CLOSING_FRAMES)
        for name in MOTION_NAMES:
            mixed = getattr(self._mixed, name)
            np.subtract(getattr(self._from, name), getattr(motion, name), out=mixed)
            mixed *= share
            mixed += getattr(motion, name)
        return self._mixed


def _assign(to: Motion, source: Motion) -> None:
    for name in MOTION_NAMES:
        getattr(to, name)[...] = getattr(source, name)
