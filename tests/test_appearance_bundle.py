"""The emotional residual in a bundle: the same in checkpoint, graph and picture, drawn, switched off, and checked."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from gpu_fake import Cudart, Onnx, machine
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file
from scene_fixture import write_wav
from test_appearance_residual import felt_checkpoint

from emotag.export.appearance_graph import GRAPH_BOUND, OFFSET_BOUND
from emotag.export.bundle import ExportOptions, audio_spec, build_manifest, motion_spec, write_bundle
from emotag.export.command import summary
from emotag.runtime import Avatar, BackendError, BundleError, ControlError, Emotion, Model
from emotag.runtime.backends import BackendWarning, CpuBackend, choice, open_backend
from emotag.runtime.bench.overhead import StepOverhead
from emotag.runtime.bench.probe import Probe
from emotag.runtime.commands.inspect import describe, main
from emotag.runtime.commands.render import main as render_main
from emotag.runtime.model import _prepare
from emotag.training.checkpoint import Checkpoint
from emotag.training.emotional_residual import EmotionalResidual, wear
from emotag.training.render import GaussianParameters, HeadTensors, Motion, Mouth, render

FILES = ("appearance.onnx", "appearance.safetensors")


@pytest.fixture(scope="module")
def felt() -> Checkpoint:
    return felt_checkpoint()


@pytest.fixture(scope="module")
def bundle(felt: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("felt") / "felt.emotag"
    write_bundle(felt, folder, ExportOptions(tiny.speech(1.0), "made"))
    return folder


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle, "cpu", threads=1)


def frames_of(avatar: Avatar, emotion: Any, seconds: float = 0.4) -> NDArray[np.uint8]:
    avatar.emotion = emotion
    return np.stack([frame.rgb for frame in avatar.render(tiny.speech(seconds), progress=False)])


def test_report_states_parity(bundle: Path) -> None:
    report = json.loads((bundle / "report.json").read_text())
    checks = [check for check in report["checks"] if check["name"].startswith("appearance")]
    assert [check["bound"] for check in checks[::2]] == [GRAPH_BOUND, OFFSET_BOUND] == [1e-5, 1e-3]
    assert len(checks) == 3 and all(check["passed"] for check in checks) and checks[1]["value"] == 0
    assert "bounds kept" in summary(report)


def test_manifest_states_what_it_is(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    bounds = {"mean": 0.5, "rotation": 0.2, "scale": 0.3, "opacity": 1.0, "colour": 0.8}
    assert manifest["appearance"] == {"rank": 3, "bounds": bounds} and set(FILES) <= set(manifest["files"])
    assert describe(bundle)["appearance"] == manifest["appearance"]
    assert main([str(bundle)]) == 0 and "appearance  emotional residual" in capsys.readouterr().out


def felt_picture(felt: Checkpoint, avatar: Avatar, frame: Any, worn: bool = True) -> NDArray[np.float64]:
    """What the training side draws for a frame of the runtime, 0…255."""
    assert isinstance(felt.appearance, EmotionalResidual)
    arrays = felt.avatar
    names = ("face_index", "means", "quats", "scales", "opacities", "sh")
    values = {name: torch.from_numpy(arrays[f"gaussians.{name}"].copy()) for name in names}
    gaussians = GaussianParameters(
        **{**values, "face_index": values["face_index"].long()},
        sh_degree=felt.info.active_sh_degree,
        scale_activation=felt.info.scale_activation,
    )
    said = frame.motion
    encoded = torch.from_numpy(said.encoded_audio.copy())
    if worn:
        displacement = torch.from_numpy(said.gate * said.residual_expression)
        inputs = (displacement, encoded, torch.from_numpy(frame.emotion.probabilities))
        found = felt.appearance.coefficients(*(x[None] for x in inputs))[0]
        gaussians = wear(gaussians, felt.appearance.offsets(found))
    head, index = felt.motion.mouth(), torch.from_numpy(arrays["mouth.index"].astype(np.int64))
    mouth = Mouth(index, lambda points: head(points, encoded))
    posed = (said.expression, frame.pose, frame.translation)
    motion = Motion(*(torch.from_numpy(np.asarray(x, np.float32)) for x in posed), mouth)
    tensors = HeadTensors.of(avatar.model.scene.head)
    drawn = render(tensors, gaussians, motion, avatar.camera_at(frame.index), torch.ones(3)).rgb
    return drawn.permute(1, 2, 0).clamp(0, 1).numpy().astype(np.float64) * 255


@pytest.mark.parametrize("emotion", ["happy", {"angry": 0.4, "sad": 0.2}, None])
@torch.no_grad()
def test_frames_are_those_of_training(felt: Checkpoint, model: Model, emotion: Any) -> None:
    """Displacement, audio and emotion as `frame` reports them, through the network, the offsets and the kernels."""
    avatar = Avatar(model)
    avatar.emotion, avatar.background, avatar.idle = emotion, (1.0, 1.0, 1.0), False
    frame = list(avatar.render(tiny.speech(0.4), progress=False))[-1]
    wanted = felt_picture(felt, avatar, frame)
    assert np.abs(frame.rgb - wanted).max() < 4 and np.abs(frame.rgb - wanted).mean() < 1
    assert np.abs(frame.rgb - felt_picture(felt, avatar, frame, worn=False)).max() > 8


def test_neutral_and_other_bundles_are_as_before(bundle: Path, model: Model, tmp_path: Path) -> None:
    plain = tmp_path / "plain.emotag"
    plain.mkdir()
    copy(bundle, plain)
    for name in FILES:
        (plain / name).unlink()
    seal(plain, lambda manifest: manifest.pop("appearance"))
    without = Avatar(plain, device="cpu", threads=1)
    assert not without.appearance and "appearance" not in without.stats().stages
    assert (frames_of(Avatar(model), "neutral") == frames_of(without, "neutral")).all()
    felt_frames, plain_frames = frames_of(Avatar(model), "happy"), frames_of(without, "happy")
    assert np.abs(felt_frames.astype(int) - plain_frames).max() > 8
    assert (frames_of(Avatar(model, appearance=False), "happy") == plain_frames).all()
    with pytest.raises(ControlError, match="no emotional residual"):
        without.appearance = True
    with pytest.raises(ControlError, match="no emotional residual"):
        Avatar(plain, device="cpu", threads=1, appearance=True)


def test_export_may_leave_it_out(felt: Checkpoint) -> None:
    parts = audio_spec(felt), motion_spec(felt), "felt"
    made = ExportOptions(tiny.speech(0.1), "made")
    assert build_manifest(felt, made, *parts)["appearance"]["rank"] == 3
    assert "appearance" not in build_manifest(felt, replace(made, appearance=False), *parts)
    assert "appearance" not in build_manifest(tiny.checkpoint(), made, *parts)


def test_switch_works_while_it_speaks(model: Model) -> None:
    avatars = [Avatar(model), Avatar(model, appearance=False)]
    shown: list[list[NDArray[np.uint8]]] = [[], []]
    for number, chunk in enumerate(tiny.speech(0.8).reshape(-1, 640)):
        for avatar, pictures in zip(avatars, shown, strict=True):
            avatar.emotion = "happy"
            pictures.append(avatar.step(chunk).rgb)
        avatars[0].appearance = number % 4 != 3
    same = [bool((one == other).all()) for one, other in zip(*shown, strict=True)]
    late = avatars[0].latency_ms // 40
    assert same[late:] == [number % 4 == 0 for number in range(late, len(same))]
    assert not avatars[0].appearance and not avatars[1].appearance
    for wrong in (1, None, "yes"):
        with pytest.raises(ControlError, match="neither True nor False"):
            avatars[0].appearance = wrong  # type: ignore[assignment]


def test_stage_is_in_the_statistics_and_resizing_keeps_it(model: Model) -> None:
    avatar = Avatar(model)
    before = frames_of(avatar, "happy")
    assert avatar.stats().stages["appearance"].p50 > 0 and "appearance" in avatar.stats().table()
    avatar.camera.resolution = (32, 24)
    assert frames_of(avatar, "happy").shape[1:3] == (24, 32)
    avatar.camera.resolution = before.shape[2], before.shape[1]
    assert (frames_of(avatar, "happy") == before).all()
    avatar.emotion = Emotion("happy", intensity=0.5)
    assert (frames_of(avatar, avatar.emotion) != before).any()


def test_a_frame_keeps_no_memory(model: Model) -> None:
    """Dressing allocates nothing that stays, and no array as long as the Gaussians."""
    avatar = Avatar(model)
    frame = list(avatar.render(tiny.speech(0.4), progress=False))[-1]
    happy = np.eye(len(frame.emotion.names), dtype=np.float32)[3]
    painter = model.painter(64, 48)
    painter.wear(frame.motion, happy)
    tracemalloc.start()
    for _ in range(20):
        painter.wear(frame.motion, happy)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 4096 and most < 16384


def test_bench_and_render_have_the_stage(bundle: Path, model: Model, tmp_path: Path) -> None:
    assert Probe(model).frame().appearance > 0
    assert Probe(Model.load(bundle, "cpu", threads=1, appearance=False)).frame().appearance == 0
    StepOverhead(Avatar(model)).step()
    speech, video, stats = tmp_path / "speech.wav", tmp_path / "out.mp4", tmp_path / "stats.json"
    write_wav(speech, 0.3)
    for extra in ((), ("--no-appearance",)):
        assert render_main([str(bundle), str(speech), "-o", str(video), "--stats", str(stats), *extra]) == 0
        assert ("appearance" in json.loads(stats.read_text())["stages"]) is not bool(extra)


def test_a_gpu_is_refused_and_auto_says_why(bundle: Path) -> None:
    class Gpu:
        prepared = 0

        def prepare(self, *_: Any) -> None:
            self.prepared += 1

    gpu, opened = Gpu(), Model.load(bundle, "cpu", threads=1).bundle
    with pytest.raises(BackendError, match="appearance=False"):
        _prepare(gpu, opened, 1, True)  # type: ignore[arg-type]
    assert gpu.prepared == 0
    _prepare(gpu, opened, 1, False)  # type: ignore[arg-type]
    assert gpu.prepared == 2
    backend, _ = open_backend("cpu", lambda backend: _prepare(backend, opened, 1, True))
    assert isinstance(backend, CpuBackend)
    assert Model.load(bundle, "cpu", threads=1, appearance=False).appearance is None


def test_auto_leaves_the_gpu_loudly(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTAG_CACHE", str(tmp_path))
    cudart = Cudart()
    monkeypatch.setattr(choice, "MACHINE", machine(cudart, onnx=Onnx(cudart)))
    with pytest.warns(BackendWarning, match="runs on the CPU; Fake GPU is not used.*emotional residual") as told:
        model = Model.load(bundle, threads=1)
    assert len(told) == 1 and told[0].filename == __file__
    avatar = Avatar(model)
    assert avatar.backend == "cpu" and "appearance=False" in avatar.backend.reason and avatar.appearance
    felt, plain = (
        frames_of(Avatar(bundle, device="cpu", threads=1, appearance=worn), "happy") for worn in (True, False)
    )
    assert np.array_equal(frames_of(avatar, "happy"), felt) and not np.array_equal(felt, plain)
    for demanded in ("tensorrt", "cuda"):
        with pytest.raises(BackendError, match="load it with appearance=False, or use device='cpu'"):
            Avatar(bundle, device=demanded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Avatar(bundle, appearance=False).backend == "tensorrt"


def seal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> None:
    """Make the manifest name the files as they are now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in list(manifest["files"]):
        file = folder / name
        if file.exists():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            manifest["files"][name] = {"sha256": digest, "bytes": file.stat().st_size}
        else:
            del manifest["files"][name]
    change(manifest)
    path.write_text(json.dumps(manifest))


