"""Reading a released checkpoint: every array against the specification, on generated files and on the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from emotag import plugins
from emotag.runtime.errors import CheckpointError
from emotag.training import released
from emotag.training.checkpoint import Checkpoint
from emotag.training.grmn import GRMN
from emotag.training.released import load_released
from emotag.training.wav2vec2 import StreamingConfig
from tests import released_reference as reference
from tests.released_fixture import (
    AU_COLUMNS,
    Fixture,
    read_transforms,
    write_aus,
    write_ply,
    write_released,
    write_tracking,
    write_transforms,
)

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "released"
needs_recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded released checkpoint is not here")
OUTPUTS = ("expression", "jaw", "gate", "emotion_logits", "base_expression", "residual_expression", "encoded_audio")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    return write_released(tmp_path_factory.mktemp("released") / "anna")


@pytest.fixture
def avatar(original: Fixture, tmp_path: Path) -> Fixture:
    """A copy that a test may change."""
    return original.copy(tmp_path / "anna")


def load(fixture: Fixture, **options: object) -> Checkpoint:
    return load_released(*fixture.paths(), **{"encoder": None, **options})  # type: ignore[arg-type]


def motion_of(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    windows, aus = (torch.from_numpy(checkpoint.cues[name]) for name in ("windows", "aus"))
    with torch.no_grad():
        return {
            name: part.numpy() for name, part in checkpoint.motion(windows, aus, checkpoint.identity)._asdict().items()
        }


def test_every_array_is_the_files(original: Fixture) -> None:
    checkpoint = load(original)
    capture, state, *_ = original.load()
    assert checkpoint.kind == "released" and checkpoint.source == str(original.checkpoint)
    avatar = checkpoint.avatar
    np.testing.assert_array_equal(avatar["gaussians.means"], capture[1].detach())
    np.testing.assert_array_equal(avatar["gaussians.sh"], torch.cat([capture[2], capture[3]], 1).detach())
    np.testing.assert_array_equal(avatar["gaussians.scales"], capture[4].detach())
    np.testing.assert_array_equal(avatar["gaussians.quats"], capture[5].detach())
    np.testing.assert_array_equal(avatar["gaussians.opacities"], capture[6].detach()[:, 0])
    np.testing.assert_array_equal(avatar["gaussians.face_index"], np.load(original.scene / "face_indices.npy"))
    np.testing.assert_array_equal(avatar["mouth.index"], np.load(original.scene / "mouth_point_indices.npy"))
    loaded = checkpoint.motion.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert all(array.flags.c_contiguous for array in {**avatar, **checkpoint.cues}.values())
    assert (checkpoint.info.width, checkpoint.info.height) == (64, 64)
    assert checkpoint.info.scale_activation == "softplus" and len(checkpoint.info.expression_names) == 50
    tracked = original.tracked()
    for cue, name in {
        "rotation": "rotation",
        "neck": "neck_pose",
        "eyes": "eyes_pose",
        "translation": "translation",
    }.items():
        np.testing.assert_array_equal(checkpoint.cues[cue], np.concatenate([tracked[str(t)][name] for t in range(12)]))


@pytest.mark.parametrize("stored", range(4))
def test_sh_degrees_and_active_below_stored(tmp_path: Path, stored: int) -> None:
    for active in range(stored + 1):
        fixture = write_released(
            tmp_path / str(active), gaussians=40, frames=3, stored_degree=stored, active_degree=active
        )
        checkpoint = load(fixture)
        assert checkpoint.avatar["gaussians.sh"].shape == (40, (stored + 1) ** 2, 3)
        assert checkpoint.info.active_sh_degree == active


@pytest.mark.parametrize("identity", [True, False])
def test_motion_agrees_with_float64(tmp_path: Path, identity: bool) -> None:
    fixture = write_released(tmp_path / "a", identity=identity)
    checkpoint = load(fixture)
    assert (checkpoint.identity is not None) == identity
    assert any("AdaIN is bypassed" in note for note in checkpoint.info.notes) != identity
    who = None if checkpoint.identity is None else checkpoint.identity.numpy().astype(np.float64)
    cues = checkpoint.cues
    expected = reference.motion(reference.doubles(fixture.load()[1]), cues["windows"], cues["aus"], who)
    for name, found in motion_of(checkpoint).items():
        np.testing.assert_allclose(found, getattr(expected, name), atol=1e-5, err_msg=name)


def test_identity_changes_the_motion(original: Fixture, avatar: Fixture) -> None:
    (avatar.scene / "identity_feature.npy").unlink()
    difference = motion_of(load(original))["expression"] - motion_of(load(avatar))["expression"]
    assert np.abs(difference).max() > 1e-2


def test_head_is_the_flame_of_the_scene(original: Fixture) -> None:
    """Vertices from the checkpoint's baked arrays; static_offset must not move them."""
    checkpoint, tracked = load(original), original.tracked()["4"]
    baked = {name.removeprefix("head."): value for name, value in checkpoint.avatar.items() if name.startswith("head.")}
    expression, jaw = np.linspace(-1, 1, 50), np.array([0.2, 0.01, 0.0])
    pose = np.concatenate([tracked["rotation"][0], tracked["neck_pose"][0], jaw, tracked["eyes_pose"][0]])
    found = plugins.skin(plugins.Head(**baked), expression, pose.reshape(5, 3), tracked["translation"][0])
    expected = reference.head_vertices(original.head(), tracked, expression, jaw)
    assert np.abs(found - expected).max() < 1e-6
    assert any("static_offset is ignored" in note for note in checkpoint.info.notes)


