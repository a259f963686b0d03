"""An encoder's graph on the kernels of the processor: the same tokens, every variant, and graphs that are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from numpy.typing import NDArray

from emotag.export.audio_graph import AudioStep
from emotag.export.graphs import Graph, write_graph
from emotag.plugins.encoder import EncoderStream, encoder_isas
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.errors import BundleError
from emotag.runtime.graph_encoder import ENCODER_PROPERTY, GraphEncoder
from emotag.runtime.graphs import Bound, BoundGraph
from emotag.runtime.graphs import Graph as Session
from emotag.runtime.manifest import AudioSpec
from emotag.runtime.native_encoder import NativeBound, NativeEncoder
from emotag.training.wav2vec2 import StreamingConfig

Float = NDArray[np.float32]
SPEECH = tiny.speech(3.0, seed=3)


class Exported:
    """A graph in a file, its definition and its initial states."""

    def __init__(self, folder: Path, streaming: StreamingConfig, pre_norm: bool = False, rotary: bool = False) -> None:
        self.path = folder / "audio.onnx"
        encoder = tiny.encoder(streaming, pre_norm=pre_norm, rotary=rotary)
        step = AudioStep(encoder).eval()
        write_graph(Graph("audio", step, "fp32"), self.path)
        c, r, length = streaming.chunk, streaming.lookahead, streaming.context
        self.spec = AudioSpec(c, r, length, encoder.hidden, float(encoder.sample_mean), float(encoder.sample_scale))
        self.states = {name: value.numpy() for name, value in step.initial_state().items()}

    def native(self, threads: int = 1) -> NativeEncoder:
        return NativeEncoder(self.path, self.spec, threads, self.states)

    def heard(self, bound: Bound | NativeBound) -> Float:
        runner = StreamingEncoder(bound, self.spec)
        tokens: list[Float] = []
        samples = SPEECH[: 320 * self.spec.chunk_tokens * (len(SPEECH) // (320 * self.spec.chunk_tokens))]
        runner.feed(samples, lambda out: tokens.append(out.copy()))
        return np.concatenate(tokens)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("graph"), StreamingConfig(2, 4, 20))


CASES = [(StreamingConfig(1, 0, 7), False), (StreamingConfig(2, 8, 20), True), (StreamingConfig(4, 8, 12), False)]


@pytest.mark.parametrize(("streaming", "pre_norm", "rotary"), [*((*case, False) for case in CASES), (*CASES[1], True)])
def test_the_kernels_give_the_graphs_tokens(
    tmp_path: Path, streaming: StreamingConfig, pre_norm: bool, rotary: bool
) -> None:
    it = Exported(tmp_path, streaming, pre_norm, rotary)
    wanted = it.heard(BoundGraph(Session(it.path), it.states))
    found = it.heard(NativeBound(it.native()))
    assert np.abs(wanted - found).max() < 2e-5 * max(np.sqrt(np.mean(wanted**2)), 1)


@pytest.mark.parametrize("isa", encoder_isas())
def test_every_variant_and_count_of_threads_gives_the_same(exported: Exported, isa: str) -> None:
    wanted = exported.heard(BoundGraph(Session(exported.path), exported.states))
    found = []
    for threads in (1, 2):
        bound = NativeBound(exported.native(threads))
        bound._stream = EncoderStream(exported.native(threads).weights, threads, isa)
        found.append(exported.heard(bound))
    assert np.array_equal(*found)
    assert np.abs(wanted - found[0]).max() < 2e-5 * max(np.sqrt(np.mean(wanted**2)), 1)


def changed(exported: Exported, to: Path, change: Callable[[onnx.ModelProto], Any]) -> Path:
    model = onnx.load(exported.path)
    change(model)
    onnx.save(model, to)
    return to


def describes(**fields: Any) -> Callable[[onnx.ModelProto], Any]:
    whole = {"layers": 2, "heads": 4, "pre_norm": False, "epsilon": 1e-5} | fields
    return lambda model: onnx.helper.set_model_props(model, {ENCODER_PROPERTY: json.dumps(whole)})


def tensor(name: str, change: Callable[[Float], Float]) -> Callable[[onnx.ModelProto], Any]:
    def apply(model: onnx.ModelProto) -> None:
        stored = next(one for one in model.graph.initializer if one.name == name)
        stored.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(stored).copy()), name))

    return apply


DAMAGED = {
    "no description": (
        lambda model: onnx.helper.set_model_props(model, {ENCODER_PROPERTY: "{"}),
        "emotag.encoder does not describe an encoder",
    ),
    "a list": (
        lambda model: onnx.helper.set_model_props(model, {ENCODER_PROPERTY: "[1]"}),
        "emotag.encoder does not describe an encoder",
    ),
    "infinite layers": (describes(layers=float("inf")), "emotag.encoder does not describe an encoder"),
    "no layers": (describes(layers=0), "has 0 layers"),
    "more layers": (describes(layers=3), "layers.2.* is missing or has another shape"),
    "odd heads": (describes(heads=5), "32 channels cannot be shared by 5 heads"),
    "epsilon": (describes(epsilon=0), "epsilon is 0.0, not between 0 and 1"),
    "another norm": (describes(pre_norm=True, layers=10**9), "1000000000 layers"),
    "words for turns": (describes(rotary=["fast"]), "emotag.encoder does not describe an encoder"),
    "NaN for turns": (describes(rotary=[float("nan")]), "rotary.speeds holds NaN or infinity"),
    "more turns than channels": (describes(rotary=[0.1] * 5), "a head has not so many pairs"),
    "NaN": (tensor("layers.0.up.weight", lambda w: w * np.float32("nan")), "holds NaN or infinity"),
    "a vector": (tensor("projection.weight", lambda w: w.reshape(-1)), "projection.weight is missing or has another"),
    "fewer columns": (tensor("layers.0.qkv_weight", lambda w: w[:, :40]), "layers.0.* has shape .* instead of"),
    "fewer taps": (tensor("position.begun.1", lambda w: w[:-1]), "position.begun.1 is missing or has another shape"),
    "doubles": (tensor("position.bias", lambda w: w.astype(np.float64)), "position.bias is missing or has another"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_graphs_are_refused(exported: Exported, tmp_path: Path, case: str) -> None:
    change, problem = DAMAGED[case]
    path = changed(exported, tmp_path / "audio.onnx", change)
    assert GraphEncoder.is_known(path)
    with pytest.raises(BundleError, match=f"{problem}.*export the bundle again"):
        NativeEncoder(path, exported.spec, 1, exported.states)


def test_a_missing_state_is_refused(exported: Exported) -> None:
    states = {name: value for name, value in exported.states.items() if name != "conv_3"}
    with pytest.raises(BundleError, match="the initial state conv_3 is missing"):
        NativeEncoder(exported.path, exported.spec, 1, states)


def test_a_graph_that_does_not_say_what_it_is_stays_a_graph(exported: Exported, tmp_path: Path) -> None:
    path = changed(exported, tmp_path / "audio.onnx", lambda model: model.metadata_props.pop())
    assert GraphEncoder.is_known(exported.path) and not GraphEncoder.is_known(path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(BundleError, match="is not an ONNX file"):
        GraphEncoder.is_known(path)
