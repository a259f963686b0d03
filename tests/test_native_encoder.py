"""The int8 encoder's kernels: exact sums, every variant, every thread count, and the definition that they stream."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import tiny
from encoder_reference import Reference
from numpy.typing import NDArray

from emotag.export.encoder_tensors import encoder_tensors, quantise_matrix
from emotag.plugins.encoder import EncoderSizes, EncoderStream, EncoderWeights, encoder_isas
from emotag.plugins.errors import BackendError, BundleError, ControlError
from emotag.training.wav2vec2 import StreamingConfig, StreamingWav2Vec2

Float = NDArray[np.float32]
EMPTY = -1e4


class Made(NamedTuple):
    encoder: StreamingWav2Vec2
    tensors: dict[str, NDArray]
    sizes: EncoderSizes

    def weights(self) -> EncoderWeights:
        return EncoderWeights(self.sizes, self.tensors.__getitem__)

    def samples(self, seconds: float = 1.6, seed: int = 0) -> Float:
        """Normalised speech in chunks [n, 320·c]."""
        step = 320 * self.sizes.chunk
        audio = tiny.speech(seconds, seed)
        whole = audio[: len(audio) // step * step].reshape(-1, step)
        mean, scale = float(self.encoder.sample_mean), float(self.encoder.sample_scale)
        return ((whole - mean) * scale).astype(np.float32)


def made(streaming: StreamingConfig, pre_norm: bool = False, rotary: bool = False) -> Made:
    encoder = tiny.encoder(streaming, pre_norm=pre_norm, rotary=rotary)
    t = encoder_tensors(encoder, tiny.speech(2.0))
    sizes = EncoderSizes(
        streaming.chunk, streaming.lookahead, streaming.context,
        channels=tuple(len(t[f"convolutions.{i}.weight"]) for i in range(7)),
        hidden=encoder.hidden, heads=4, inner=len(t["layers.0.up.weight"]), layers=2,
        groups=len(t["position.weight"]), pre_norm=pre_norm, conv_norm=pre_norm,
        rotary=len(t.get("rotary.speeds", ())),
    )  # fmt: skip
    return Made(encoder, t, sizes)


@pytest.fixture(scope="module")
def usual() -> Made:
    return made(StreamingConfig(2, 4, 20))


def heard(made: Made, stream: EncoderStream, chunks: Float, alone: bool = False) -> Float:
    """Tokens of every step, look-ahead of the first ones included."""
    sizes, slot = made.sizes, 0
    mask = np.full(sizes.context, EMPTY, np.float32)
    tokens = np.zeros((sizes.chunk, sizes.hidden), np.float32)
    out = []
    for number, chunk in enumerate(chunks):
        stream.step(chunk, mask, tokens, alone)
        if number * sizes.chunk >= sizes.lookahead:
            stream.keep(slot, sizes.chunk)
            mask[slot : slot + sizes.chunk] = 0
            slot = (slot + sizes.chunk) % sizes.context
        out.append(tokens.copy())
    return np.concatenate(out)


def deviation(wanted: Float, found: Float) -> float:
    """RMS of the difference, relative to that of what is wanted."""
    return float(np.sqrt(np.mean((wanted.astype(np.float64) - found) ** 2) / np.mean(wanted.astype(np.float64) ** 2)))


@pytest.mark.parametrize("levels", [127, 255])
def test_weights_are_quantised_within_what_sums_allow(levels: int) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_t(3, size=(40, 3, 24)).astype(np.float32)
    weight[5] = 0
    weight[6, 0, :8] = 30  # a group that would not fit at the scale of the largest weight
    quantised, scale = quantise_matrix(weight, levels)
    whole = np.pad(quantised.astype(int), ((0, 0), (0, 0), (0, 8))).reshape(40, -1, 4, 2, 2)
    for sign in (1, -1):
        assert np.maximum(sign * whole, 0).sum((2, 4)).max() <= 32767 // levels
    assert (np.abs(quantised * scale[:, None, None] - weight) <= 0.5001 * scale[:, None, None]).all()
    assert not quantised[5].any()


CASES = [
    (StreamingConfig(2, 2, 20), False),
    (StreamingConfig(1, 0, 7), False),
    (StreamingConfig(4, 8, 12), False),
    (StreamingConfig(2, 22, 30), True),
    (StreamingConfig(2, 8, 20), True),
]


@pytest.mark.parametrize(("streaming", "pre_norm", "rotary"), [*((*case, False) for case in CASES), (*CASES[4], True)])
def test_steps_are_those_of_the_same_arithmetic_in_numpy(
    streaming: StreamingConfig, pre_norm: bool, rotary: bool
) -> None:
    """A value that rounds the other way moves by a level, hence the bound; quantising costs ten times as much."""
    it = made(streaming, pre_norm, rotary)
    chunks = it.samples(1.28)
    reference = Reference(it.sizes, it.tensors)
    wanted = np.concatenate([reference.step(chunk) for chunk in chunks])
    for isa in encoder_isas():
        assert deviation(wanted, heard(it, EncoderStream(it.weights(), isa=isa), chunks)) < 0.008, isa


def test_more_pairs_than_a_head_has_are_refused() -> None:
    it = made(StreamingConfig(2, 2, 20), rotary=True)
    wider = {**it.tensors, "rotary.speeds": np.ones(5, np.float32)}
    with pytest.raises(BundleError, match="not so many pairs"):
        EncoderWeights(replace(it.sizes, rotary=5), wider.__getitem__)


@pytest.mark.parametrize(("streaming", "pre_norm", "rotary"), [*((*case, False) for case in CASES), (*CASES[0], True)])
def test_streaming_is_the_definition_but_for_eight_bits(
    streaming: StreamingConfig, pre_norm: bool, rotary: bool
) -> None:
    it = made(streaming, pre_norm, rotary)
    audio = tiny.speech(2.56)
    offline = it.encoder.extract(audio)
    found = heard(it, EncoderStream(it.weights()), it.samples(2.56))[streaming.lookahead :]
    assert deviation(offline[: len(found)], found) < 0.08


def test_threads_give_the_same_bytes(usual: Made) -> None:
    chunks = usual.samples()
    weights = usual.weights()
    alone = heard(usual, EncoderStream(weights, threads=1), chunks)
    for threads in (2, 3):
        stream = EncoderStream(weights, threads=threads)
        assert stream.threads == threads
        assert np.array_equal(heard(usual, stream, chunks), alone)
    stream = EncoderStream(weights, threads=2)
    assert np.array_equal(heard(usual, stream, chunks, alone=True), alone)


def test_streams_of_one_encoder_share_nothing_that_changes(usual: Made) -> None:
    weights = usual.weights()
    first, second = usual.samples(seed=0), usual.samples(seed=1)
    wanted = [heard(usual, EncoderStream(weights), chunks) for chunks in (first, second)]
    streams = [EncoderStream(weights) for _ in range(2)]
    del weights  # the streams keep it
    found: list[list[Float]] = [[], []]
    mask = np.full(usual.sizes.context, EMPTY, np.float32)
    tokens = np.zeros((usual.sizes.chunk, usual.sizes.hidden), np.float32)
    for number, pair in enumerate(zip(first, second, strict=True)):
        for k, stream in enumerate(streams):
            stream.step(pair[k], mask, tokens)
            if number * 2 >= usual.sizes.lookahead:
                stream.keep((2 * number - usual.sizes.lookahead) % usual.sizes.context, 2)
            found[k].append(tokens.copy())
        if number * 2 >= usual.sizes.lookahead:
            slot = (2 * number - usual.sizes.lookahead) % usual.sizes.context
            mask[slot : slot + 2] = 0
    for k in range(2):
        assert np.array_equal(np.concatenate(found[k]), wanted[k])


def test_reset_forgets_everything(usual: Made) -> None:
    stream, chunks = EncoderStream(usual.weights()), usual.samples()
    before = heard(usual, stream, chunks)
    stream.reset()
    assert np.array_equal(heard(usual, stream, chunks), before)


def test_silence_stays_finite_and_loud_noise_too(usual: Made) -> None:
    stream = EncoderStream(usual.weights())
    chunks = np.zeros((6, 640), np.float32)
    chunks[3:] = 1e6
    assert np.isfinite(heard(usual, stream, chunks)).all()


class _Memory(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def test_steps_keep_no_memory(usual: Made) -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    libc.mallinfo2.restype = _Memory
    stream, chunks = EncoderStream(usual.weights(), threads=2), usual.samples()
    mask = np.zeros(usual.sizes.context, np.float32)
    tokens = np.zeros((usual.sizes.chunk, usual.sizes.hidden), np.float32)
    rows = list(chunks)

    def steps() -> int:
        for number in range(400):
            stream.step(rows[number % len(rows)], mask, tokens)
            stream.keep(number * 2 % 20, 2)
        memory = libc.mallinfo2()
        return int(memory.uordblks + memory.hblkhd)

    steps()
    before = steps()
    assert steps() - before < 4096, "bytes of 400 steps"


def test_wrong_calls_are_refused(usual: Made) -> None:
    weights = usual.weights()
    for threads in (-1, 1000):
        with pytest.raises(ControlError, match="threads"):
            EncoderStream(weights, threads=threads)
    for isa in {"avx512vnni", "avx512", "avx2"} - set(encoder_isas()):
        with pytest.raises(BackendError, match="not supported"):
            EncoderStream(weights, isa=isa)
    with pytest.raises(BackendError, match="instruction set 'mmx' is unknown"):
        EncoderStream(weights, isa="mmx")
    stream = EncoderStream(weights)
    good = [np.zeros(640, np.float32), np.zeros(20, np.float32), np.zeros((2, 32), np.float32)]
    stream.step(*good)
    for wrong in range(3):
        arrays = [array[:-1] if i == wrong else array for i, array in enumerate(good)]
        with pytest.raises(ValueError, match="another size"):
            stream.step(*arrays)
    with pytest.raises(TypeError):
        stream.step(good[0].astype(np.float64), good[1], good[2])
    for slot, count in ((-1, 2), (19, 2), (0, 3), (0, -1)):
        with pytest.raises(ValueError, match="outside the rings"):
            stream.keep(slot, count)


def wrong_tensors() -> dict[str, tuple[str, NDArray, str]]:
    """Tensor, what it is replaced by, and what is said of it."""
    nan, ones = np.full(32, np.nan, np.float32), np.ones(32, np.float32)
    return {
        "NaN scale": ("layers.0.query.scale", nan, "layers.0.query.scale holds NaN"),
        "infinite bias": ("projection.bias", ones * np.inf, "projection.bias holds NaN or infinity"),
        "short scale": ("layers.1.up.scale", ones, "layers.1.up.scale has shape"),
        "type": ("layers.1.down.weight", np.zeros((32, 64), np.float32), "has type float32 instead of int8"),
        "turned weights": ("layers.1.up.weight", np.zeros((32, 64), np.int8), "layers.1.up.weight has shape"),
        "no levels": ("projection.levels", np.zeros(1, np.int32), "projection.levels is 0"),
        "many levels": ("projection.levels", np.array([256], np.int32), "projection.levels is 256"),
        "uneven levels": ("layers.0.key.levels", np.array([126], np.int32), "differ in their levels"),
        "large sums": ("layers.0.out.weight", np.full((32, 32), 127, np.int8), "sums of products exceed 16 bits"),
        "negative sums": ("layers.0.out.weight", np.full((32, 32), -128, np.int8), "sums of products exceed 16 bits"),
        "epsilon": ("encoder.norm.epsilon", np.zeros(1, np.float32), "encoder.norm.epsilon is 0"),
        "silence": ("convolutions.2.silence", np.zeros(23, np.float32), "convolutions.2.silence has shape"),
    }


@pytest.mark.parametrize("case", wrong_tensors())
def test_wrong_tensors_are_refused_by_name(usual: Made, case: str) -> None:
    name, tensor, problem = wrong_tensors()[case]
    with pytest.raises(BundleError, match=problem):
        EncoderWeights(usual.sizes, (usual.tensors | {name: tensor}).__getitem__)
