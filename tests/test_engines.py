"""Graphs and engines for GPUs: precision, parity, what TensorRT for RTX builds here, what it leaves in a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from synthetic_bundle import Shape, avatar_tensors, write_bundle
from whole_frame import tiny_frame

from emotag import plugins
from emotag.export.bundle import ExportOptions
from emotag.export.bundle import write_bundle as write_bundle_of
from emotag.export.engines import EngineOptions, audit_text, layer_counts, write_engines
from emotag.export.engines.tracks import Heard
from emotag.export.engines.write import Tools, lowered
from emotag.export.graphs import _export, graphs_of
from emotag.runtime import BackendError, BundleError, ExportError
from emotag.runtime.backends.engine_build import EngineLibrary, build_engine, check_plan, load_library
from emotag.runtime.backends.engine_files import engine_source, read_index
from emotag.runtime.bundle import open_bundle
from emotag.runtime.engine_cache import EngineCache, EngineKey, StaleEngine, cache_folder, pack_engine, unpack_engine
from emotag.runtime.tensors import stored_shapes

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
    noise = (np.random.default_rng(0).standard_normal(int(16000 * seconds)) * 0.1).astype(np.float32)
    return Heard(manifest.audio, manifest.motion, states, noise, noise, "noise")


def writers(bundle: Path) -> dict[str, Callable[[Path], None]]:
    def copy(name: str) -> Callable[[Path], None]:
        return lambda path: shutil.copy(bundle / f"{name}.onnx", path) and None

    return {name: copy(name) for name in NAMES}


def made(bundle: Path, into: Path, precision: Any, **changes: Any) -> dict[str, Any]:
    options = replace(EngineOptions("tensorrt-rtx", precision, ("sm_89",)), **changes)
    return write_engines(writers(bundle), into, heard(bundle), options, lambda stage: None)


@pytest.mark.parametrize("precision, computes", [("fp32", "FLOAT"), ("fp16", "HALF"), ("int8", "INT8")])
def test_every_graph_is_built_in_every_precision(
    exported: dict[str, onnx.ModelProto],
    calls: dict[str, Any],
    tmp_path: Path,
    library: EngineLibrary,
    precision: Any,
    computes: str,
) -> None:
    """Encoder, GRMN, and GRMN with skinning, exported from PyTorch, by TensorRT for RTX, without a GPU."""
    for name, model in exported.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(lowered(model, precision, calls[name]), path)
        counts = layer_counts(library, path)
        products = {kind: found.get("MATRIX_MULTIPLY", 0) for kind, found in counts.items()}
        assert products[computes] >= 3
        if precision != "fp32" and name != "frame":
            assert not products.get("FLOAT"), "nothing but what was asked for, and fp16 beside int8"
        check_plan(build_engine(library, path, ("sm_89",)), library.version, "sm_89", name)
        assert f"{computes:<6}" in audit_text(name, counts)


@pytest.fixture(scope="module")
def exported() -> dict[str, onnx.ModelProto]:
    checkpoint = tiny.checkpoint()
    models = {graph.name: _export(graph.module) for graph in graphs_of(checkpoint, "fp32", "fp32")}
    return models | {"frame": tiny_frame()}


@pytest.fixture(scope="module")
def calls(exported: dict[str, onnx.ModelProto]) -> dict[str, list[dict[str, Any]]]:
    """Random inputs: what calibrates is not the point here."""
    random = np.random.default_rng(0)

    def feeds(model: onnx.ModelProto) -> dict[str, Any]:
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
        return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    return {name: [feeds(model) for _ in range(4)] for name, model in exported.items()}


def test_a_frame_in_half_precision_keeps_its_vertices(
    exported: dict[str, onnx.ModelProto], calls: dict[str, Any]
) -> None:
    """Skinning stays in fp32: its vertices are those of the expression that came out, to a micrometre."""
    given = calls["frame"][0]
    full, half = (_run(model, given) for model in (exported["frame"], lowered(exported["frame"], "fp16", [])))
    assert 0 < np.abs(half["expression"] - full["expression"]).max() < 1e-2 * np.abs(full["expression"]).max()
    head = {n[5:]: np.ascontiguousarray(a) for n, a in tiny.checkpoint().avatar.items() if n.startswith("head.")}
    pose = given["pose"].copy()
    pose[2] = half["jaw"]
    wanted = plugins.skin(plugins.Head(**head), half["expression"], pose, given["translation"])  # type: ignore[arg-type]
    assert np.abs(half["vertices"] - wanted).max() < 2e-6


def _run(model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, given), strict=True))


def test_parity_of_every_precision_is_reported(bundle: Path, tmp_path: Path) -> None:
    report = made(bundle, tmp_path, "fp16")
    assert set(report["parity"]) == {"fp16", "int8"} and report["calibration"] == "noise"
    half = report["parity"]["fp16"]
    assert 0 < max(half["relative_rms"].values()) <= 1e-2 and all(check["passed"] for check in half["checks"])
    assert "HALF" in audit_text("motion", report["layers"]["motion"])
    index = read_index_of(tmp_path)
    assert index["precision"] == "fp16" and index["calibration"] == "noise"
    whole = made(bundle, tmp_path / "fp32", "fp32")["parity"]["fp32"]
    assert max(whole["relative_rms"].values()) <= 1e-6


def read_index_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "engines/index.json").read_text())
    return found


def test_int8_is_signed_and_symmetric(exported: dict[str, onnx.ModelProto], calls: dict[str, Any]) -> None:
    """And sensitive products, small ones and those whose input never moves stay as they were."""
    model = lowered(exported["audio"], "int8", calls["audio"])
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
        assert (constants[node.input[1]] > 0).all()
    assert all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in model.graph.input)
    left = {name for name, value in constants.items() if value.dtype == np.float16 and value.ndim == 2}
    assert {name for name in left if name.startswith(("first.", "convolutions."))}
    still = [{name: np.zeros_like(value) for name, value in feeds.items()} for feeds in calls["motion"]]
    quiet = lowered(exported["motion"], "int8", still)
    loud = lowered(exported["motion"], "int8", calls["motion"])
    assert _quantised(quiet) < _quantised(loud)


def _quantised(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_graphs_without_an_encoder(bundle: Path, tmp_path: Path) -> None:
    """A bundle that plays its recording: its tokens stand in for speech."""
    without = replace(heard(bundle), audio=None, tokens=np.random.default_rng(0).standard_normal((40, 8)).astype("f"))
    options = EngineOptions("tensorrt-rtx", "fp16", ("sm_89",))
    report = write_engines({"motion": writers(bundle)["motion"]}, tmp_path, without, options, lambda stage: None)
    assert report["parity"]["fp16"]["frames"] > 10 and (tmp_path / "engines/motion.engine").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"capabilities": ("sm_90",)}, "does not build for sm_90: choose from .*sm_89.*--engine tensorrt on one"),
        ({"engine": "tensorrt", "capabilities": ()}, "full TensorRT builds on the GPU that will run the engine.*-rtx"),
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


def test_full_tensorrt_builds_on_the_gpu_at_hand(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for GPU and library: the engine goes into the bundle, is taken there, and nowhere else."""
    from gpu_fake import Cudart, TensorRT, machine
    from synthetic_bundle import edit_manifest

    from emotag.runtime.backends import Driver, choice
    from emotag.runtime.model import Model

    cudart = Cudart()
    trt = TensorRT(cudart, "11.4.0.106")
    full = EngineLibrary("tensorrt", trt)
    folder = shutil.copytree(bundle, tmp_path / "b.emotag")
    tools = Tools(lambda name: full, lambda: Driver(0, cudart))
    options = EngineOptions("tensorrt", "fp16")
    report = write_engines(writers(bundle), folder, heard(bundle), options, lambda stage: None, tools)
    edit_manifest(folder)
    assert report["library"] == "tensorrt 11.4.0.106" and trt.builds == 2
    index = read_index(open_bundle(folder))
    assert index is not None and {engine.library for engine in index.engines} == {"tensorrt"}

    def origins(there: Cudart) -> dict[str, str]:
        whole = replace(machine(there), engines=lambda: full)
        monkeypatch.setattr(choice, "MACHINE", whole)
        monkeypatch.setenv("EMOTAG_CACHE", str(tmp_path / "cache"))
        found: dict[str, str] = Model.load(folder, "tensorrt")._backend.origins  # type: ignore[attr-defined]
        return found

    assert origins(cudart) == dict.fromkeys(NAMES, "bundle") and trt.builds == 2
    other = Cudart(name=b"Another GPU")
    assert all(
        "was built for device 'Fake GPU sm_89', not 'Another GPU sm_89'" in how for how in origins(other).values()
    )
    assert trt.builds == 4
    trt.__version__ = "11.5.0.1"
    assert all("version '11.4.0.106', not '11.5.0.1'" in how for how in origins(cudart).values())


