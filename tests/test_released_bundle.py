"""A released checkpoint from its files to the picture: export, runtime and dump against the float64 reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Wav2Vec2Config, Wav2Vec2Model

from emotag import plugins, runtime
from emotag.export import ExportOptions, write_bundle
from emotag.export.command import main as export_command
from emotag.runtime.commands.render import main as render_command
from emotag.runtime.errors import BundleError
from emotag.runtime.graphs import Graph
from emotag.training.released import load_released
from emotag.training.wav2vec2 import StreamingConfig
from tests import reference as raster
from tests import released_reference as reference
from tests.released_fixture import Fixture, read_transforms, write_released
from tests.tiny import speech

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "released"
OPTIONS = ExportOptions(speech=speech(3.0), speech_name="synthetic")
MOTION = ("expression", "jaw", "gate", "emotion_logits", "base_expression", "residual_expression", "encoded_audio")
FRAMES = 8


@dataclass(frozen=True)
class Case:
    """A generated avatar, its bundle, and what `--cued --dump` wrote for it."""

    fixture: Fixture
    bundle: Path
    dumped: dict[str, NDArray[np.float64]]
    active: int


VARIANTS = {
    "SH 3, active 1": {"stored_degree": 3, "active_degree": 1},
    "SH 0, no identity": {"stored_degree": 0, "identity": False},
}


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    variant = VARIANTS[request.param]
    root = tmp_path_factory.mktemp("bundle")
    fixture = write_released(root / "anna", frames=FRAMES, size=96, **variant)  # type: ignore[arg-type]
    checkpoint = load_released(*fixture.paths(), encoder=None)
    write_bundle(checkpoint, root / "anna.emotag", OPTIONS)
    dumped = dump(root / "anna.emotag")
    yield Case(fixture, root / "anna.emotag", dumped, checkpoint.info.active_sh_degree)


def dump(bundle: Path) -> dict[str, NDArray[np.float64]]:
    target = bundle.parent / "dump.npz"
    assert render_command([str(bundle), "--cued", "--dump", str(target), "--dump-frames", "0,5"]) == 0
    with np.load(target) as archive:
        return {name: archive[name].astype(np.float64) for name in archive}


def expected_motion(fixture: Fixture) -> reference.ReferenceMotion:
    scene = fixture.scene
    identity = scene / "identity_feature.npy"
    aus = np.loadtxt(scene / "au_features.csv", delimiter=",", skiprows=1)[:, 5:]
    return reference.motion(
        reference.doubles(fixture.load()[1]),
        np.load(scene / "aud_w2v.npy"),
        aus,
        np.load(identity).astype(np.float64) if identity.is_file() else None,
    )


def expected_gaussians(case: Case, row: int) -> tuple[NDArray[np.float64], reference.ReferenceGaussians]:
    """Vertices and Gaussians of a dumped frame, from the released files alone."""
    fixture, motion = case.fixture, expected_motion(case.fixture)
    frame = int(case.dumped["render_frames"][row])
    capture, state, *_ = fixture.load()
    head, scene = fixture.head(), fixture.scene
    tracked = fixture.tracked()[str(frame)]
    vertices = reference.head_vertices(head, tracked, motion.expression[frame], motion.jaw[frame])
    binding = (np.load(scene / name) for name in ("face_indices.npy", "mouth_point_indices.npy"))
    weights = reference.doubles(state)
    return vertices, reference.gaussians(
        weights, capture, vertices, head["f"].astype(int), *binding, motion.encoded_audio[frame]
    )


def relative(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float((np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)).max())


def decibels(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float(-10 * np.log10(((found - wanted) ** 2).mean()))


def test_motion(case: Case) -> None:
    wanted = expected_motion(case.fixture)
    for name in MOTION:
        assert case.dumped[name].shape == getattr(wanted, name).shape
        assert np.abs(case.dumped[name] - getattr(wanted, name)).max() < 1e-4, name


@pytest.mark.parametrize("row", [0, 1])
def test_geometry_and_picture(case: Case, row: int) -> None:
    vertices, wanted = expected_gaussians(case, row)
    found = {name: case.dumped[name][row] for name in ("vertices", "position", "rotation", "scale", "render_rgb")}
    assert np.abs(found["vertices"] - vertices).max() < 1e-6
    assert relative(found["position"], wanted.position) < 1e-5
    assert relative(found["scale"], wanted.scale) < 1e-5
    assert (1 - np.abs((found["rotation"] * wanted.rotation).sum(1))).max() < 1e-6
    for name in ("d_mu", "d_rot", "d_scale"):
        assert np.abs(case.dumped[name][row] - getattr(wanted, name)).max() < 1e-5
    capture = case.fixture.load()[0]
    bound = raster.Bound(wanted.position, wanted.rotation, wanted.scale)
    opacities = 1 / (1 + np.exp(-capture[6].detach().numpy().astype(np.float64)[:, 0]))
    sh = torch.cat([capture[2], capture[3]], 1).detach().numpy()
    picture, alpha = raster.rasterize(bound, opacities, sh, case.active, camera(case, row), (1.0, 1.0, 1.0))
    assert picture.min() < 0.5 < alpha.max(), "the avatar is in the picture"
    assert decibels(found["render_rgb"], picture) > 60
    assert decibels(case.dumped["render_alpha"][row], alpha) > 60


def camera(case: Case, row: int) -> plugins.Camera:
    """From transforms.json, by the released convention."""
    content = read_transforms(case.fixture.scene)
    pose = np.array(content["frames"][int(case.dumped["render_frames"][row])]["transform_matrix"])
    pose[:3, 1:3] *= -1
    pose[:3, 3] = pose[:3, 3] / 2.4 + np.load(case.fixture.scene / "model_center.npy")
    width, height = content["w"], content["h"]
    return plugins.Camera(
        np.linalg.inv(pose), content["fl_x"], content["fl_y"], width / 2, height / 2, width=width, height=height
    )


def test_frames_are_the_dumped_pictures(case: Case) -> None:
    """`cued` draws with the fused renderer, in 8 bits by truncation."""
    avatar = runtime.Avatar(case.bundle)
    frames = list(avatar.cued(progress=False))
    assert [frame.index for frame in frames] == list(range(FRAMES))
    for row, index in enumerate(case.dumped["render_frames"].astype(int)):
        wanted = np.clip(case.dumped["render_rgb"][row], 0, 1) * 255
        difference = frames[index].rgb.astype(np.float64) - wanted
        assert -1.5 < difference.min() and difference.max() < 0.5


def test_without_encoder_it_says_how_to_get_speech(case: Case) -> None:
    avatar = runtime.Avatar(case.bundle)
    with pytest.raises(BundleError, match="--encoder"):
        avatar.step(np.zeros(640, np.float32))
    assert len(list(avatar.cued(progress=False))) == FRAMES


def test_a_frame_encodes_one_window(case: Case) -> None:
    graph = Graph(case.bundle / "motion.onnx")
    assert tuple(graph.inputs["window"]) == (16, 768)
    assert tuple(graph.inputs["encodings"]) == (7, 256)


def test_new_speech_through_the_streaming_encoder(tmp_path: Path) -> None:
    fixture = write_released(tmp_path / "anna", frames=4, size=32, gaussians=50)
    config = Wav2Vec2Config(
        hidden_size=768,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=16,
        conv_dim=[16] * 7,
        num_conv_pos_embedding_groups=16,
    )
    torch.manual_seed(0)
    Wav2Vec2Model(config).save_pretrained(tmp_path / "encoder")
    checkpoint = load_released(*fixture.paths(), encoder=tmp_path / "encoder", streaming=StreamingConfig(2, 2, 20))
    write_bundle(checkpoint, tmp_path / "anna.emotag", OPTIONS)
    avatar = runtime.Avatar(tmp_path / "anna.emotag")
    assert avatar.latency_ms == 40 * ((2 + 8) // 2 - 1 + 3)
    samples = speech(1.0)
    frames = list(avatar.render(samples, progress=False))
    assert len(frames) == 25
    assert np.ptp([frame.motion.jaw for frame in frames], axis=0).max() > 1e-4
    assert len(list(avatar.cued(progress=False))) == 4


def test_export_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixture = write_released(tmp_path / "anna", frames=3, gaussians=40)
    np.save(fixture.scene / "face_indices.npy", np.zeros(39, np.int64))
    output = tmp_path / "anna.emotag"
    arguments = [str(fixture.checkpoint), "--scene", str(fixture.scene), "--flame", str(fixture.flame)]
    assert export_command([*arguments, "--encoder", "none", "-o", str(output)]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "40 Gaussians, face_indices.npy binds 39" in message and "Traceback" not in message
    assert not output.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["anna"]


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded released checkpoint is not here")
def test_recorded_checkpoint(tmp_path: Path) -> None:
    fixture = Fixture(RECORDED)
    bundle = tmp_path / "id.emotag"
    write_bundle(load_released(*fixture.paths(), encoder=None), bundle, OPTIONS)
    target = tmp_path / "f.npz"
    assert render_command([str(bundle), "--cued", "--dump", str(target)]) == 0
    with np.load(target) as found, np.load(RECORDED / "expected.npz") as wanted:
        assert set(found) == set(wanted)
        np.testing.assert_array_equal(found["render_frames"], wanted["render_frames"])
        for name in MOTION:
            assert np.abs(found[name] - wanted[name]).max() < 1e-4, name
        assert np.abs(found["vertices"] - wanted["vertices"]).max() < 1e-6
        assert relative(found["position"], wanted["position"]) < 1e-5
        assert relative(found["scale"], wanted["scale"]) < 1e-5
        for row in range(3):
            assert decibels(found["render_rgb"][row], wanted["render_rgb"][row]) > 65
            assert decibels(found["render_alpha"][row], wanted["render_alpha"][row]) > 65
