"""Audio tokens of a scene by D(c, r, L): made once, kept beside the sound, mapped from the disk when trained on.

`audio_tokens.npy` holds [N, H] float32, a token of 20 ms a row; `audio_tokens.json` how they were made. A clip trained
on these sees what the streaming encoder will give live.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError, OutputError
from ..released_scene import load_array
from ..wav2vec2 import StreamingConfig, StreamingWav2Vec2
from .sound import read_speech

__all__ = [
    "TOKENS",
    "Tokens",
    "encoder_digest",
    "load_encoder",
    "load_tokens",
    "made_from",
    "make_tokens",
    "save_tokens",
    "sound_digest",
]

Floats = NDArray[np.float32]

TOKENS = "audio_tokens.npy"
TOKENS_ABOUT = "audio_tokens.json"
_SAMPLE = Path(__file__).parent.parent / "assets" / "sample.wav"
_AGAIN = "make them again with `emotag-train check SCENE --make-features --encoder NAME`."


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of a clip and the definition that they were made by."""

    values: Floats  # [N, H], on the disk
    encoder: str
    streaming: StreamingConfig
    sound_sha256: str
    digest: str = ""  # `encoder_digest` of the encoder; empty where the file does not say

    def windows(self, rows: Sequence[int] | NDArray[np.integer[Any]], past: int, future: int) -> Floats:
        """Windows [len(rows), past + future, H] of video frames: tokens `[2f - past, 2f + future)` of frame f.

        Before the first and after the last token they repeat it, as `grmn.token_windows`.
        """
        index = 2 * np.asarray(rows, dtype=np.int64)[:, None] + np.arange(-past, future)
        windows: Floats = np.asarray(self.values[index.clip(0, len(self.values) - 1)], dtype=np.float32)
        return windows


def load_encoder(name: str | Path, streaming: StreamingConfig, calibration: Path | None = None) -> StreamingWav2Vec2:
    """A Wav2Vec2 by D(c, r, L), its utterance statistics frozen.

    Args:
        name: a Hugging Face name or a folder.
        streaming: c, r, L.
        calibration: the speech that the statistics are taken from; the shipped sample if None. Give every scene, and
            the checkpoint trained on them, the same.

    Raises:
        CheckpointError: the encoder cannot be loaded. AudioError: the calibration speech cannot.
    """
    encoder = StreamingWav2Vec2.from_pretrained(name, streaming)
    encoder.calibrate([read_speech(_SAMPLE if calibration is None else calibration)])
    return encoder.eval()


def encoder_digest(encoder: StreamingWav2Vec2) -> str:
    """16 hexadecimal digits that change with any weight, statistic or c, r, L of the encoder."""
    found = hashlib.sha256(repr(encoder.streaming).encode())
    for name, value in sorted(encoder.state_dict().items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return found.hexdigest()[:16]


def make_tokens(folder: Path, sound: Path, name: str, encoder: StreamingWav2Vec2) -> Tokens:
    """Encode the scene's sound and keep the tokens in its folder. Raises AudioError, OutputError."""
    values = encoder.extract(read_speech(sound))
    return save_tokens(folder, values, name, encoder.streaming, sound_digest(sound), encoder_digest(encoder))


def save_tokens(
    folder: Path, values: Floats, name: str, streaming: StreamingConfig, sound_sha256: str, digest: str = ""
) -> Tokens:
    """Write tokens [N, H] and what they are; both files are whole or the old ones stay. Raises OutputError."""
    about = {
        "encoder": name,
        "encoder_digest": digest,
        "streaming": asdict(streaming),
        "sound_sha256": sound_sha256,
        "shape": list(values.shape),
    }
    parts = {name: folder / f".{name}.{os.getpid()}.partial" for name in (TOKENS, TOKENS_ABOUT)}
    try:
        with parts[TOKENS].open("wb") as file:
            np.save(file, np.ascontiguousarray(values, dtype=np.float32), allow_pickle=False)
        parts[TOKENS_ABOUT].write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        for target, part in parts.items():
            os.replace(part, folder / target)
    except OSError as error:
        raise OutputError(
            f"{folder}: {TOKENS} cannot be written ({error.strerror}): free some space or check its permissions"
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return load_tokens(folder)


def load_tokens(folder: Path) -> Tokens:
    """The tokens of a scene, left on the disk.

    Raises:
        CheckpointError: one of the two files is missing or broken, or they do not belong together.
    """
    about_path = folder / TOKENS_ABOUT
    try:
        about = json.loads(about_path.read_text(encoding="utf-8"))
        streaming = StreamingConfig(**about["streaming"])
        encoder, sound, shape = str(about["encoder"]), str(about["sound_sha256"]), tuple(about["shape"])
        digest = str(about.get("encoder_digest", ""))
    except FileNotFoundError as error:
        raise CheckpointError(f"{about_path}: missing, so nobody knows how {TOKENS} was made; {_AGAIN}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{about_path}: does not tell how {TOKENS} was made ({error}); {_AGAIN}") from error
    values = load_array(folder / TOKENS, (None, None), mapped=True)
    if values.shape != shape:
        raise CheckpointError(f"{folder / TOKENS}: has the shape {values.shape}, {TOKENS_ABOUT} says {shape}; {_AGAIN}")
    return Tokens(values, encoder, streaming, sound, digest)


def made_from(tokens: Tokens, sound: Path) -> bool:
    """Whether these tokens are those of this very sound file."""
    return tokens.sound_sha256 == sound_digest(sound)


def sound_digest(path: Path) -> str:
    """SHA-256 of a sound file, by which tokens know what they were made from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
