"""Export: graphs equal to PyTorch, bundles whole or absent, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from emotag import runtime
from emotag.export import ExportOptions, parity, write_bundle
from emotag.export import bundle as writer
from emotag.export.audio_graph import AudioStep
from emotag.export.command import main
from emotag.export.graphs import Graph, write_graph
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.errors import CheckpointError, ExportError, OutputError
from emotag.runtime.graphs import BoundGraph
from emotag.runtime.graphs import Graph as Session
from emotag.runtime.manifest import AudioSpec
from emotag.training.checkpoint import Checkpoint, load_checkpoint
from emotag.training.demo.encoder import round_to_half
from emotag.training.grmn import GRMN, token_windows
from emotag.training.released_audio import whole_file_tokens
from emotag.training.wav2vec2 import StreamingConfig
from tests import tiny
from tests.test_networks import DEFINITIONS, definition

SPEECH = tiny.speech(4.0, seed=3)
OPTIONS = ExportOptions(speech=SPEECH, speech_name="synthetic")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny.checkpoint()


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "tiny.emotag"
    write_bundle(checkpoint, path, OPTIONS)
    return path


@pytest.fixture
def reuse(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of the same checkpoint take the graphs of `bundle`: exporting them again takes seconds."""
    monkeypatch.setattr(writer, "write_graph", lambda graph, path: shutil.copy(bundle / graph.file, path))


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("c, r, context", DEFINITIONS)
def test_the_shipped_audio_graph_equals_the_offline_definition(
    c: int, r: int, context: int, pre_norm: bool, tmp_path: Path
) -> None:
    encoder = tiny.encoder(StreamingConfig(c, r, context), pre_norm=pre_norm)
    step = AudioStep(encoder).eval()
    write_graph(Graph("audio", step, "fp32"), tmp_path / "audio.onnx")
    spec = AudioSpec(c, r, context, encoder.hidden, float(encoder.sample_mean), float(encoder.sample_scale))
    states = {name: value.numpy() for name, value in step.initial_state().items()}
    runner = StreamingEncoder(BoundGraph(Session(tmp_path / "audio.onnx"), states), spec)
    samples = SPEECH[: 320 * c * (len(SPEECH) // (320 * c))]
    tokens: list[Any] = []
    runner.feed(samples, lambda out: tokens.append(out.copy()))
    wanted = definition(encoder, torch.from_numpy(samples)).numpy()
    found = np.concatenate(tokens)[: len(wanted)]
    assert len(found) == len(wanted) > 150
    assert np.abs(found - wanted).max() <= 1e-4


def test_a_bundle_lists_every_file_with_its_hash(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert set(manifest["files"]) == {p.name for p in bundle.iterdir()} - {"manifest.json"}
    for name, entry in manifest["files"].items():
        content = (bundle / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert manifest["lookahead_frames"] == (2 + 4) // 2 - 1 + 1
    assert manifest["checkpoint"]["kind"] == "emotag"
    assert manifest["licence"] == "CC0" and manifest["consent"] == "synthetic"


def test_the_report_says_what_was_measured(bundle: Path) -> None:
    report = json.loads((bundle / "report.json").read_text())
    assert report["speech"] == "synthetic" and report["seconds_of_speech"] == 4.0
    assert all(check["passed"] for check in report["checks"])
    names = {check["name"] for check in report["checks"]}
    assert "audio: streaming against offline, max" in names and "motion: ONNX against PyTorch, jaw, max" in names
    assert report["audio"]["onnx_against_pytorch"]["mean"] <= report["audio"]["onnx_against_pytorch"]["max"] < 1e-4
    assert report["timings_ms"]["audio"] > 0


def test_graphs_hold_no_paths_of_the_exporting_machine(bundle: Path) -> None:
    for name in ("audio.onnx", "motion.onnx"):
        content = (bundle / name).read_bytes()
        assert str(Path(__file__).parent.parent).encode() not in content
        assert b"site-packages" not in content
        assert onnx.load(bundle / name).opset_import[0].version == 20


def test_longer_chunks_are_exported_with_the_latency_they_cost(tmp_path: Path) -> None:
    made = tiny.checkpoint(StreamingConfig(4, 8, 24))
    write_bundle(made, tmp_path / "a.emotag", OPTIONS)
    avatar = runtime.Avatar(tmp_path / "a.emotag")
    frames = [avatar.step(chunk) for chunk in SPEECH[: 640 * 30].reshape(-1, 640)]
    assert frames[0].index * -40 == avatar.latency_ms
    assert made.encoder is not None
    aus = torch.from_numpy(made.cues["aus"])
    config = made.motion.config
    tokens = torch.from_numpy(made.encoder.extract(SPEECH))
    windows = token_windows(tokens, config.window_past, config.window_future)
    with torch.no_grad():
        wanted = made.motion(windows[:3], aus[[0, 1, 2]], made.identity)
    first = next(frame for frame in frames if frame.index == 1)
    assert float((torch.from_numpy(first.jaw) - wanted.jaw[1]).abs().max()) < 1e-4


def test_the_bundle_runs_and_speaks(bundle: Path) -> None:
    avatar = runtime.Avatar(bundle)
    frames = [avatar.step(chunk) for chunk in SPEECH[: 640 * 12].reshape(-1, 640)]
    assert [frame.index for frame in frames[:4]] == [-3, -2, -1, 0]
    assert frames[-1].rgb.shape == (48, 64, 3)
    assert np.abs(frames[-1].jaw - frames[-2].jaw).max() > 0


@pytest.mark.usefixtures("reuse")
def test_the_runtime_gives_the_offline_motion(bundle: Path, checkpoint: Checkpoint) -> None:
    """Live frames are what PyTorch computes for the whole file at once, apart from the silence behind its end."""
    assert checkpoint.encoder is not None
    aus = checkpoint.cues["aus"]
    still = replace(checkpoint, cues={**checkpoint.cues, "aus": np.tile(aus[:1], (len(aus), 1))})
    path = bundle.parent / "still.emotag"
    write_bundle(still, path, OPTIONS)
    wanted = parity.reference_motion(still, checkpoint.encoder.extract(SPEECH))
    avatar = runtime.Avatar(path)
    frames = [f for f in (avatar.step(chunk) for chunk in SPEECH.reshape(-1, 640)) if f.index >= 0]
    count = len(frames) - 2
    assert count > 80
    for name in ("expression", "jaw"):
        found = np.stack([getattr(frame, name) for frame in frames[:count]])
        assert np.abs(found - wanted[name][:count]).max() <= 1e-4


@pytest.mark.usefixtures("reuse")
def test_an_old_bundle_is_replaced_and_nothing_else_is(checkpoint: Checkpoint, tmp_path: Path) -> None:
    target = tmp_path / "a.emotag"
    write_bundle(checkpoint, target, OPTIONS)
    (target / "stray").write_text("left over")
    write_bundle(checkpoint, target, replace(OPTIONS, name="again"))
    assert not (target / "stray").exists()
    assert json.loads((target / "manifest.json").read_text())["name"] == "again"
    assert [p.name for p in tmp_path.iterdir()] == ["a.emotag"]
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "me.jpg").write_text("x")
    with pytest.raises(ExportError, match="not a bundle"):
        write_bundle(checkpoint, precious, OPTIONS)
    assert (precious / "me.jpg").exists()


def test_int8_is_measured_against_fp32_and_smaller(checkpoint: Checkpoint, bundle: Path, tmp_path: Path) -> None:
    report = write_bundle(
        checkpoint, tmp_path / "q.emotag", replace(OPTIONS, audio="int8", motion="int8", refuse=False)
    )
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= {
        node.op_type for node in onnx.load(tmp_path / "q.emotag" / "motion.onnx").graph.node
    }
    assert not (tmp_path / "q.emotag" / "audio.onnx").exists()
    assert report["audio"]["onnx_against_pytorch"]["mean"] > 1e-4
    assert any(check["name"].startswith("int8 against fp32") for check in report["checks"])
    assert runtime.Avatar(tmp_path / "q.emotag").step(np.zeros(640, np.float32)).index < 0
    small, large = ((path / "motion.onnx").stat().st_size for path in (tmp_path / "q.emotag", bundle))
    assert small < large


def test_the_cost_of_streaming_a_released_network_is_measured() -> None:
    """Its features were of the whole file: the report says how far the streamed ones are off, and what that does."""
    config = replace(tiny.network().config, window_past=8, window_future=8, smooth_past=4, smooth_future=3)
    torch.manual_seed(0)
    made = replace(tiny.checkpoint(), motion=GRMN(config).eval(), kind="released")
    assert made.encoder is not None
    found = parity.whole_file_deviation(made, made.encoder, SPEECH, made.encoder.extract(SPEECH))
    assert 0 < found["tokens"]["relative_rms"] < 2
    assert 0 < found["jaw"]["mean"] <= found["jaw"]["max"]
    whole = whole_file_tokens(made.encoder.model, SPEECH)
    same = parity.whole_file_deviation(made, made.encoder, SPEECH, whole)
    assert same["tokens"]["max"] == 0 and same["expression"]["max"] < 1e-5


@pytest.mark.usefixtures("reuse")
def test_a_bundle_that_misses_its_bound_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "GRAPH_BOUND", 1e-9)
    with pytest.raises(ExportError, match="misses its parity bound"):
        write_bundle(checkpoint, tmp_path / "a.emotag", OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_graph_is_noticed(
    checkpoint: Checkpoint, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity runs the files that are shipped: damage to one after export must show."""

    def damaged(graph: Graph, path: Path) -> None:
        model = onnx.load(bundle / graph.file)
        weight = max(model.graph.initializer, key=lambda i: len(i.raw_data))
        values = np.frombuffer(weight.raw_data, np.float32).copy()
        values[:50] += 0.1
        weight.raw_data = values.tobytes()
        onnx.save(model, path)

    monkeypatch.setattr(writer, "write_graph", damaged)
    with pytest.raises(ExportError, match="ONNX against PyTorch"):
        write_bundle(checkpoint, tmp_path / "a.emotag", OPTIONS)


def test_an_unwritable_output_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_bundle(checkpoint, tmp_path / "file" / "a.emotag", OPTIONS)


def test_mouth_tensors_are_the_networks(bundle: Path, checkpoint: Checkpoint) -> None:
    tensors = load_file(bundle / "avatar.safetensors")
    state = checkpoint.motion.state_dict()
    np.testing.assert_array_equal(tensors["mouth.mlp.1"], state["mouth_mlp.net.1.weight"].numpy())
    np.testing.assert_array_equal(tensors["mouth.grid.yz"], state["encoder_yz.embeddings"].numpy())
    np.testing.assert_array_equal(tensors["mouth.index"], checkpoint.avatar["mouth.index"])


def test_weights_that_are_halves_are_stored_as_halves(checkpoint: Checkpoint, tmp_path: Path) -> None:
    rounded = tiny.checkpoint()
    assert rounded.encoder is not None and checkpoint.encoder is not None
    round_to_half(rounded.encoder)
    checkpoint.save(tmp_path / "floats.pt")
    rounded.save(tmp_path / "halves.pt")
    stored = torch.load(tmp_path / "halves.pt", weights_only=True)["encoder"]["state"]
    weights = dict(rounded.encoder.named_parameters())
    assert all(stored[name].dtype == torch.float16 for name in weights)
    saved = sum(weight.numel() * 2 for weight in weights.values())
    sizes = [(tmp_path / f"{name}.pt").stat().st_size for name in ("floats", "halves")]
    assert abs(sizes[0] - sizes[1] - saved) < 0.05 * saved
    loaded = load_checkpoint(tmp_path / "halves.pt").encoder
    assert loaded is not None
    for name, weight in loaded.named_parameters():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, weights[name], atol=0, rtol=0)
    unrounded = torch.load(tmp_path / "floats.pt", weights_only=True)["encoder"]["state"]
    assert unrounded["model.feature_projection.projection.weight"].dtype == torch.float32


def test_checkpoints_survive_a_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["format"] == "emotag-checkpoint"
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded.encoder is not None and checkpoint.encoder is not None
    np.testing.assert_array_equal(loaded.encoder.extract(SPEECH), checkpoint.encoder.extract(SPEECH))
    assert loaded.info == checkpoint.info and loaded.motion.config == checkpoint.motion.config
    for name, array in checkpoint.avatar.items():
        np.testing.assert_array_equal(loaded.avatar[name], array)


class Gadget:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch emotag-was-here",)


@pytest.mark.parametrize("kind", ["text", "truncated", "pickle", "other", "newer", "key", "nan", "none"])
def test_what_is_not_a_checkpoint_gives_one_line(
    kind: str, checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    checkpoint.save(path)
    content = torch.load(path, weights_only=True)
    if kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "pickle":
        torch.save(Gadget(), path)
    elif kind == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "newer":
        torch.save({**content, "version": 99}, path)
    elif kind == "key":
        del content["motion"]["state"]["gate_net.0.bias"]
        torch.save(content, path)
    elif kind == "nan":
        content["avatar"]["gaussians.means"][3] = float("nan")
        torch.save(content, path)
    else:
        path.unlink()
    assert main([str(path), "-o", str(tmp_path / "out.emotag")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "bad.pt" in lines[0] and "Traceback" not in lines[0]
    assert not (tmp_path / "out.emotag").exists() and not (tmp_path / "emotag-was-here").exists()


def test_sizes_that_disagree_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    wrong = replace(checkpoint, motion=tiny.network(mouth=False))
    with pytest.raises(CheckpointError, match="mouth"):
        write_bundle(wrong, tmp_path / "a.emotag", OPTIONS)
    basis = checkpoint.avatar["head.expression_basis"][:-1]
    wrong = replace(checkpoint, avatar={**checkpoint.avatar, "head.expression_basis": basis})
    with pytest.raises(CheckpointError, match="7 expressions, the head has 6"):
        write_bundle(wrong, tmp_path / "a.emotag", OPTIONS)


@pytest.mark.usefixtures("reuse")
def test_the_command_exports(checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path / "a.pt")
    assert main([str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.emotag")]) == 0
    assert "parity bounds kept" in capsys.readouterr().out
    assert runtime.Avatar(tmp_path / "a.emotag").latency_ms == 120


@pytest.mark.usefixtures("reuse")
def test_a_folder_with_another_manifest_is_not_touched(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(ExportError, match="not a bundle"):
        write_bundle(checkpoint, tmp_path / "app", OPTIONS)
    assert (tmp_path / "app" / "manifest.json").read_text() == '{"name": "a web app"}'


@pytest.mark.usefixtures("reuse")
def test_an_interrupted_replacement_keeps_the_old_bundle(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.emotag"
    write_bundle(checkpoint, target, OPTIONS)
    rename, moves = os.rename, []

    def interrupted(source: Any, destination: Any) -> None:
        moves.append(destination)
        if len(moves) == 2:
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(writer.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(checkpoint, target, replace(OPTIONS, name="again"))
    assert json.loads((target / "manifest.json").read_text())["name"] == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["a.emotag"]


@pytest.mark.usefixtures("reuse")
def test_what_the_runtime_would_refuse_is_not_written(checkpoint: Checkpoint, tmp_path: Path) -> None:
    wrong = replace(checkpoint, info=replace(checkpoint.info, background=(2.0, 0.0, 0.0)))
    with pytest.raises(ExportError, match="the runtime refuses"):
        write_bundle(wrong, tmp_path / "a.emotag", OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name, shape", [("intrinsics", (9, 3)), ("aus", (0, 6)), ("view", (9, 4))])
def test_cue_tracks_of_another_shape_are_named(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    wrong = replace(checkpoint, cues={**checkpoint.cues, name: np.zeros(shape, np.float32)})
    with pytest.raises(CheckpointError, match="cue"):
        wrong.validate()


@pytest.mark.parametrize("option", [["--encoder", "none"], ["--streaming", "2,8,100"], ["--faces", "a.obj"]])
def test_options_that_do_not_apply_are_refused(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["a.pt", "-o", str(tmp_path / "a.emotag"), *option]) == 1
    assert option[0] in capsys.readouterr().err
