"""A whole sound, encoded once, for several avatars or takes that speak it: the encoder does not hear the controls."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from pathlib import Path
from threading import Lock

from .audio import Samples
from .errors import AudioError, ControlError
from .manifest import SAMPLE_RATE
from .model import Model
from .sound import Sound
from .speech import Heard

__all__ = ["Hearing"]


class Hearing:
    """A sound as the encoder of `model` hears it; give it to `Avatar.render` of avatars of that model.

    Frames are encoded as the first listener needs them, on that one's thread; each is 640 samples and its tokens, about
    5 KB for the demo. All of them are kept, so that another take may begin at any time; with `listeners`, only until
    that many have heard them, which suits a long sound that avatars speak side by side.
    """

    def __init__(
        self,
        model: Model,
        source: str | Path | Samples,
        *,
        sample_rate: int = SAMPLE_RATE,
        downmix: bool = False,
        listeners: int | None = None,
    ) -> None:
        """source, sample_rate, downmix: as of `Avatar.render`. listeners: how many takes there will be; None is any.

        Raises AudioError, BundleError for a bundle that takes no audio, ControlError for listeners below 1.
        """
        model.require_audio()
        if listeners is not None and (isinstance(listeners, bool) or not isinstance(listeners, int) or listeners < 1):
            raise ControlError(f"listeners={listeners!r} is not a whole number from 1: pass one, or None for any")
        sound = Sound.open(source, sample_rate, downmix)
        self.model, self.frames = model, sound.frames
        self._items = model.speech(model.motion_network()).listen(sound)
        self._listeners = listeners
        self._kept: deque[tuple[Heard, list[int]]] = deque()
        self._dropped = 0
        self._failed: Exception | None = None
        self._lock = Lock()

    def listen(self) -> Generator[Heard, None, None]:
        """The frames from the first on.

        Raises AudioError where the sound breaks off, for every listener; ControlError for one too many.
        """
        place = 0
        while (item := self._take(place)) is not None:
            place += 1
            yield item

    def _take(self, place: int) -> Heard | None:
        with self._lock:
            number = place - self._dropped
            if number < 0:
                raise ControlError(f"this hearing was made for {self._listeners} listeners: pass more, or None for any")
            if number == len(self._kept) and not self._encode():
                return None
            heard, taken = self._kept[number]
            taken[0] += 1
            while self._kept and self._kept[0][1][0] == self._listeners:
                self._kept.popleft()
                self._dropped += 1
            return heard

    def _encode(self) -> bool:
        if self._failed is not None:
            raise self._failed
        try:
            item = next(self._items, None)
        except Exception as error:
            self._failed = error
            raise
        except BaseException:  # it ended the generator: what follows must not look like the end of the sound
            self._failed = AudioError("the encoding of this sound was interrupted: make the hearing anew")
            raise
        if item is not None:
            self._kept.append((item, [0]))
        return item is not None
