"""Audio features as the released implementation makes them: whole file at once, windows of 16 tokens.

The runtime never does this: new speech goes through the streaming encoder. These functions check a released
checkpoint's features and measure how far streaming is from what its network was trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from ..runtime.errors import AudioError, CheckpointError
from .wav2vec2 import SAMPLE_RATE

__all__ = ["SIDE", "WINDOW", "released_windows", "whole_file_tokens"]

Floats = NDArray[np.float32]

WINDOW = 16  # tokens of 20 ms
SIDE = 8  # tokens before the frame's own, and copies of the first and of the last token at the ends
_SHORTEST = 400  # samples of the encoder's first token


def released_windows(tokens: Floats, frames: int | None = None) -> Floats:
    """Windows of every video frame (spec §1), as `aud_w2v.npy` holds them.

    Frame f sees the 16 tokens `[2f - 8, 2f + 8)` of the sequence with 8 copies of its first and of its last token at
    the ends; where that passes the end, the window slides back instead of shrinking.

    Args:
        tokens: [N, H], 20 ms each.
        frames: how many windows, of 40 ms; all that the tokens give, ceil(N/2), by default.

    Returns:
        [frames, 16, H].

    Raises:
        AudioError: there are no tokens, or `frames` is negative.
    """
    if tokens.ndim != 2 or len(tokens) == 0:
        raise AudioError(f"windows need tokens [N, H] with N ≥ 1, got shape {tokens.shape}: check the audio's length")
    count = -(-len(tokens) // 2) if frames is None else frames
    if count < 0:
        raise AudioError(f"{count} frames were asked for: give a count of 0 or more")
    padded = np.concatenate([tokens[:1].repeat(SIDE, 0), tokens, tokens[-1:].repeat(SIDE, 0)])
    first = np.minimum(2 * np.arange(count), len(padded) - WINDOW)
    windows: Floats = padded[first[:, None] + np.arange(WINDOW)]
    return windows


def whole_file_tokens(encoder: str | Path | Wav2Vec2Model, samples: NDArray[np.float32]) -> Floats:
    """Tokens of a whole utterance at once: `last_hidden_state` of the normalised waveform.

    Args:
        encoder: a folder with config.json, weights and preprocessor_config.json, a hub name, or a loaded model (then
            the waveform is normalised to zero mean and unit variance, as every base model's processor does).
        samples: [N] waveform, 16 kHz mono, in [-1, 1].

    Returns:
        [T, H], float32.

    Raises:
        AudioError: the waveform is not 1-D, is shorter than one token, or is not finite.
        CheckpointError: the encoder cannot be loaded.
    """
    wave = np.asarray(samples, dtype=np.float32)
    if wave.ndim != 1 or len(wave) < _SHORTEST or not np.isfinite(wave).all():
        raise AudioError(
            f"whole-file features need at least {_SHORTEST} finite mono samples at 16 kHz, got shape {wave.shape}: "
            "convert the recording first"
        )
    model, extractor = _load(encoder)
    inputs = extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
    model.train(False)
    with torch.inference_mode():
        tokens: Floats = model(inputs).last_hidden_state[0].float().numpy()
    return tokens


def _load(encoder: str | Path | Wav2Vec2Model) -> tuple[Wav2Vec2Model, Wav2Vec2FeatureExtractor]:
    if isinstance(encoder, Wav2Vec2Model):
        return encoder, Wav2Vec2FeatureExtractor(do_normalize=True)  # type: ignore[no-untyped-call]
    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(str(encoder))
        return Wav2Vec2Model.from_pretrained(str(encoder), weights_only=True), extractor
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot load the audio encoder {str(encoder)!r} ({reason}): give a Hugging Face Wav2Vec2 name that this "
            "machine can download, or a folder with config.json, model.safetensors and preprocessor_config.json"
        ) from error