def test_one_new_encoding_per_frame(original: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of T frames costs T windows and the all-zero one, not 8 T."""
    encoded: list[int] = []
    encode = GRMN.encode

    def counting(self: GRMN, windows: torch.Tensor) -> torch.Tensor:
        encoded.append(int(np.prod(windows.shape[:-2])))
        return encode(self, windows)

    monkeypatch.setattr(GRMN, "encode", counting)
    motion_of(load(original))
    assert sum(encoded) == 12 + 1


def test_cameras_follow_the_released_convention(original: Fixture) -> None:
    checkpoint = load(original)
    center = np.load(original.scene / "model_center.npy").astype(np.float64)
    listed = read_transforms(original.scene)["frames"]
    for t in (0, 11):
        pose = np.array(listed[t]["transform_matrix"])
        eye = pose[:3, 3] / 2.4 + center
        np.testing.assert_allclose(checkpoint.cues["view"][t] @ [*eye, 1], [0, 0, 0, 1], atol=1e-12)
        ahead = eye - pose[:3, 2]  # OpenGL looks along -z; OpenCV's depth grows ahead, its y down
        np.testing.assert_allclose(checkpoint.cues["view"][t] @ [*ahead, 1], [0, 0, 1, 1], atol=1e-12)
        above = ahead + pose[:3, 1]
        np.testing.assert_allclose(checkpoint.cues["view"][t] @ [*above, 1], [0, -1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(checkpoint.cues["intrinsics"], np.tile([122.88, 122.88, 32, 32], (12, 1)), rtol=1e-6)


def test_field_of_view_stands_in_for_focal_lengths(original: Fixture, avatar: Fixture) -> None:
    content = read_transforms(avatar.scene)
    for axis in "xy":
        content[f"camera_angle_{axis}"] = 2 * np.arctan(content["w"] / (2 * content.pop(f"fl_{axis}")))
    content["cx"] = 20.0
    write_transforms(avatar.scene, content)
    checkpoint = load(avatar)
    np.testing.assert_allclose(checkpoint.cues["intrinsics"], load(original).cues["intrinsics"], rtol=1e-6)
    assert any("principal point" in note for note in checkpoint.info.notes)


def test_order_of_frames_is_that_of_timestep_index(original: Fixture, avatar: Fixture) -> None:
    content = read_transforms(avatar.scene)
    content["frames"] = content["frames"][::-1]
    write_transforms(avatar.scene, content)
    np.testing.assert_array_equal(load(avatar).cues["view"], load(original).cues["view"])


def test_a_timestep_without_a_camera_keeps_the_last_one(original: Fixture, avatar: Fixture) -> None:
    content = read_transforms(avatar.scene)
    second = dict(content["frames"][3], camera_index=1, transform_matrix=np.eye(4).tolist())
    content["frames"] = [*content["frames"][:5], *content["frames"][6:], second]
    write_transforms(avatar.scene, content)
    checkpoint, expected = load(avatar), load(original).cues["view"].copy()
    expected[5] = expected[4]
    np.testing.assert_array_equal(checkpoint.cues["view"], expected)
    assert len([note for note in checkpoint.info.notes if "camera" in note]) == 2


def test_flame_keys_are_numbers_not_text(original: Fixture, avatar: Fixture) -> None:
    """ "10" follows "9"; counting may start at 1; rotation and jaw may stand in `pose` alone."""
    entries = {}
    for key, entry in reversed(original.tracked().items()):
        entries[str(int(key) + 1)] = {
            name: value for name, value in entry.items() if name not in ("rotation", "jaw_pose")
        }
    write_tracking(avatar.scene, entries)
    np.testing.assert_array_equal(load(avatar).cues["rotation"], load(original).cues["rotation"])


@pytest.mark.parametrize("gap", [", ", ","])
def test_action_units_by_name_and_frame(original: Fixture, avatar: Fixture, gap: str) -> None:
    values = load(original).cues["aus"].astype(np.float64)
    shuffled = (3, 5, 0, 4, 1, 2)
    write_aus(avatar.scene, values[:, shuffled], tuple(AU_COLUMNS[i] for i in shuffled), gap)
    path = avatar.scene / "au_features.csv"
    header, *rows = path.read_text().splitlines()
    path.write_bytes(("\ufeff" + "\r\n".join([header, *reversed(rows), ""])).encode())
    np.testing.assert_allclose(load(avatar).cues["aus"], values, atol=1e-6)


def test_last_action_unit_row_repeats(original: Fixture, avatar: Fixture) -> None:
    values = load(original).cues["aus"]
    write_aus(avatar.scene, values[:-1].astype(np.float64))
    found = load(avatar).cues["aus"]
    np.testing.assert_allclose(found[:-1], values[:-1], atol=1e-6)
    np.testing.assert_array_equal(found[-1], found[-2])


def test_spare_rows_at_the_end_are_cut(original: Fixture, avatar: Fixture) -> None:
    path = avatar.scene / "aud_w2v.npy"
    windows = np.load(path)
    np.save(path, np.concatenate([windows, windows[:2]]))
    np.testing.assert_array_equal(load(avatar).cues["windows"], windows)


@pytest.mark.parametrize("order", ["<", ">", ""])
def test_point_clouds_of_every_format(original: Fixture, avatar: Fixture, order: str) -> None:
    vertices, faces = np.load(avatar.scene / "vertices.npy"), avatar.head()["f"]
    bary, face_index = (np.load(avatar.scene / name) for name in ("bary_coords.npy", "face_indices.npy"))
    write_ply(avatar.scene / "points3D.ply", np.einsum("gk,gkc->gc", bary, vertices[faces[face_index]]), order)
    assert load(avatar).avatar.keys() == load(original).avatar.keys()


def test_template_obj_gives_the_faces(original: Fixture, avatar: Fixture, tmp_path: Path) -> None:
    head = avatar.head()
    lines = [f"v {x} {y} {z}" for x, y, z in head["v_template"]]
    lines += [f"f {a + 1}/1/1 {b + 1}//2 {c - len(head['v_template'])}" for a, b, c in head["f"].astype(int)]
    template = tmp_path / "template.obj"
    template.write_text("\n".join(["# template", "mtllib none", *lines]))
    avatar.save_head(head | {"f": head["f"][::-1].copy()})
    with pytest.raises(CheckpointError, match="template OBJ, not from the FLAME pickle: pass that OBJ with --faces"):
        load(avatar)
    np.testing.assert_array_equal(load(avatar, faces=template).avatar["head.faces"], original.head()["f"])
    assert any("not verified" in note for note in load(avatar, verify=False).info.notes)


def test_numpy_scalars_of_3dgs_are_read(avatar: Fixture) -> None:
    capture, *rest = avatar.load()
    avatar.save(((*capture[:11], np.float64(1.25), *capture[12:]), *rest))
    assert load(avatar).avatar["gaussians.means"].shape == (300, 3)


def test_without_mouth_gaussians(avatar: Fixture) -> None:
    np.save(avatar.scene / "mouth_point_indices.npy", np.zeros(0, np.int64))
    assert "mouth.index" not in load(avatar).avatar


def wav2vec2_folder(path: Path, hidden: int) -> Path:
    config = Wav2Vec2Config(
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=16,
        conv_dim=[16] * 7,
        num_conv_pos_embedding_groups=16,
    )
    torch.manual_seed(0)
    Wav2Vec2Model(config).save_pretrained(path)
    return path


def test_encoder_is_loaded_and_calibrated(original: Fixture, tmp_path: Path) -> None:
    folder = wav2vec2_folder(tmp_path / "encoder", 768)
    checkpoint = load(original, encoder=folder, streaming=StreamingConfig(2, 4, 50))
    assert checkpoint.encoder is not None
    assert checkpoint.encoder.streaming == StreamingConfig(2, 4, 50)
    assert not checkpoint.encoder.training and float(checkpoint.encoder.sample_scale) > 2
    assert float(checkpoint.encoder.norm_var.max()) != 1


def test_encoder_of_another_width_is_refused(original: Fixture, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gives 32 channels, the checkpoint's audio_proj reads 768"):
        load(original, encoder=wav2vec2_folder(tmp_path / "encoder", 32))
    with pytest.raises(CheckpointError, match="cannot load the audio encoder"):
        load(original, encoder=tmp_path / "nowhere")


def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not released._available("nobody/has-such-a-model")


def test_no_encoder_is_a_note_not_a_failure(original: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "_available", lambda name: False)
    for choice in (released.AUTO, None):
        checkpoint = load(original, encoder=choice)
        assert checkpoint.encoder is None
        assert any("recorded features only" in note for note in checkpoint.info.notes)


@needs_recorded
def test_recorded_motion() -> None:
    paths = (RECORDED / "chkpnt_face_latest.pth", RECORDED / "scene", RECORDED / "generic_model.pkl")
    checkpoint = load_released(*paths, encoder=None)
    found = motion_of(checkpoint)
    with np.load(RECORDED / "expected.npz") as expected:
        for name in OUTPUTS:
            assert np.abs(found[name] - expected[name]).max() < 1e-4, name
        np.testing.assert_array_equal(checkpoint.avatar["mouth.index"], expected["mouth_point_indices"])
    assert json.loads((RECORDED / "scene" / "transforms.json").read_text())["w"] == checkpoint.info.width


@needs_recorded
def test_reference_reproduces_the_recorded_geometry() -> None:
    """The float64 reference of the tests is itself held against what the released code computed."""
    fixture = Fixture(RECORDED)
    checkpoint = load_released(*fixture.paths(), encoder=None)
    capture, state, *_ = fixture.load()
    weights, head, tracked = reference.doubles(state), fixture.head(), fixture.tracked()
    face_index, mouth = checkpoint.avatar["gaussians.face_index"], checkpoint.avatar["mouth.index"]
    with np.load(RECORDED / "expected.npz") as expected:
        for row, frame in enumerate(expected["render_frames"]):
            expression, jaw = (expected[name][frame].astype(np.float64) for name in ("expression", "jaw"))
            vertices = reference.head_vertices(head, tracked[str(frame)], expression, jaw)
            assert np.abs(vertices - expected["vertices"][row]).max() < 1e-7
            audio = expected["encoded_audio"][frame].astype(np.float64)
            found = reference.gaussians(weights, capture, vertices, head["f"].astype(int), face_index, mouth, audio)
            for name in ("position", "scale", "d_mu", "d_rot", "d_scale"):
                wanted = expected[name][row]
                error = np.linalg.norm(getattr(found, name) - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
                assert error.max() < 1e-5, name
            assert np.quantile(1 - np.abs((found.rotation * expected["rotation"][row]).sum(1)), 0.99) < 1e-6
