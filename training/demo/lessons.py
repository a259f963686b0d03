"""What a recognizer of people's speech hears in the clips, as a lesson for the demo's encoder."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..corpus.listener import CENTRE, HOP
from .clips import Clips, Progress

_TOKEN, _MIDDLE = 320, 120  # samples between tokens, and the middle of the first one's field
_KEPT = 50  # clips from which each feature's mean and spread are taken


class Recognizer(Protocol):
    """Rows of features of a sound; `corpus.Listener` is one."""

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[T, W]` of samples `[N]` at 16 kHz; row i is about sample `CENTRE + HOP·i`."""
        ...


def lessons(clips: Clips, recognizer: Recognizer, progress: Progress | None = None) -> NDArray[np.float16]:
    """`[N, 2F, W]` the recognizer's features where each token of each clip is, standardised over the clips."""
    count = 2 * clips.jaw.shape[1]
    rows: list[NDArray[np.float16]] = []
    for index in range(len(clips)):
        rows.append(_at_tokens(recognizer.features(clips.sound(index)), count).astype(np.float16))
        if progress and (index + 1) % 50 == 0:
            progress("lessons", (index + 1) / len(clips))
    heard = np.stack(rows)
    some = heard[:: max(1, len(heard) // _KEPT)].astype(np.float32)
    mean, spread = some.mean(axis=(0, 1)), some.std(axis=(0, 1)) + 1e-4
    for index in range(len(heard)):  # in place: this is a gigabyte
        heard[index] = (heard[index].astype(np.float32) - mean) / spread
    return heard


def _at_tokens(features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Rows between which a token lies, mixed; the first and last are held."""
    place = (np.arange(count) * _TOKEN + _MIDDLE - CENTRE) / HOP
    place = np.clip(place, 0, len(features) - 1)
    before = np.minimum(place.astype(int), max(len(features) - 2, 0))
    after = np.minimum(before + 1, len(features) - 1)
    share = (place - before)[:, None].astype(np.float32)
    mixed: NDArray[np.float32] = features[before] * (1 - share) + features[after] * share
    return mixed