def copy(bundle: Path, folder: Path) -> Path:
    for file in bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def offsets(count: int = 400, rank: int = 3, value: float = 0.0, kind: Any = np.float16) -> dict[str, Any]:
    return {"offsets": np.full((rank, count, 14), value, kind)}


def rewritten(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)


def spoil_weights(graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(np.nan), tensor.name))


def spoiled_place(path: Path, place: tuple[int, ...], value: float) -> None:
    stored = load_file(path)["offsets"].copy()
    stored[place] = value
    save_file({"offsets": stored}, path)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "graph garbage": lambda graph, _: graph.write_bytes(b"not a graph"),
    "graph of motion": lambda graph, _: graph.write_bytes((graph.parent / "motion.onnx").read_bytes()),
    "graph gone": lambda graph, _: graph.unlink(),
    "weights NaN": lambda graph, _: rewritten(graph, spoil_weights),
    "input renamed": lambda graph, _: rewritten(graph, lambda m: setattr(m.graph.input[0], "name", "other")),
    "offsets gone": lambda _, tensors: tensors.unlink(),
    "offsets text": lambda _, tensors: tensors.write_bytes(b"{}"),
    "offsets renamed": lambda _, tensors: save_file({"basis": offsets()["offsets"]}, tensors),
    "offsets of another rank": lambda _, tensors: save_file(offsets(rank=2), tensors),
    "offsets of other Gaussians": lambda _, tensors: save_file(offsets(399), tensors),
    "offsets of another type": lambda _, tensors: save_file(offsets(kind=np.float32), tensors),
    "offsets infinite": lambda _, tensors: save_file(offsets(value=np.inf), tensors),
    "offsets NaN": lambda _, tensors: spoiled_place(tensors, (1, 7, 12), np.nan),
    "offsets out of bounds": lambda _, tensors: spoiled_place(tensors, (0, 3, 7), 0.6),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_files_are_typed_errors(bundle: Path, tmp_path: Path, what: str) -> None:
    folder = copy(bundle, tmp_path)
    DAMAGE[what](folder / FILES[0], folder / FILES[1])
    seal(folder)
    with pytest.raises(BundleError, match="appearance"):
        Model.load(folder, "cpu", threads=1)


