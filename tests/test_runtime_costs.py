"""What may not grow: memory over many steps, and int8 on processors that saturate."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from synthetic_bundle import Array, Shape, write_bundle
from test_runtime_stream import noise

import emotag
from emotag.export.graphs import quantise
from emotag.runtime import Avatar, Model
from emotag.runtime.bench.fresh import resident_mb


def held_by_us() -> tracemalloc.Snapshot:
    """What this project and NumPy hold: what pytest and other tests' threads do meanwhile is theirs."""
    ours = (
        Path(emotag.__file__).parent / "runtime",
        Path(emotag.__file__).parent / "plugins",
        Path(np.__file__).parent,
    )
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{path}/*") for path in ours])


@pytest.mark.parametrize("pipelined", [False, True])
def test_two_thousand_steps_allocate_nothing_that_stays(tmp_path: Path, pipelined: bool) -> None:
    model = Model.load(write_bundle(tmp_path / "a.emotag", Shape(size=32)), threads=1)
    avatar, samples = Avatar(model, pipelined=pipelined), noise(640 * 50).reshape(-1, 640)

    def steps(count: int) -> None:
        for number in range(count):
            avatar.step(samples[number % 50])

    steps(200)  # cue cameras and statistics are made once
    gc.collect()
    before = resident_mb()
    tracemalloc.start()
    try:
        start = held_by_us()
        steps(2000)
        gc.collect()
        grown = sum(entry.size_diff for entry in held_by_us().compare_to(start, "filename"))
    finally:
        tracemalloc.stop()
    assert grown < 20_000, f"{grown} bytes more after 2,000 steps"
    assert resident_mb() - before < 8


def product(weights: Array) -> onnx.ModelProto:
    """x [1, K] times constant weights [K, N]."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [value("x", TensorProto.FLOAT, [1, weights.shape[0]])],
        [value("y", TensorProto.FLOAT, [1, weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def saturating(x: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """x [M, K] times weights [K, N] as processors without VNNI do it (vpmaddubsw): neighbouring products are added in
    16 bits, and what does not fit becomes the largest number that does."""
    pairs = (
        x[:, 0::2, None].astype(np.int64) * weights[None, 0::2]
        + x[:, 1::2, None].astype(np.int64) * weights[None, 1::2]
    )
    return np.clip(pairs, -(1 << 15), (1 << 15) - 1).sum(1)


@pytest.mark.parametrize("kind", ["random", "largest", "alternating"])
def test_the_path_without_vnni_is_exact_for_our_weights_and_not_for_eight_bits(kind: str) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "random": rng.standard_normal((256, 24)),
        "largest": np.ones((256, 24)),
        "alternating": np.repeat((-1.0) ** np.arange(128), 2)[:, None] * np.ones((1, 24)),
    }[kind].astype(np.float32)
    model = quantise(product(weights))
    ours = next(numpy_helper.to_array(t) for t in model.graph.initializer if list(t.dims) == [256, 24])
    full = np.round(weights / np.abs(weights).max(0) * 127).astype(np.int8)
    x = rng.integers(0, 256, (4, 256)).astype(np.uint8)
    x[0] = 255
    x[1] = 250
    exact = x.astype(np.int64) @ ours.astype(np.int64)
    assert np.array_equal(saturating(x, ours), exact)
    lost = np.abs(saturating(x, full) - x.astype(np.int64) @ full.astype(np.int64)).max()
    assert lost > 0  # which is why eight bits are not used

    # And what ONNX Runtime computes here, whatever this processor has, is the exact product.
    activations = x.astype(np.float32)  # each row holds 0…255 with 0 and 255 in it: quantisation changes nothing
    activations[:, 0], activations[:, 1] = 0, 255
    scale = next(numpy_helper.to_array(t) for t in model.graph.initializer if list(t.dims) == [24] and t.data_type == 1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for row in activations:
        found = session.run(None, {"x": row[None]})[0]
        wanted = (row.astype(np.int64) @ ours.astype(np.int64)) * scale.astype(np.float64)
        np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-2)


def test_int8_weights_have_seven_bits_so_that_no_processor_saturates() -> None:
    """Without VNNI, pairs of 8-bit products are added in 16 bits: 2·255·127 is too much for them, 2·255·64 is not."""
    weights = np.ones((256, 16), np.float32)  # every weight at the end of its range, every input too: the worst case
    weights[:, 1::2] = np.linspace(0.5, 1, 256)[:, None]
    x = np.ones((1, 256), np.float32)
    x[0, 0] = 0.0  # the inputs' range starts at 0, so all the others become 255
    model = quantise(product(weights))
    stored = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8]
    assert [array.shape for array in stored if array.ndim == 2] == [(256, 16)]
    assert max(int(np.abs(array.astype(int)).max()) for array in stored) <= 64
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(found, x @ weights, rtol=0.01)
