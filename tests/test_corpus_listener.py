"""The listener: rows of features where its geometry says, words from tokens, and no weights but those it knows."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotag.training.corpus import MissingProgramError, SpeechError, Voice, synthesize
from emotag.training.corpus.listener import CENTRE, HOP, SPAN, Listener

TOKENS = ["<unk>", "<s>", "</s>", "▁Papa", "'s", "▁b", "o" * 130 + "x", "."]
SAID = (3, 4, 5, 6, 7, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser with the real one's inputs, outputs and strides; it always says the same."""
    folder = tmp_path_factory.mktemp("listener")
    save(encoder(), folder / "encoder_model.ort")
    save(decoder(), folder / "decoder_model_merged.ort")
    (folder / "tokenizer.bin").write_bytes(b"".join(map(entry, TOKENS)))
    return folder


def test_rows_are_where_the_geometry_says(folder: Path) -> None:
    """Its convolutions are means here, so that of a ramp a row's value is the sample at its centre."""
    listener = Listener(folder)
    ramp = np.arange(16000, dtype=np.float32)
    rows = listener.features(ramp)
    assert rows.shape == (40, 2) and rows.dtype == np.float32
    np.testing.assert_allclose(rows[:, 0], CENTRE + HOP * np.arange(40), rtol=1e-4)
    for count in (SPAN - 1, SPAN, SPAN + HOP - 1, SPAN + HOP):
        assert listener.features(ramp[:count]).shape == ((count - SPAN) // HOP + 1, 2)
    impulse = np.zeros(4000, np.float32)
    impulse[[HOP - 1, HOP + SPAN]] = 1  # before the second row's first sample, and after its last
    assert listener.features(impulse)[1, 0] == 0
    impulse[[HOP, HOP + SPAN - 1]] = 1
    assert listener.features(impulse)[1, 0] > 0
    with pytest.raises(SpeechError, match="one channel"):
        listener.features(impulse[None])


def test_tokens_become_words(folder: Path) -> None:
    """The decoder needs what it said before, and what it heard at the first step, to go on."""
    listener = Listener(folder)
    sound = np.ones(16000, np.float32)
    assert listener.text(sound) == "Papa's b" + TOKENS[6] + "."
    assert listener.text(sound) == listener.text(sound)
    assert listener.text(sound[: SPAN - 1]) == ""
    # What never ends is cut: six and a half tokens a second, and two.
    assert listener.text(sound[:4800]) == "Papa's b"


def test_weights_that_are_missing_or_damaged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "tokenizer.bin").write_bytes(b"".join(map(entry, TOKENS))[:-1])
    with pytest.raises(SpeechError, match="tokenizer.bin ends inside token 7"):
        Listener(damaged)
    (damaged / "tokenizer.bin").write_bytes(b"".join(map(entry, TOKENS[:4])))
    with pytest.raises(SpeechError, match="no token 4"):
        Listener(damaged).text(np.ones(16000, np.float32))
    (damaged / "tokenizer.bin").unlink()
    with pytest.raises(SpeechError, match="cannot read the listener's .*tokenizer.bin"):
        Listener(damaged)
    (damaged / "encoder_model.ort").write_bytes(b"no model")
    with pytest.raises(SpeechError, match="cannot load the listener's .*encoder_model.ort"):
        Listener(damaged)
    found: list[ModuleSpec | None] = [None]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found[0])
    with pytest.raises(MissingProgramError, match=r"pip install 'emotag\[listen\]'"):
        Listener()
    found[0] = ModuleSpec("moonshine_voice", None, origin=str(tmp_path / "__init__.py"))
    shutil.copytree(folder, tmp_path / "assets" / "tiny-en")
    with pytest.raises(SpeechError, match=r"encoder_model.ort is not that of moonshine-voice .*emotag\[listen\]"):
        Listener()


