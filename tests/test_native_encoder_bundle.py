"""The int8 encoder in a bundle: exported, opened, heard, and refused when it is not what it should be."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from emotag.export.bundle import ExportOptions, audio_spec, write_bundle
from emotag.export.encoder_tensors import write_encoder
from emotag.runtime import Avatar, Model
from emotag.runtime.backends import CpuBackend
from emotag.runtime.backends.engine_files import engine_source
from emotag.runtime.bundle import open_bundle
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.errors import BackendError, BundleError
from emotag.runtime.manifest import AudioSpec, EncoderSpec
from emotag.runtime.native_encoder import NativeBound, NativeEncoder
from emotag.training.checkpoint import Checkpoint

SPEECH = tiny.speech(2.4, seed=3)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny.checkpoint()


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "a.emotag"
    write_bundle(checkpoint, path, ExportOptions(SPEECH, "syllables", audio="int8", refuse=False))
    return path


def test_an_int8_bundle_holds_tensors_and_says_so(bundle: Path, checkpoint: Checkpoint) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["schema"] == 2 and manifest["audio"]["encoder"] == {"layers": 2, "heads": 4, "pre_norm": False}
    assert manifest["precision"]["audio"] == "int8"
    assert "audio.safetensors" in manifest["files"] and "audio.onnx" not in manifest["files"]
    report = json.loads((bundle / "report.json").read_text())
    assert report["audio"]["precision"] == "int8" and report["timings_ms"]["audio"] > 0
    assert any(check["name"] == "int8 against fp32: jaw correlation" for check in report["checks"])
    assert audio_spec(checkpoint).encoder is None


def test_an_avatar_hears_with_it(bundle: Path) -> None:
    """`step` on two threads, `render` on one of its own, and a second avatar: the same frames."""
    model = Model.load(bundle, threads=2)
    avatar, other = Avatar(model), Avatar(model)
    chunks = SPEECH[: len(SPEECH) // 640 * 640].reshape(-1, 640)
    stepped = [frame for frame in (avatar.step(chunk) for chunk in chunks) if frame.index >= 0]
    rendered = list(other.render(SPEECH, progress=False))[: len(stepped)]
    assert len(stepped) > 40
    for one, two in zip(stepped, rendered, strict=True):
        assert np.array_equal(one.jaw, two.jaw) and np.array_equal(one.expression, two.expression)
    assert np.std([frame.jaw[0] for frame in stepped]) > 0


def test_a_gpu_without_engines_refuses_it(bundle: Path) -> None:
    with pytest.raises(BackendError, match="audio.safetensors is quantised for the processor .*--engine tensorrt"):
        engine_source(open_bundle(bundle), "audio")


def copied(bundle: Path, to: Path, change: Callable[[Path], Any]) -> Path:
    """A copy with a changed audio.safetensors, whose size and digest the manifest names again."""
    shutil.copytree(bundle, to)
    file = to / "audio.safetensors"
    change(file)
    manifest = json.loads((to / "manifest.json").read_text())
    content = file.read_bytes()
    manifest["files"][file.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def without(name: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        tensors = load_file(file)
        del tensors[name]
        save_file(tensors, file)

    return change


def with_tensor(name: str, tensor: NDArray) -> Callable[[Path], None]:
    return lambda file: save_file(load_file(file) | {name: tensor}, file)


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "audio.safetensors is not a safetensors file"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "is not a safetensors file"),
    "only a header": (lambda file: file.write_bytes(file.read_bytes()[:2000]), "is not a safetensors file"),
    "no weights": (without("layers.1.up.weight"), "layers.1.up.weight is missing"),
    "no convolution": (without("convolutions.3.weight"), "convolutions.3.weight is missing"),
    "no layer": (without("layers.0.up.weight"), "layers.0.up.weight is missing"),
    "no groups": (with_tensor("position.weight", np.zeros((0, 8, 8), np.int8)), "position.weight is missing or empty"),
    "uneven groups": (with_tensor("position.weight", np.zeros((5, 8, 8), np.int8)), "cannot be shared by 5 groups"),
    "scalar": (with_tensor("convolutions.2.weight", np.array(3, np.int8)), "convolutions.2.weight is missing or empty"),
    "some norms": (with_tensor("convolutions.0.norm.weight", np.ones(24, np.float32)), "convolutions.0.norm.epsilon"),
    "wide": (with_tensor("convolutions.1.weight", np.zeros((1 << 20, 1), np.int8)), "larger than any avatar needs"),
    "NaN": (with_tensor("layers.0.out.scale", np.full(32, np.nan, np.float32)), "layers.0.out.scale holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(bundle: Path, tmp_path: Path, case: str) -> None:
    change, problem = WRONG[case]
    with pytest.raises(BundleError, match=problem):
        Model.load(copied(bundle, tmp_path / "b.emotag", change))


def test_bytes_at_random_never_crash(bundle: Path, tmp_path: Path) -> None:
    """Whatever stands in the file: it is refused as a bundle, or it is an encoder that can be run."""
    spec = open_bundle(bundle).manifest.audio
    assert spec is not None
    rng = np.random.default_rng(0)
    content = (bundle / "audio.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    outcomes = {"refused": 0, "heard": 0}
    for trial in range(120):
        changed = bytearray(content)
        within = header if trial % 2 else len(content)
        for at in rng.integers(0, within, 1 + trial % 7):
            changed[at] = rng.integers(0, 256)
        file = tmp_path / "audio.safetensors"
        file.write_bytes(changed)
        try:
            bound = NativeBound(NativeEncoder(file, spec))
        except BundleError:
            outcomes["refused"] += 1
            continue
        bound.inputs["samples"][:] = 1
        bound.run()
        outcomes["heard"] += 1
    assert outcomes["refused"] > 20 and outcomes["heard"] > 20


SECTIONS: dict[str, tuple[Any, str]] = {
    "not a section": (3, "audio.encoder must be given as dict"),
    "no layers": ({"layers": 0, "heads": 4, "pre_norm": False}, "audio.encoder.layers must be from 1"),
    "too many layers": ({"layers": 10**9, "heads": 4, "pre_norm": False}, "audio.encoder.layers must be from 1"),
    "more layers": ({"layers": 3, "heads": 4, "pre_norm": False}, "layers.2.query.weight is missing|layers.2"),
    "odd heads": ({"layers": 2, "heads": 5, "pre_norm": False}, "32 channels cannot be shared by 5 heads"),
    "text": ({"layers": 2, "heads": 4, "pre_norm": "no"}, "audio.encoder.pre_norm must be given as bool"),
}


@pytest.mark.parametrize("case", SECTIONS)
def test_wrong_sections_are_refused(bundle: Path, tmp_path: Path, case: str) -> None:
    section, problem = SECTIONS[case]
    shutil.copytree(bundle, tmp_path / "b.emotag")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["audio"]["encoder"] = section
    (tmp_path / "b.emotag" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=problem):
        Model.load(tmp_path / "b.emotag")


@pytest.mark.parametrize(
    "change",
    [
        {"context_tokens": 16384, "hidden_size": 16384},
        {"lookahead_tokens": 1024, "hidden_size": 16384},
        {"context_tokens": 16384, "lookahead_tokens": 16384},
    ],
)
def test_sizes_beyond_reason_are_refused_before_memory_is_taken(bundle: Path, change: dict[str, int]) -> None:
    spec = replace(open_bundle(bundle).manifest.audio or AudioSpec(2, 2, 20, 32, 0, 1), **change)
    with pytest.raises(BundleError, match="larger than any avatar needs"):
        NativeEncoder(bundle / "audio.safetensors", spec)


@pytest.mark.parametrize("pre_norm, rotary", [(False, False), (True, False), (True, True)])
def test_every_layout_streams(tmp_path: Path, pre_norm: bool, rotary: bool) -> None:
    encoder = tiny.encoder(pre_norm=pre_norm, rotary=rotary)
    write_encoder(encoder, SPEECH, tmp_path / "audio.safetensors")
    spec = AudioSpec(2, 2, 20, 32, float(encoder.sample_mean), float(encoder.sample_scale), EncoderSpec(2, 4, pre_norm))
    tokens: list[NDArray[np.float32]] = []
    listener = StreamingEncoder(NativeBound(NativeEncoder(tmp_path / "audio.safetensors", spec)), spec)
    audio = SPEECH[: len(SPEECH) // 640 * 640]
    for run in range(2):  # samples in pieces of any length; after a reset the same again
        tokens.clear()
        listener.reset()
        for piece in np.array_split(audio, 7 + run):
            listener.feed(piece, lambda out: tokens.append(out.copy()))
    found = np.concatenate(tokens)
    offline = encoder.extract(audio)[: len(found)]
    assert len(found) == len(audio) // 320 - 2
    assert np.sqrt(np.mean((offline - found) ** 2) / np.mean(offline**2)) < 0.08


def test_an_encoder_without_the_section_is_a_graph(bundle: Path) -> None:
    """As in all bundles of schema 1, those with an int8 graph among them."""
    opened = open_bundle(bundle)
    assert opened.manifest.audio is not None
    assert isinstance(CpuBackend("test").prepare(opened, "audio"), NativeEncoder)
    assert replace(opened.manifest.audio, encoder=None).file == "audio.onnx"
