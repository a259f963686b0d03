"""A turn of speech: from its first sound to the frame that ends it, or to an interruption."""

from __future__ import annotations


class Turn:
    """Which frames end an utterance. Frames are counted from 0 since the stream began, was interrupted or reset."""

    def __init__(self) -> None:
        self._silent = 0  # frames up to here are taken up by utterances that have ended, and the silence after them
        self._ends: list[int] = []
        self.missing = 0

    def end(self, heard: int, waiting: int, delay: int) -> bool:
        """Ends the utterance; False if there is none. `missing` frames of silence must be heard beyond the delay.

        heard, waiting: frames that were heard and that wait to be. delay: frames between a sound and its picture.
        """
        count = heard + waiting
        if count <= self._silent:
            return False
        # With no delay and nothing waiting the last frame has been handed out: one of silence ends it instead.
        self.missing = 0 if delay or waiting else 1
        self._ends.append(count - 1 + self.missing)
        self._silent = count + max(delay, self.missing)
        return True

    def ends(self, frame: int) -> bool:
        """Whether an utterance ends with this frame. To be asked once for each frame, in order."""
        if not self._ends or frame < self._ends[0]:
            return False
        self._ends.pop(0)
        return True