@pytest.mark.skipif(importlib.util.find_spec("moonshine_voice") is None, reason="moonshine-voice is not installed")
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_real_one_writes_what_is_said() -> None:
    listener = Listener()
    spoken = synthesize(Voice("flite", "slt"), "My mother bought a paper bag.").samples
    assert listener.features(spoken).shape == ((len(spoken) - SPAN) // HOP + 1, 288)
    assert listener.text(spoken).lower().rstrip(".,") == "my mother bought a paper bag"


def encoder() -> onnx.ModelProto:
    widths, nodes, weights, last = (127, 7, 3), [], [], "sound"
    nodes.append(helper.make_node("Unsqueeze", ["input_values", "one"], ["sound"]))
    for index, (width, stride) in enumerate(zip(widths, (64, 3, 2), strict=True)):
        weights.append(numpy_helper.from_array(np.full((1, 1, width), 1 / width, np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], strides=[stride]))
        last = f"c{index}"
    nodes.append(helper.make_node("Concat", [last, last], ["both"], axis=1))
    nodes.append(helper.make_node("Transpose", ["both"], ["last_hidden_state"], perm=[0, 2, 1]))
    inputs = [
        helper.make_tensor_value_info("input_values", TensorProto.FLOAT, ["batch", "length"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "length"]),
    ]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "rows", 2])]
    return model(nodes, inputs, outputs, [*weights, numpy_helper.from_array(np.array([1]), "one")])


def decoder() -> onnx.ModelProto:
    """The token after k is SAID[k], if k tokens are kept and, after the first, the keys of what was heard."""
    past = {f"past_key_values.0.{side}.key": [1, 1, f"{side}s", 1] for side in ("decoder", "encoder")}
    table = np.eye(len(TOKENS), dtype=np.float32)[list(SAID)]
    said, heard = past
    constants = {
        "table": table[None],
        "two": np.array([2]),
        "shape": np.array([1, 1, -1, 1]),
        "none": np.zeros((1, 1, 0, 1), np.float32),
        "whole": np.ones(1, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Shape", [said], ["size"]),
        node("Gather", ["size", "two"], ["kept"]),
        node("Gather", ["table", "kept"], ["likely"], axis=1),
        node("ReduceMax", ["encoder_hidden_states"], ["loudest"], keepdims=0),
        node("ReduceSum", [heard], ["remembered"], keepdims=0),
        node("Where", ["use_cache_branch", "remembered", "whole"], ["known"]),
        node("Mul", ["likely", "known"], ["logits"]),
        node("Cast", ["input_ids"], ["told"], to=TensorProto.FLOAT),
        node("Reshape", ["told", "shape"], ["key"]),
        node("Concat", [said, "key"], ["present.0.decoder.key"], axis=2),
        node("Reshape", ["loudest", "shape"], ["ear"]),
        node("Compress", ["ear", "anew"], ["present.0.encoder.key"], axis=2),
        node("Not", ["use_cache_branch"], ["anew"]),
    ]
    nodes.insert(-2, nodes.pop())
    info = helper.make_tensor_value_info
    inputs = [
        info("encoder_attention_mask", TensorProto.INT64, [1, "rows"]),
        info("input_ids", TensorProto.INT64, [1, "tokens"]),
        info("encoder_hidden_states", TensorProto.FLOAT, [1, "rows", 2]),
        *[info(name, TensorProto.FLOAT, shape) for name, shape in past.items()],
        info("use_cache_branch", TensorProto.BOOL, [1]),
    ]
    outputs = [
        info("logits", TensorProto.FLOAT, [1, 1, len(TOKENS)]),
        *[info(name.replace("past_key_values", "present"), TensorProto.FLOAT, [1, 1, None, 1]) for name in past],
    ]
    return model(nodes, inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()])


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def save(made: onnx.ModelProto, path: Path) -> None:
    """In the format of onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def entry(token: str) -> bytes:
    content = token.encode()
    size = len(content)
    return (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + content
