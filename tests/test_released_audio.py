"""Audio features as the released implementation makes them: whole-file tokens and windows of 16."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from emotag.runtime.errors import AudioError, CheckpointError
from emotag.training.released_audio import released_windows, whole_file_tokens
from tests.tiny import speech

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "released" / "encoder"


def numbered(count: int) -> np.ndarray:
    """Tokens [count, 1] that are their own index."""
    return np.arange(count, dtype=np.float32)[:, None]


def test_windows_have_copies_at_the_ends() -> None:
    windows = released_windows(numbered(40))[..., 0]
    assert windows.shape == (20, 16)
    np.testing.assert_array_equal(windows[0], [0] * 8 + list(range(8)))
    np.testing.assert_array_equal(windows[3], [0, 0, *range(14)])
    np.testing.assert_array_equal(windows[10], range(12, 28))
    np.testing.assert_array_equal(windows[19], [*range(30, 40), *[39] * 6])


def test_windows_slide_back_at_the_end() -> None:
    """Frames past the audio repeat the last whole window of the padded sequence."""
    windows = released_windows(numbered(40), frames=25)[..., 0]
    last = [*range(32, 40), *[39] * 8]
    np.testing.assert_array_equal(windows[20], last)
    np.testing.assert_array_equal(windows[24], last)
    odd = released_windows(numbered(9))[..., 0]
    assert odd.shape == (5, 16)
    np.testing.assert_array_equal(odd[4], [*range(9), *[8] * 7])


def test_windows_of_one_token_and_of_none() -> None:
    np.testing.assert_array_equal(released_windows(numbered(1) + 3), np.full((1, 16, 1), 3))
    assert released_windows(numbered(5), frames=0).shape == (0, 16, 1)
    with pytest.raises(AudioError, match="N ≥ 1"):
        released_windows(numbered(0))
    with pytest.raises(AudioError, match="-1 frames"):
        released_windows(numbered(5), frames=-1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=[24] * 7,
        num_conv_pos_embedding_groups=4,
    )
    torch.manual_seed(0)
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def test_whole_file_tokens_are_normalised(encoder: Path) -> None:
    wave_form = speech(1.5)
    tokens = whole_file_tokens(encoder, wave_form)
    assert tokens.shape == (74, 32) and tokens.dtype == np.float32
    np.testing.assert_allclose(whole_file_tokens(encoder, 0.3 * wave_form + 0.1), tokens, atol=1e-4)
    model = Wav2Vec2Model.from_pretrained(encoder)
    np.testing.assert_allclose(whole_file_tokens(model, wave_form), tokens, atol=1e-6)
    unit = (wave_form - wave_form.mean()) / np.sqrt(wave_form.var() + 1e-7)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(unit)[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(tokens, expected, atol=1e-4)


@pytest.mark.parametrize("samples", [np.zeros(399), np.zeros((2, 800)), np.full(800, np.nan), np.zeros(0)])
def test_audio_that_has_no_tokens(encoder: Path, samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match="at least 400 finite mono samples"):
        whole_file_tokens(encoder, samples)


def test_encoder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot load the audio encoder"):
        whole_file_tokens(tmp_path / "nowhere", np.zeros(800, np.float32))


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded encoder is not here")
def test_recorded_tokens_and_windows() -> None:
    with wave.open(str(RECORDED / "speech.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    tokens = whole_file_tokens(RECORDED, samples)
    with np.load(RECORDED / "expected.npz") as expected:
        assert np.abs(tokens - expected["tokens"]).max() < 1e-4
        np.testing.assert_array_equal(released_windows(expected["tokens"]), expected["windows"])
        assert np.abs(released_windows(tokens) - expected["windows"]).max() < 1e-4
