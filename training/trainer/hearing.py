"""What the encoder hears of a clip: tokens by D(c, r, L), computed once and kept in a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from ...runtime.errors import CheckpointError, OutputError
from ..scenes import Scene, Tokens, encoder_digest, read_speech, sound_digest
from ..wav2vec2 import StreamingWav2Vec2
from .errors import TrainingError

__all__ = ["encoder_digest", "tokens_of"]

_FOLDER = "tokens"
_SLACK = 10  # tokens (0.2 s) that a sound may be shorter than its pictures


def tokens_of(scene: Scene, encoder: StreamingWav2Vec2, digest: str, cache: Path | None = None) -> Tokens:
    """The scene's tokens [N, H] as this encoder hears them: its own (`emotag-train check`), the cache's, or made now.

    Args:
        scene: with a sound.
        encoder: the checkpoint's; `digest` is its `encoder_digest`.
        cache: folder of the files; None: `tokens/` in the scene's own.

    Raises:
        TrainingError: the scene has no sound, or one that is shorter than its pictures.
        OutputError: the cache cannot be written. AudioError: the sound cannot be read.
    """
    if scene.sound is None:
        raise TrainingError(f"{scene.folder}: has no sound to learn from; put it there as aud.wav, 16 kHz mono")
    sound = sound_digest(scene.sound)
    own = scene.tokens
    if own is not None and (own.digest, own.sound_sha256) == (digest, sound):
        return _long_enough(scene, own)
    folder = scene.folder / _FOLDER if cache is None else cache
    path = folder / f"{sound[:16]}-{digest}.npy"
    if not path.is_file():
        _write(path, encoder, scene.sound)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); delete it, it is made again") from error
    if values.ndim != 2 or values.shape[1] != encoder.hidden:
        raise CheckpointError(f"{path}: holds {values.shape} numbers, not tokens; delete it, it is made again")
    return _long_enough(scene, Tokens(values, f"checkpoint {digest}", encoder.streaming, sound, digest))


def _long_enough(scene: Scene, tokens: Tokens) -> Tokens:
    if len(tokens.values) < 2 * scene.rows - _SLACK:
        raise TrainingError(
            f"{scene.folder}: its sound lasts {len(tokens.values) / 50:.2f} s, its pictures {scene.seconds:.2f} s; "
            f"`emotag-train check {scene.folder}` says which of them is wrong"
        )
    return tokens


def _write(path: Path, encoder: StreamingWav2Vec2, sound: Path) -> None:
    with torch.no_grad():
        values = encoder.extract(read_speech(sound))
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, values, allow_pickle=False)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: tokens cannot be written ({error.strerror}): free some space, or name a folder with "
            "--cache"
        ) from error
    finally:
        part.unlink(missing_ok=True)
