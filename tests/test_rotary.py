"""Rotary position embedding of the audio encoder: the definition, the shipped graph, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from emotag.export.audio_graph import AudioStep
from emotag.export.graphs import Graph, write_graph
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.errors import CheckpointError
from emotag.runtime.graphs import BoundGraph
from emotag.runtime.graphs import Graph as Session
from emotag.runtime.manifest import AudioSpec
from emotag.training.checkpoint import Checkpoint, load_checkpoint
from emotag.training.wav2vec2 import Rotary, StreamingConfig, StreamingWav2Vec2
from tests import tiny

SIZE, PACE = 6, 0.8  # of tests/tiny.py


def turned(x: Tensor, position: int) -> Tensor:
    """A head's channels [D] at a position, by complex numbers."""
    numbers = torch.view_as_complex(x[:SIZE].double().reshape(-1, 2).contiguous())
    speeds = PACE * 10000.0 ** (-torch.arange(0, SIZE, 2).double() / SIZE)
    out = torch.view_as_real(numbers * torch.polar(torch.ones_like(speeds), position * speeds)).flatten()
    return torch.cat([out.float(), x[SIZE:]])


@pytest.mark.parametrize("position", [0, 1, 77, 180_000])
def test_channels_turn_in_pairs_by_their_position(position: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 1, 8)
    rotary = Rotary(SIZE, pace=PACE)
    angles = rotary.angles(torch.tensor([position]))
    found = rotary.turn(x, angles.cos().float(), angles.sin().float())
    for head in range(3):
        torch.testing.assert_close(found[head, 0], turned(x[head, 0], position), atol=1e-5, rtol=0)


@torch.no_grad()
def first_token(encoder: StreamingWav2Vec2, samples: Tensor) -> Tensor:
    """Token 0 by hand: it attends to its chunk and the copies, all of them at their own positions."""
    c, r = encoder.streaming.chunk, encoder.streaming.lookahead
    features = encoder.features(encoder.normalise(samples)[None])
    main, copies = encoder._positions(features)
    x = torch.cat([main[0, :c], copies[0, 0]])
    for layer in encoder.model.encoder.layers:
        attention: Any = layer.attention
        n = layer.layer_norm(x)
        q, k, v = (p(n).reshape(c + r, 4, 8) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        mixed = torch.empty(c + r, 4, 8)
        for head in range(4):
            queries = torch.stack([turned(q[i, head], i) for i in range(c + r)])
            keys = torch.stack([turned(k[i, head], i) for i in range(c + r)])
            # A chunk's own tokens and copies see the same: the chunk (nothing is before it) and the copies.
            mixed[:, head] = torch.softmax(queries @ keys.T / 8**0.5, -1) @ v[:, head]
        x = x + attention.out_proj(mixed.reshape(c + r, 32))
        x = x + layer.feed_forward(layer.final_layer_norm(x))
    out: Tensor = encoder.model.encoder.layer_norm(x)[0]
    return out


def test_attention_knows_positions() -> None:
    encoder = tiny.encoder(StreamingConfig(2, 4, 20), pre_norm=True, rotary=True)
    samples = torch.from_numpy(tiny.speech(0.64))
    wanted = first_token(encoder, samples)
    found = torch.from_numpy(encoder.extract(samples.numpy()))[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    encoder.rotary = None
    assert float((torch.from_numpy(encoder.extract(samples.numpy()))[0] - wanted).abs().max()) > 1e-3


@pytest.mark.parametrize("c, r, context, pre_norm", [(1, 0, 6, True), (2, 2, 20, False), (2, 8, 100, True)])
def test_the_shipped_graph_equals_the_definition(c: int, r: int, context: int, pre_norm: bool, tmp_path: Path) -> None:
    encoder = tiny.encoder(StreamingConfig(c, r, context), pre_norm=pre_norm, rotary=True)
    step = AudioStep(encoder).eval()
    assert "rotary" in step.state_names()
    write_graph(Graph("audio", step, "fp32"), tmp_path / "audio.onnx")
    spec = AudioSpec(c, r, context, encoder.hidden, float(encoder.sample_mean), float(encoder.sample_scale))
    states = {name: value.numpy() for name, value in step.initial_state().items()}
    runner = StreamingEncoder(BoundGraph(Session(tmp_path / "audio.onnx"), states), spec)
    samples = tiny.speech(5.12)  # 256 tokens: every ring is written more than twice
    tokens: list[Any] = []
    runner.feed(samples, lambda out: tokens.append(out.copy()))
    found = np.concatenate(tokens)
    wanted = encoder.extract(samples)[: len(found)]
    assert len(found) > 240 and np.abs(found - wanted).max() <= 1e-4


@torch.no_grad()
def test_the_turn_never_grows() -> None:
    step = AudioStep(tiny.encoder(rotary=True)).eval()
    state = step.initial_state()["rotary"]
    for _ in range(20_000):
        state = step.rotary(state)[2]  # type: ignore[misc]
    torch.testing.assert_close((state**2).sum(0), torch.ones(SIZE // 2), atol=1e-5, rtol=0)


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    made = tiny.encoder(rotary=True)
    again = StreamingWav2Vec2.from_config(made.model.config.to_dict(), made.streaming)
    assert again.rotary == made.rotary == Rotary(SIZE, pace=PACE)
    checkpoint = tiny.checkpoint()
    checkpoint.encoder = made
    checkpoint.save(tmp_path / "rotary.pt")
    loaded: Checkpoint = load_checkpoint(tmp_path / "rotary.pt")
    assert loaded.encoder is not None
    np.testing.assert_array_equal(loaded.encoder.extract(tiny.speech(0.64)), made.extract(tiny.speech(0.64)))


@pytest.mark.parametrize(
    "values, said",
    [
        ({"position_embeddings_type": "relative"}, "'relative'"),
        ({"position_embeddings_type": "rotary", "rotary_embedding_size": 10}, "from 2 to 8"),
        ({"position_embeddings_type": "rotary", "rotary_embedding_size": 3}, "even"),
        ({"position_embeddings_type": "rotary", "rotary_embedding_base": -1}, "rotary_embedding_base"),
        ({"position_embeddings_type": "rotary", "rotary_embedding_pace": "fast"}, "rotary_embedding_pace"),
    ],
)
def test_embeddings_that_do_not_exist_are_refused(values: dict[str, Any], said: str) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "conv_dim": [8] * 7}
    with pytest.raises(CheckpointError, match=said):
        StreamingWav2Vec2.from_config({**sizes, **values}, StreamingConfig())
