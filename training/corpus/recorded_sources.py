"""Where recordings and what is said in them come from: prompts with texts, and actors' lines that are listened to."""

from __future__ import annotations

import functools
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from . import talkies
from .errors import MissingProgramError, SpeechError
from .listener import LISTENER, Listener
from .speech import SAMPLE_RATE
from .transcripts import transcripts

SOUNDS = Path("/usr/share/asterisk/sounds")
TEXTS = Path("/usr/share/doc")

PROMPTS = {
    "en_US_f_Allison": "en",
    "es_MX_f_Allison": "es",
    "fr_CA_f_June": "fr",
    "it_IT_m_Carlo": "it",
    "ru_RU_f_IvrvoiceRU": "ru",
}
"""Speakers of Asterisk's prompts and their languages; one woman speaks two."""

SPEAKERS = {**PROMPTS, "fotaq": "en", "bass": "en", "drascula": "en"}
"""Language by speaker; the last three are games, each of many actors. docs/synth.md has their licences."""

_SHORTEST, _LONGEST, _FAINTEST = 0.5, 25.0, 0.02  # lines between so many seconds that are as loud are listened to


class Source(ABC):
    """The recordings of a speaker.

    hero: matches the names of one person's prompts, who says far more than any other; None: nobody does, or the names
    do not tell.
    """

    hero: re.Pattern[str] | None = None

    def __init__(self, speaker: str) -> None:
        self.speaker = speaker
        self.language = SPEAKERS[speaker]

    @abstractmethod
    def identity(self, version: int) -> str:
        """Twelve hexadecimal digits; others if recordings, texts, or the aligner (`version`) are others."""

    @abstractmethod
    def names(self) -> list[str]:
        """The prompts that something may be said in, sorted."""

    @abstractmethod
    def samples(self, name: str) -> npt.NDArray[np.int16]:
        """A prompt, `[N]`, 16 kHz."""

    @abstractmethod
    def text(self, name: str, samples: npt.NDArray[np.int16]) -> str | None:
        """What is said in a prompt; None: it is not worth aligning."""


class Prompts(Source):
    """Asterisk's prompts: files of G.722, and their texts.

    Raises:
        MissingProgramError: they are not installed.
    """

    def __init__(self, speaker: str) -> None:
        super().__init__(speaker)
        package = f"asterisk-core-sounds-{self.language}"
        self.folder = SOUNDS / speaker
        self.texts = TEXTS / package / f"core-sounds-{self.language}.txt.gz"
        if not self.folder.is_dir() or not self.texts.exists():
            raise MissingProgramError(
                f"the recordings of {speaker!r} are not installed; run: apt-get install {package}-g722 {package}"
            )

    def identity(self, version: int) -> str:
        digest = hashlib.sha256(f"{version} {self.language}".encode())
        for path in (self.texts, *self._files()):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    def names(self) -> list[str]:
        known = (str(path.relative_to(self.folder).with_suffix("")) for path in self._files())
        return [name for name in known if name in self._transcripts]

    def samples(self, name: str) -> npt.NDArray[np.int16]:
        path = self.folder / f"{name}.g722"
        try:
            with av.open(str(path), format="g722") as container:
                parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        except (OSError, av.error.FFmpegError) as error:
            raise SpeechError(f"cannot decode the recording {path}: {error}") from error
        samples: npt.NDArray[np.int16] = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        return samples

    def text(self, name: str, samples: npt.NDArray[np.int16]) -> str | None:
        return self._transcripts.get(name)

    @functools.cached_property
    def _transcripts(self) -> dict[str, str]:
        return transcripts(self.texts)

    def _files(self) -> Iterable[Path]:
        return sorted(self.folder.rglob("*.g722"))


class Talkie(Source):
    """A game's lines. Nobody wrote down for us what is said in them: a recogniser does.

    Raises:
        MissingProgramError: the game is not installed.
    """

    def __init__(self, speaker: str) -> None:
        super().__init__(speaker)
        # Joe King's remarks (JOE01234), and his part of a dialogue (020006J1); the cut scenes' names do not tell.
        self.hero = re.compile(r"JOE|.{6}J") if speaker == "fotaq" else None
        self._files = talkies.files(speaker)

    def identity(self, version: int) -> str:
        digest = hashlib.sha256(f"{version} {self.language} {LISTENER}".encode())
        for path in self._files:
            digest.update(f" {path.name} {path.stat().st_size} ".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:12]

    def names(self) -> list[str]:
        return talkies.lines(self.speaker)

    def samples(self, name: str) -> npt.NDArray[np.int16]:
        return talkies.line(self.speaker, name)

    def text(self, name: str, samples: npt.NDArray[np.int16]) -> str | None:
        sound = samples.astype(np.float32) / np.float32(32768)
        if not _SHORTEST <= len(sound) / SAMPLE_RATE <= _LONGEST or np.abs(sound).max() < _FAINTEST:
            return None
        return self._listener.text(sound)

    @functools.cached_property
    def _listener(self) -> Listener:
        return Listener()


def source_of(speaker: str) -> Source:
    """The recordings of one of `SPEAKERS`.

    Raises:
        MissingProgramError: they are not installed.
        SpeechError: no such speaker.
    """
    if speaker not in SPEAKERS:
        raise SpeechError(f"recorded speaker {speaker!r} is unknown; use one of: {', '.join(SPEAKERS)}")
    return Prompts(speaker) if speaker in PROMPTS else Talkie(speaker)
