"""GRMN and the streaming encoder: definitions, equalities, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emotag.runtime.errors import AudioError, CheckpointError
from emotag.training.grmn import GRMN, NEUTRAL, GRMNConfig, token_windows
from emotag.training.mouth import MouthConfig, MouthHead
from emotag.training.wav2vec2 import StreamingConfig, StreamingWav2Vec2
from tests import tiny

DEFINITIONS = [(2, 0, 20), (2, 8, 100), (4, 4, 60)]


@torch.no_grad()
def definition(encoder: StreamingWav2Vec2, samples: Tensor) -> Tensor:
    """D(c, r, L) by Hugging Face's own modules with one dense mask; samples [N] to tokens with full look-ahead."""
    c, r, context = encoder.streaming.chunk, encoder.streaming.lookahead, encoder.streaming.context
    model, config = encoder.model, encoder.model.config
    features = encoder.features(encoder.normalise(samples)[None])[0]
    chunks = (len(features) - r) // c
    padded = F.pad(features, (0, 0, 64, 0))
    main, copies = [], []
    for k in range(chunks):
        window = padded[k * c : k * c + 64 + c + r][None]
        seen = (window + model.encoder.pos_conv_embed(window))[0, 64:]
        main.append(seen[:c])
        copies.append(seen[c:])
    x = torch.cat([*main, *copies])[None]
    if not config.do_stable_layer_norm:
        x = model.encoder.layer_norm(x)
    position = torch.arange(x.shape[1])
    chunk = torch.cat([torch.arange(chunks * c) // c, torch.arange(chunks * r) // max(r, 1)])
    is_main = position < chunks * c
    first = chunk[:, None] * c
    past = is_main[None] & (position[None] < first + c) & (position[None] >= first - context)
    allowed = past | (~is_main[None] & (chunk[None] == chunk[:, None]))
    mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]
    for layer in model.encoder.layers:
        out = layer(x, attention_mask=mask)
        x = out[0] if isinstance(out, tuple) else out
    if config.do_stable_layer_norm:
        x = model.encoder.layer_norm(x)
    return x[0, : chunks * c]


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("c, r, context", DEFINITIONS)
def test_offline_extraction_is_the_definition(c: int, r: int, context: int, pre_norm: bool) -> None:
    encoder = tiny.encoder(StreamingConfig(c, r, context), pre_norm=pre_norm)
    samples = torch.from_numpy(tiny.speech(2.56))
    wanted = definition(encoder, samples)
    found = torch.from_numpy(encoder.extract(samples.numpy()))
    assert len(found) == len(samples) // 320
    assert float(wanted.std()) > 0.1
    assert float((found[: len(wanted)] - wanted).abs().max()) <= 1e-4


def test_long_audio_is_computed_in_blocks() -> None:
    encoder = tiny.encoder(StreamingConfig(2, 2, 20))
    samples = tiny.speech(6.4)  # 160 chunks: more than one block of 128
    whole = encoder.extract(samples)
    head = encoder.extract(samples[: 640 * 150])
    np.testing.assert_allclose(whole[:290], head[:290], atol=1e-5)
    wanted = definition(encoder, torch.from_numpy(samples)).numpy()
    np.testing.assert_allclose(whole[: len(wanted)], wanted, atol=1e-4)


def test_tokens_do_not_see_beyond_their_lookahead() -> None:
    encoder = tiny.encoder(StreamingConfig(2, 4, 20))
    samples = tiny.speech(1.6)
    changed = samples.copy()
    changed[320 * 40 :] = 0
    a, b = encoder.extract(samples), encoder.extract(changed)
    # Chunk [34, 36) looks ahead to token 39, whose newest sample is 320·40 - 1.
    np.testing.assert_allclose(a[:36], b[:36], atol=1e-6)
    assert np.abs(a[36:38] - b[36:38]).max() > 1e-3


def test_gradients_reach_the_first_convolution() -> None:
    encoder = tiny.encoder()
    encoder(torch.from_numpy(tiny.speech(0.64))[None]).square().sum().backward()
    gradient = encoder.model.feature_extractor.conv_layers[0].conv.weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0


def test_calibration_freezes_the_utterance_statistics() -> None:
    encoder = tiny.encoder()
    clip = tiny.speech(2.0)
    encoder.calibrate([clip])
    normal = encoder.normalise(torch.from_numpy(clip))
    assert abs(float(normal.mean())) < 1e-3 and abs(float(normal.std()) - 1) < 1e-2
    with pytest.raises(AudioError, match="one second"):
        encoder.calibrate([clip[:8000]])


@pytest.mark.parametrize("count", [0, 100, 641])
def test_wrong_sample_counts_are_refused(count: int) -> None:
    with pytest.raises(AudioError, match="multiple of 640"):
        tiny.encoder()(torch.zeros(1, count))


@pytest.mark.parametrize("values", [(0, 0, 20), (2, 3, 20), (2, 2, 21), (2, -2, 20), (4, 4, 2)])
def test_impossible_definitions_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(CheckpointError):
        StreamingConfig(*values)


def test_unsupported_encoders_are_refused() -> None:
    with pytest.raises(CheckpointError, match="conv_stride"):
        StreamingWav2Vec2.from_config({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, StreamingConfig())


def test_an_encoder_loads_from_a_folder_and_a_missing_one_is_named(tmp_path: Path) -> None:
    saved = tiny.encoder()
    saved.model.save_pretrained(tmp_path / "encoder")
    loaded = StreamingWav2Vec2.from_pretrained(tmp_path / "encoder", saved.streaming)
    loaded.calibrate([tiny.speech(3.0)])
    np.testing.assert_allclose(loaded.extract(tiny.speech(1.0)), saved.extract(tiny.speech(1.0)), atol=1e-6)
    with pytest.raises(CheckpointError, match="nowhere"):
        StreamingWav2Vec2.from_pretrained(tmp_path / "nowhere", saved.streaming)


def test_the_released_preset_has_the_released_names_and_sizes() -> None:
    state = GRMN(GRMNConfig.released()).state_dict()
    assert len(state) == 94 and state["encoder_xy.embeddings"].shape == (9464, 1)
    assert state["audio_transformer.layers.3.self_attn.in_proj_weight"].shape == (768, 256)
    assert state["mouth_mlp.net.0.weight"].shape == (64, 292)
    assert state["pos_encoder.pe"].shape == (1, 1024, 256)


def test_the_encoder_stack_is_pytorchs_own() -> None:
    grmn = tiny.network()
    x = torch.randn(3, 10, 256)
    wanted = x
    for layer in grmn.audio_transformer.layers:
        wanted = layer(wanted)
    torch.testing.assert_close(grmn.audio_transformer(x), wanted, atol=1e-5, rtol=1e-5)


def test_a_clip_is_the_mean_over_neighbouring_windows() -> None:
    grmn = tiny.network()
    windows, aus, who = torch.randn(5, 10, 32), torch.rand(5, 6), torch.randn(24)
    found = grmn(windows, aus, who)
    zero = torch.zeros(1, 10, 32)
    padded = torch.cat([zero, windows, zero])
    for i in range(5):
        parts = grmn.decode(grmn.encode(padded[i : i + 3]), aus[i].expand(3, 6), grmn.modulation(who))
        for name in parts._fields:
            torch.testing.assert_close(getattr(found, name)[i], getattr(parts, name).mean(0), atol=1e-5, rtol=1e-5)


def test_clips_can_be_batched() -> None:
    grmn = tiny.network()
    windows, aus, who = torch.randn(2, 4, 10, 32), torch.rand(2, 4, 6), torch.randn(2, 24)
    both = grmn(windows, aus, who)
    for b in range(2):
        one = grmn(windows[b], aus[b], who[b])
        torch.testing.assert_close(both.expression[b], one.expression, atol=1e-5, rtol=1e-5)


def test_motion_is_base_plus_gated_residual() -> None:
    grmn = tiny.network()
    out = grmn.decode(torch.randn(4, 256), torch.rand(4, 6), None)
    torch.testing.assert_close(out.expression, out.base_expression + out.gate * out.residual_expression)


def test_an_emotion_steers_the_residual_and_the_gate_only() -> None:
    grmn = tiny.network(steerable=True)
    x, aus = torch.randn(4, 256), torch.rand(4, 6)
    happy = F.one_hot(torch.tensor([3]), 7).float().expand(4, 7)
    free = grmn.decode(x, aus, None)
    wished = grmn.decode(x, aus, None, happy, torch.ones(4, 1))
    ignored = grmn.decode(x, aus, None, happy, torch.zeros(4, 1))
    assert float((free.residual_expression - wished.residual_expression).abs().max()) > 1e-3
    torch.testing.assert_close(free.base_expression, wished.base_expression)
    torch.testing.assert_close(wished.gate, torch.ones(4, 1))
    torch.testing.assert_close(ignored.expression, free.expression)
    neutral = F.one_hot(torch.tensor([NEUTRAL]), 7).float().expand(4, 7)
    torch.testing.assert_close(grmn.decode(x, aus, None, neutral, torch.ones(4, 1)).gate, torch.zeros(4, 1))


def test_a_released_network_refuses_to_be_steered() -> None:
    grmn = tiny.network(steerable=False)
    with pytest.raises(CheckpointError, match="cannot steer"):
        grmn.decode(torch.randn(1, 256), torch.rand(1, 6), None, torch.ones(1, 7) / 7, torch.ones(1, 1))


def test_windows_copy_the_edges() -> None:
    tokens = torch.arange(8.0)[:, None]
    windows = token_windows(tokens, 3, 3)[..., 0]
    assert windows.tolist()[0] == [0, 0, 0, 0, 1, 2]
    assert windows.tolist()[3] == [3, 4, 5, 6, 7, 7]


def test_configurations_survive_a_round_trip_and_unknown_fields_are_named() -> None:
    config = tiny.network().config
    assert GRMNConfig.from_dict(config.to_dict()) == config
    assert GRMNConfig.from_dict(GRMNConfig(mouth=None).to_dict()).mouth is None
    with pytest.raises(CheckpointError, match="colour"):
        GRMNConfig.from_dict({**config.to_dict(), "colour": 1})


def test_the_mouth_grid_interpolates_and_is_zero_outside() -> None:
    mouth = MouthHead(MouthConfig(levels=3), 8)
    with torch.no_grad():
        mouth.xy.embeddings.copy_(torch.arange(len(mouth.xy.embeddings))[:, None] / 100)
    inside = torch.tensor([[0.31, 0.62]])
    found = mouth.xy(inside)[0]
    for level in range(3):
        scale, resolution = mouth.config.resolution(level)
        start = mouth.config.offsets()[level]
        x, y = (inside[0].double() * scale + 0.5).tolist()
        table = mouth.xy.embeddings[start:, 0].double()
        row = int(x) + int(y) * (resolution + 1)
        fx, fy = x - int(x), y - int(y)
        top = (1 - fx) * table[row] + fx * table[row + 1]
        bottom = (1 - fx) * table[row + resolution + 1] + fx * table[row + resolution + 2]
        assert float(found[level]) == pytest.approx(float((1 - fy) * top + fy * bottom), abs=1e-5)
    assert mouth.xy(torch.tensor([[1.01, 0.5], [0.5, -0.01]])).abs().max() == 0


def test_a_network_without_a_mouth_says_so() -> None:
    with pytest.raises(CheckpointError, match="no mouth head"):
        tiny.network(mouth=False).mouth()
