"""Graphs and engines for GPUs: precision, parity, what TensorRT for RTX builds here, what it leaves in a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from synthetic_bundle import Shape, avatar_tensors, write_bundle

from emotag.export.engines import EngineOptions, audit_text, layer_counts, write_engines
from emotag.export.engines.tracks import Heard
from emotag.runtime import BackendError, BundleError, ExportError
from emotag.runtime.backends.engine_build import EngineLibrary, build_engine, check_plan, load_library
from emotag.runtime.backends.engine_files import engine_source, read_index
from emotag.runtime.bundle import open_bundle
from emotag.runtime.engine_cache import EngineCache, EngineKey, StaleEngine, cache_folder, pack_engine, unpack_engine

pytest.importorskip("tensorrt_rtx_bindings", reason="pip install 'emotag[gpu]'")
SHAPE = Shape(size=16, gaussians=20)
NAMES = ("audio", "motion")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("engines") / "a.emotag", SHAPE)


@pytest.fixture(scope="module")
def library() -> EngineLibrary:
    return load_library("tensorrt-rtx")


def heard(bundle: Path, seconds: float = 1.5) -> Heard:
    manifest, tensors = open_bundle(bundle).manifest, avatar_tensors(SHAPE)
    states = {
        graph: {n.split(".", 2)[2]: v for n, v in tensors.items() if n.startswith(f"state.{graph}.")} for graph in NAMES
    }
    noise = np.random.default_rng(0).standard_normal(int(16000 * seconds)) * 0.1
    return Heard(manifest.audio, manifest.motion, states, noise.astype(np.float32))


def writers(bundle: Path) -> dict[str, Callable[[Path], None]]:
    def copy(name: str) -> Callable[[Path], None]:
        return lambda path: shutil.copy(bundle / f"{name}.onnx", path) and None

    return {name: copy(name) for name in NAMES}


def made(bundle: Path, into: Path, precision: Any, **changes: Any) -> dict[str, Any]:
    options = replace(EngineOptions("tensorrt-rtx", precision, ("sm_89",)), **changes)
    return write_engines(writers(bundle), into, heard(bundle), options, lambda stage: None)


@pytest.mark.parametrize(
    "precision, computes, bound", [("fp32", "FLOAT", 1e-6), ("fp16", "HALF", 1e-2), ("int8", "INT8", 0.15)]
)
def test_each_precision_is_built_audited_and_measured(
    bundle: Path, tmp_path: Path, library: EngineLibrary, precision: Any, computes: str, bound: float
) -> None:
    report = made(bundle, tmp_path, precision)
    errors = report["parity"]["relative_rms"]
    assert max(errors.values()) <= bound
    if precision != "int8":  # a random network loses more to 8 bits than a trained one
        assert all(check["passed"] for check in report["parity"]["checks"])
    assert (max(errors.values()) > 0) == (precision != "fp32")
    assert report["layers"]["motion"][computes]["MATRIX_MULTIPLY"] >= 1
    for name in NAMES:
        check_plan((tmp_path / f"engines/{name}.engine").read_bytes(), library.version, "sm_89", name)
    if precision == "int8":  # the encoder's only product reads samples, which stay as they are
        assert "INT8" not in report["layers"]["audio"]
    if precision == "fp16":
        assert "MATRIX_MULTIPLY" not in report["layers"]["motion"].get("FLOAT", {})
        assert "HALF" in audit_text("motion", report["layers"]["motion"])


def test_int8_is_signed_and_symmetric(bundle: Path, tmp_path: Path) -> None:
    made(bundle, tmp_path, "int8")
    model = onnx.load(tmp_path / "engines/motion.onnx")
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
    assert all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in model.graph.input)


def test_graphs_without_an_encoder(bundle: Path, tmp_path: Path) -> None:
    """A bundle that plays its recording: its tokens stand in for speech."""
    without = replace(heard(bundle), audio=None, tokens=np.random.default_rng(0).standard_normal((40, 8)).astype("f"))
    options = EngineOptions("tensorrt-rtx", "fp16", ("sm_89",))
    report = write_engines({"motion": writers(bundle)["motion"]}, tmp_path, without, options, lambda stage: None)
    assert report["parity"]["frames"] > 10 and (tmp_path / "engines/motion.engine").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"capabilities": ("sm_90",)}, "does not build for sm_90: choose from .*sm_89.*--engine tensorrt on one"),
        ({"engine": "tensorrt", "capabilities": ()}, "--engine tensorrt: tensorrt is not installed"),
        ({"engine": "tensorrt"}, "leave --compute-capability out"),
    ],
)
def test_what_cannot_be_built_is_refused(bundle: Path, tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        made(bundle, tmp_path, "fp16", **changes)


def test_a_file_that_tensorrt_cannot_read(library: EngineLibrary, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match="cannot read bad.onnx"):
        build_engine(library, tmp_path / "bad.onnx")


# The header of real engines


@pytest.fixture(scope="module")
def engine(bundle: Path, library: EngineLibrary) -> bytes:
    return build_engine(library, bundle / "motion.onnx", ("sm_80", "sm_89"))


@pytest.mark.parametrize(
    "change, sm, message",
    [
        (lambda e: e, "sm_86", "was built for sm_80, sm_89, this one is sm_86"),
        (lambda e: e, "sm_90", "this one is sm_90"),
        (lambda e: e[:-1], "sm_80", "truncated"),
        (lambda e: e[:40], "sm_80", "is not an engine"),
        (lambda e: b"\0" + e[1:], "sm_80", "is not an engine"),
        (lambda e: e[:24] + b"\2" + e[25:], "sm_80", r"built by TensorRT for RTX 2\.7\.1\.116, installed is 1"),
    ],
)
def test_engines_that_do_not_fit_are_found_out(
    engine: bytes, library: EngineLibrary, change: Callable[[bytes], bytes], sm: str, message: str
) -> None:
    check_plan(engine, library.version, "sm_80", "motion.engine")
    with pytest.raises(StaleEngine, match=message):
        check_plan(change(engine), library.version, sm, "motion.engine")


# The cache

KEY = EngineKey("ab" * 32, "tensorrt", "11.4.0", "H200 sm_90", "fp16", {"x": (2, 3)}, ("strongly_typed",))


@pytest.mark.parametrize(
    "field, value",
    [
        ("onnx", "cd" * 32),
        ("library", "tensorrt-rtx"),
        ("version", "11.5.0"),
        ("device", "H100 sm_90"),
        ("precision", "int8"),
        ("shapes", {"x": (2, 4)}),
        ("flags", ()),
    ],
)
def test_every_field_of_a_key_counts(field: str, value: Any) -> None:
    other = replace(KEY, **{field: value})
    assert other.name != KEY.name
    with pytest.raises(StaleEngine, match=f"was built for {field}"):
        unpack_engine(pack_engine(KEY, b"engine"), other, "a.engine")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c[:-1], "truncated"),
        (lambda c: c[:10], "truncated"),
        (lambda c: b"", "truncated"),
        (lambda c: c[:-1] + b"!", "SHA-256 differs"),
        (lambda c: b"x" + c[1:], "not an engine of this cache"),
        (lambda c: c[:16] + b"[" + c[17:], "header"),
        (lambda c: c[:8] + b"\xff" * 8 + c[16:], "not an engine"),
    ],
)
def test_damaged_files_are_rebuilt(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    cache = EngineCache(tmp_path)
    assert cache.get_or_build(KEY, lambda: b"engine").how == "built"
    assert cache.get_or_build(KEY, lambda: b"other").engine == b"engine"
    path = tmp_path / KEY.name
    path.write_bytes(change(path.read_bytes()))
    again = cache.get_or_build(KEY, lambda: b"newer")
    assert again.engine == b"newer" and again.how.startswith("rebuilt: ") and message in again.how
    assert cache.get(KEY) == b"newer"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise BackendError("no")

    with pytest.raises(BackendError, match="no"):
        EngineCache(tmp_path).get_or_build(KEY, fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="cannot be written .*set EMOTAG_CACHE"):
        EngineCache(tmp_path / "file" / "engines").get_or_build(KEY, lambda: b"")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMOTAG_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path("~/.cache/emotag/engines").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/emotag/engines")
    monkeypatch.setenv("EMOTAG_CACHE", "/y")
    assert cache_folder() == Path("/y/engines")


# In a bundle


def with_engines(bundle: Path, folder: Path) -> Path:
    from synthetic_bundle import edit_manifest

    shutil.copytree(bundle, folder)
    made(bundle, folder, "fp16")
    edit_manifest(folder)
    return folder


def test_a_bundle_with_engines_is_used(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in GPU is an sm_89; its "TensorRT" runs the ONNX file that the bundle made for engines."""
    from gpu_fake import Cudart, TensorRT, machine

    from emotag.runtime import Avatar
    from emotag.runtime.backends import choice

    folder = with_engines(bundle, tmp_path / "b.emotag")
    opened = open_bundle(folder)
    index = read_index(opened)
    assert index is not None and index.precision == "fp16" and {e.graph for e in index.engines} == set(NAMES)
    assert engine_source(opened, "audio") == (opened.path / "engines/audio.onnx", "fp16")
    monkeypatch.setenv("EMOTAG_CACHE", str(tmp_path / "cache"))
    cudart = Cudart()
    monkeypatch.setattr(choice, "MACHINE", machine(cudart, trt=TensorRT(cudart, "9.9.9.9")))
    avatar = Avatar(folder, device="tensorrt")
    assert avatar.backend.precision == "fp16"
    origins = avatar.model._backend.origins  # type: ignore[attr-defined]
    assert all("built by TensorRT for RTX 1.7.1.116, installed is 9.9.9.9" in how for how in origins.values())


def test_an_index_that_names_unlisted_files_is_refused(bundle: Path, tmp_path: Path) -> None:
    from synthetic_bundle import edit_manifest

    folder = with_engines(bundle, tmp_path / "b.emotag")
    path = folder / "engines/index.json"
    path.write_text(path.read_text().replace("engines/audio.engine", "../audio.engine"))
    edit_manifest(folder)
    with pytest.raises(BundleError, match="engines/index.json cannot be read"):
        read_index(open_bundle(folder))


def test_the_audit_counts_what_stands_in_the_file(bundle: Path, library: EngineLibrary) -> None:
    counts = layer_counts(library, bundle / "motion.onnx")
    assert "HALF" not in counts and counts["FLOAT"]["MATRIX_MULTIPLY"] == 8