def test_offsets_that_move_the_mouth_are_refused(felt: Checkpoint, bundle: Path, tmp_path: Path) -> None:
    folder = copy(bundle, tmp_path)
    spoiled_place(folder / FILES[1], (0, int(felt.avatar["mouth.index"][0]), 0), 0.01)
    seal(folder)
    with pytest.raises(BundleError, match="Gaussians of the mouth"):
        Model.load(folder, "cpu", threads=1)


SECTIONS: dict[str, Any] = {
    "gone": None,
    "no section": 3,
    "rank": {"rank": 0},
    "rank of another graph": {"rank": 4},
    "rank that is a truth": {"rank": True},
    "bound gone": {"bounds": {"mean": 0.5}},
    "bound unknown": {"bounds": {"mean": 0.5, "rotation": 0.2, "scale": 0.3, "opacity": 1, "colour": 1, "hue": 1}},
    "bound not a number": {"bounds": {"mean": "x", "rotation": 0.2, "scale": 0.3, "opacity": 1, "colour": 1}},
    "bound too large": {"bounds": {"mean": 0.5, "rotation": 0.2, "scale": 1.5, "opacity": 1, "colour": 1}},
}


@pytest.mark.parametrize("what", SECTIONS)
def test_bad_manifests_are_typed_errors(bundle: Path, tmp_path: Path, what: str) -> None:
    value, folder = SECTIONS[what], copy(bundle, tmp_path)

    def change(manifest: dict[str, Any]) -> None:
        if value is None:
            del manifest["appearance"]
        else:
            manifest["appearance"] = {**manifest["appearance"], **value} if isinstance(value, dict) else value

    seal(folder, change)
    with pytest.raises(BundleError, match="appearance"):
        Model.load(folder, "cpu", threads=1)
