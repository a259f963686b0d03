"""Scenes of both layouts as one representation: every number lands where it should, and nothing is read too early."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from released_fixture import read_transforms, write_transforms
from scene_fixture import SIZE, VERTICES, camera_to_world, picture, write_released_scene, write_vhap_scene

from emotag.runtime.errors import CheckpointError
from emotag.training.released_scene import load_scene
from emotag.training.scenes import PictureCache, Scene, open_scene, read_speech, save_tokens
from emotag.training.wav2vec2 import StreamingConfig


@pytest.fixture(scope="module")
def released_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_scene(tmp_path_factory.mktemp("released") / "anna")


@pytest.fixture(scope="module")
def released(released_folder: Path) -> Scene:
    return open_scene(released_folder)


@pytest.fixture(scope="module")
def vhap(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return open_scene(write_vhap_scene(tmp_path_factory.mktemp("vhap") / "ben"))


def test_released_scene_agrees_with_the_importer(released: Scene, released_folder: Path) -> None:
    imported = load_scene(released_folder)
    assert (released.layout, released.rows, len(released.pictures)) == ("released", 12, 12)
    assert released.aus is not None and released.emotion is not None and released.identity is not None
    np.testing.assert_array_equal(released.aus, imported.aus)
    np.testing.assert_array_equal(released.emotion, imported.emotion)
    np.testing.assert_array_equal(released.identity, imported.identity)
    np.testing.assert_array_equal(released.head.expression, imported.head.expression)
    for shot in released.pictures:
        np.testing.assert_array_equal(shot.camera.view, imported.view[shot.row])
        np.testing.assert_array_equal(shot.camera.intrinsics, imported.intrinsics[shot.row])
    assert (released.sizes.shape, released.sizes.expression, released.sizes.vertices) == (300, 100, 302)
    windows = released.windows(np.array([3, 0]), 8, 8)
    np.testing.assert_array_equal(windows, imported.windows[[3, 0]])


def test_features_stay_on_the_disk(released: Scene) -> None:
    assert isinstance(released.released_windows, np.memmap)


def test_released_pictures_are_decoded_on_demand(released: Scene) -> None:
    frame = released.frame(5)
    assert np.abs(frame.picture.rgb().astype(int) - picture(5).astype(int)).max() <= 8  # JPEG
    assert frame.picture.depth().max() == 5.0
    np.testing.assert_array_equal(frame.picture.normal()[0, 0], [0, 0, 1])
    np.testing.assert_allclose(frame.picture.landmarks()[1], [7, 8])
    mask = frame.picture.mask()
    assert mask.shape == (SIZE, SIZE) and mask.sum() == 48 * 32 and mask[42, 30] == 1 and mask[0, 0] == 0


def test_frame_gathers_one_moment(released: Scene) -> None:
    frame = released.frame(7)
    np.testing.assert_array_equal(frame.jaw, released.head.jaw_pose[7])
    np.testing.assert_array_equal(frame.eyes, released.head.eyes_pose[7])
    assert frame.aus is not None and released.aus is not None
    np.testing.assert_array_equal(frame.aus, released.aus[7])


def test_vhap_cameras_are_world_to_camera(vhap: Scene) -> None:
    assert (vhap.layout, vhap.rows, len(vhap.pictures)) == ("vhap", 6, 12)
    shot = vhap.pictures[7]
    assert (shot.row, shot.camera_index) == (3, 1)
    flipped = camera_to_world(1) @ np.diag([1, -1, -1, 1])
    np.testing.assert_allclose(shot.camera.view @ flipped, np.eye(4), atol=1e-12)
    assert shot.camera.view.dtype == np.float64
    face = shot.camera.view @ np.array([0, 0, 0, 1.0])
    np.testing.assert_allclose(face[:3], [0, 0, 1.2], atol=1e-12)  # in front of the camera, OpenCV's z
    assert shot.camera.intrinsics == (120.0, 121.0, 31.0, 33.0)  # a frame's own cx goes before the list's


def test_vhap_tracking_and_pictures(vhap: Scene) -> None:
    shot = vhap.pictures[9]
    np.testing.assert_array_equal(shot.rgb(), picture(shot.row, shot.camera_index))  # PNG
    assert np.allclose(shot.mask(), 0.2)
    with np.load(vhap.folder / "flame_param/00004.npz") as stored:
        np.testing.assert_array_equal(vhap.head.expression[4], stored["expr"][0].astype(np.float32))
        np.testing.assert_array_equal(vhap.frame(8).translation, stored["translation"][0].astype(np.float32))
    assert vhap.head.static_offset is not None and vhap.head.static_offset.shape == (VERTICES, 3)
    assert (vhap.sizes.shape, vhap.sizes.expression, vhap.sizes.vertices) == (300, 100, VERTICES)
    with pytest.raises(CheckpointError, match="no audio features"):
        vhap.windows(np.array([0]), 8, 8)
    with pytest.raises(CheckpointError, match="has no depth map"):
        shot.depth()


def test_split_is_by_time_or_by_file(released: Scene, tmp_path: Path) -> None:
    assert released.split.train == tuple(range(10)) and released.split.test == (10, 11)
    assert released.first_seconds(0.2) == (0, 1, 2, 3, 4)
    folder = write_vhap_scene(tmp_path / "split")
    content = json.loads((folder / "transforms.json").read_text())
    held_out = [frame for frame in content["frames"] if frame["camera_index"] == 1]
    (folder / "transforms_val.json").write_text(json.dumps(content | {"frames": held_out}))
    split = open_scene(folder).split
    assert split.source == "transforms_val.json"
    assert split.train == (0, 2, 4, 6, 8, 10) and split.test == (1, 3, 5, 7, 9, 11)


def test_gaussian_avatars_dataset_with_splits_only(tmp_path: Path) -> None:
    """The union of sequences: three lists that name files of the folder beside, and no transforms.json."""
    source = write_vhap_scene(tmp_path / "EMO-1")
    content = json.loads((source / "transforms.json").read_text())
    for frame in content["frames"]:
        for key in ("file_path", "fg_mask_path", "flame_param_path"):
            frame[key] = f"../EMO-1/{frame[key]}"
    union = tmp_path / "UNION"
    (union / "flame_param").mkdir(parents=True)
    parts = {"train": content["frames"][:8], "val": content["frames"][8:10], "test": content["frames"][10:]}
    for name, frames in parts.items():
        (union / f"transforms_{name}.json").write_text(json.dumps(content | {"frames": frames}))
    scene = open_scene(union)
    assert len(scene.pictures) == 12 and scene.split.test == (8, 9, 10, 11)
    np.testing.assert_array_equal(scene.pictures[11].rgb(), picture(5, 1))


def test_tokens_give_windows(released_folder: Path, tmp_path: Path) -> None:
    scene = write_vhap_scene(tmp_path / "tokens")
    values = np.arange(12, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    save_tokens(scene, values, "tiny", StreamingConfig(2, 2, 100), "0" * 64)
    windows = open_scene(scene).windows(np.array([0, 2, 5]), 4, 2)
    assert windows[..., 0].tolist() == [[0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_cache_keeps_the_last_pictures(released: Scene) -> None:
    cache = PictureCache(2 * SIZE * SIZE * 3)
    first = released.pictures[0].rgb(cache)
    assert released.pictures[0].rgb(cache) is first
    released.pictures[1].rgb(cache), released.pictures[2].rgb(cache)
    assert released.pictures[0].rgb(cache) is not first


def test_speech_is_resampled_to_16_khz(tmp_path: Path) -> None:
    from scene_fixture import write_wav

    write_wav(tmp_path / "a.wav", 0.5, rate=44100, channels=2)
    samples = read_speech(tmp_path / "a.wav")
    assert samples.shape == (8000,) and samples.dtype == np.float32 and 0.1 < np.abs(samples).max() < 0.3


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "images/../../../x.png", 7])
def test_paths_out_of_the_scene_are_refused(tmp_path: Path, name: object) -> None:
    folder = write_vhap_scene(tmp_path / "scene", frames=2)
    content = read_transforms(folder)
    content["frames"][0]["file_path"] = name
    write_transforms(folder, content)
    with pytest.raises(CheckpointError, match="not a file of the scene"):
        open_scene(folder)


def test_wrong_size_and_unreadable_pictures_are_refused(tmp_path: Path) -> None:
    folder = write_vhap_scene(tmp_path / "scene", frames=2)
    (folder / "images/00000_00.png").write_bytes(b"not a picture")
    scene = open_scene(folder)
    with pytest.raises(CheckpointError, match="not a picture"):
        scene.pictures[0].rgb()
    content = read_transforms(folder)
    write_transforms(folder, content | {"w": 32})
    with pytest.raises(CheckpointError, match="64×64.*32×64"):
        open_scene(folder).pictures[1].rgb()


def test_lengths_that_disagree_are_refused(tmp_path: Path) -> None:
    folder = write_vhap_scene(tmp_path / "scene", frames=6)
    np.save(folder / "emotion_features.npy", np.full((3, 7), 1 / 7, np.float32))
    with pytest.raises(CheckpointError, match="emotion_features.npy.*3 rows.*6 frames"):
        open_scene(folder)
    (folder / "flame_param/00003.npz").unlink()
    (folder / "emotion_features.npy").unlink()
    with pytest.raises(CheckpointError, match="00003.npz: missing"):
        open_scene(folder)