def test_a_bundle_says_what_its_engines_are(tmp_path: Path) -> None:
    """From a checkpoint: manifest, report and index agree, and only the precision that is shipped is bound to.

    The processor's encoder is in int8, tensors and no graph; engines are made from the checkpoint all the same.
    """
    engines = EngineOptions("tensorrt-rtx", "fp16", ("sm_89",), tiny.speech(2.5, seed=1), "a voice, 2.5 s")
    folder = tmp_path / "a.emotag"
    options = ExportOptions(tiny.speech(2.5), "tiny", audio="int8", engines=engines, refuse=False)
    report = write_bundle_of(tiny.checkpoint(), folder, options)
    opened = open_bundle(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    told = {"library": "tensorrt-rtx", "precision": "fp16", "calibration": "a voice, 2.5 s"}
    assert manifest["engines"] == told
    assert {name for name in manifest["files"] if name.startswith("engines/")} == {
        *(f"engines/{name}.{end}" for name in NAMES for end in ("onnx", "engine")),
        "engines/index.json",
    }
    parity = json.loads((folder / "report.json").read_text())["engines"]["parity"]
    assert parity == report["engines"]["parity"] and set(parity) == {"fp16", "int8"}
    assert parity["fp16"]["relative_rms"]["expression"] <= 1e-2
    bound = [check["name"] for check in report["checks"] if check["name"].startswith("engine")]
    assert bound and all(name.startswith("engine fp16") for name in bound)
    index = read_index(opened)
    assert index is not None and index.calibration == "a voice, 2.5 s"
    assert engine_source(opened, "audio") == (folder / "engines/audio.onnx", "fp16")
    assert "audio.onnx" not in manifest["files"] and "audio.safetensors" in manifest["files"]
    assert any(name.startswith("state.audio.") for name in stored_shapes(folder / "avatar.safetensors"))


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
