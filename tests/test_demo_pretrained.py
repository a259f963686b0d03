"""An encoder that begins as a recogniser: the same layers, the same convolutions elsewhere, and their imitation."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emotag.training.corpus import FLITE, MissingProgramError, SpeechError
from emotag.training.corpus.listener import CENTRE, HOP, SPAN, Listener, installed_folder
from emotag.training.corpus.listener_weights import listener_weights
from emotag.training.demo.assemble import HEAD
from emotag.training.demo.clips import ClipRequest, make_clips
from emotag.training.demo.encoder import EncoderSchedule, build_encoder
from emotag.training.demo.pretrained import Ears, adopt_layers, begun_encoder, imitate
from emotag.training.head import HeadModel
from emotag.training.wav2vec2 import Rotary, StreamingConfig
from tests import tiny
from tests.recogniser import recogniser, recogniser_weights


@torch.no_grad()
def own_row(model: Any, field: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """What the recogniser's convolutions say of one field of 895 samples, by its own modules."""
    x = torch.tanh(model.conv1(field[None, None]))
    x = (x - mean) / torch.sqrt(spread + 1e-5)
    x = x * model.groupnorm.weight[:, None] + model.groupnorm.bias[:, None]
    out: Tensor = F.gelu(model.conv3(F.gelu(model.conv2(x))))
    assert out.shape[-1] == 1
    return out[0, :, 0]


@torch.no_grad()
def test_ears_hear_what_the_recogniser_hears_at_every_token() -> None:
    model = recogniser()
    sounds = torch.stack([torch.from_numpy(tiny.speech(2.0)), 3 * torch.from_numpy(tiny.speech(2.0)).flip(0)])
    heard = Ears(recogniser_weights()).hear(sounds, [0, 3200], 40)
    assert heard.shape == (2, 40, 288)
    for clip, first in ((0, 0), (1, 3200)):
        whole = torch.tanh(model.conv1(sounds[clip][None, None]))
        for token in (1, 17, 39):
            begin = first + 320 * token + 160 - CENTRE  # a row is centred in the middle of our token
            field = F.pad(sounds[clip], (SPAN, SPAN))[SPAN + begin : 2 * SPAN + begin]
            wanted = own_row(model, field, whole.mean(), whole.var(unbiased=False))
            torch.testing.assert_close(heard[clip, token], wanted, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_adopted_layers_are_the_recognisers() -> None:
    """With all tokens in one chunk, and its own pace, the encoder's layers say what Hugging Face's Moonshine says."""
    model = recogniser()
    encoder = begun_encoder(build_encoder(1), 4).eval()
    adopt_layers(encoder, recogniser_weights())
    assert encoder.rotary == Rotary(32, pace=320 / HOP)
    encoder.rotary = Rotary(32)
    encoder.streaming = StreamingConfig(30, 0, 30)
    x = torch.randn(1, 30, 288, generator=torch.Generator().manual_seed(1))
    main, copies = x, x[:, :1, None].expand(1, 1, 1, 288)[:, :, :0]
    for layer in encoder.model.encoder.layers:
        main, copies = encoder._layer(layer, main, copies)
    found = encoder.model.encoder.layer_norm(main)
    turns = model.rotary_emb(x, torch.arange(30)[None])
    for layer in model.layers:
        x = layer(x, position_embeddings=turns)
        x = x[0] if isinstance(x, tuple) else x
    torch.testing.assert_close(found, model.layer_norm(x), atol=2e-4, rtol=1e-4)


def test_the_small_encoders_convolutions_are_kept() -> None:
    small = build_encoder(1)
    small.calibrate([tiny.speech(2.0)])
    encoder = begun_encoder(small, 2)
    for i in range(4):
        ours, its = (e.model.feature_extractor.conv_layers[i].conv.weight for e in (encoder, small))
        torch.testing.assert_close(ours, its)
    torch.testing.assert_close(encoder.norm_mean, small.norm_mean)
    assert float(encoder.sample_scale) == float(small.sample_scale) != 1


def test_imitation_lowers_its_loss_and_touches_no_layer() -> None:
    names = HeadModel.load(HEAD).expression_names
    clips = make_clips(ClipRequest(count=2, frames=60, voices=FLITE), names)
    encoder = begun_encoder(build_encoder(1), 1)
    before = {name: value.clone() for name, value in encoder.model.encoder.layers.state_dict().items()}
    schedule = EncoderSchedule(steps=12, batch=2, frames=40, rate=3e-3, warped=0.5)
    losses = imitate(encoder, clips, np.arange(2), Ears(recogniser_weights()), schedule)
    assert len(losses) == 12 and np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    for name, value in encoder.model.encoder.layers.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="cannot load the listener's"):
        listener_weights(tmp_path)
    (tmp_path / "encoder_model.ort").write_bytes(b"not a network")
    with pytest.raises(SpeechError, match="cannot load the listener's"):
        listener_weights(tmp_path)


def test_only_reading_the_weights_needs_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pretrain` and `adapt` import this module too, and the extra `train` has no onnx."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, listener_weights.__module__)
    fresh = importlib.import_module(listener_weights.__module__)
    with pytest.raises(MissingProgramError, match=r"onnx.*pip install 'emotag\[listen\]'"):
        fresh.listener_weights(tmp_path)


def test_the_real_weights_are_those_of_the_real_recogniser() -> None:
    pytest.importorskip("moonshine_voice")
    assert installed_folder().is_dir()
    model = recogniser_of(listener_weights())
    sound = tiny.speech(2.0)
    with torch.no_grad():
        found = model(torch.from_numpy(sound)[None]).last_hidden_state[0].numpy()
    wanted = Listener().features(sound)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.995  # its products are of 8 bits, ours are not


def recogniser_of(weights: dict[str, Any]) -> Any:
    """Hugging Face's Moonshine with these weights; every one must fit."""
    from transformers import MoonshineConfig
    from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder

    model = MoonshineEncoder(MoonshineConfig()).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=True)
    return model
