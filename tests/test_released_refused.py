"""Released files that are broken, hostile or do not belong together: one error that says what and what to do."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotag.runtime.errors import CheckpointError
from emotag.training.checkpoint import load_checkpoint
from emotag.training.released import load_released
from tests.released_fixture import (
    AU_COLUMNS,
    Fixture,
    read_transforms,
    write_aus,
    write_released,
    write_tracking,
    write_transforms,
)

Damage = Callable[[Fixture], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    return write_released(tmp_path_factory.mktemp("released") / "anna", gaussians=60, frames=6)


@pytest.fixture
def avatar(original: Fixture, tmp_path: Path) -> Fixture:
    """A copy that a test may change."""
    return original.copy(tmp_path / "anna")


def refused(fixture: Fixture, *parts: str) -> str:
    """The error of loading `fixture`; it is one line and has all `parts`."""
    with pytest.raises(CheckpointError) as caught:
        load_released(*fixture.paths(), encoder=None)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


# The checkpoint


def replace_capture(fixture: Fixture, **fields: Any) -> None:
    """Other values for some of the capture's fields, by position: `_3=tensor`."""
    capture, *rest = fixture.load()
    changed = list(capture)
    for name, value in fields.items():
        changed[int(name[1:])] = value
    fixture.save((tuple(changed), *rest))


def replace_state(fixture: Fixture, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    capture, state, *rest = fixture.load()
    change(state)
    fixture.save((capture, state, *rest))


def test_pretraining_checkpoint_has_no_avatar(avatar: Fixture) -> None:
    avatar.save(avatar.load()[1:])
    refused(avatar, "pretraining checkpoint", "no avatar", "Adapt it to an identity")


WRONG_CONTENT: dict[str, tuple[object, str]] = {
    "a 2-tuple": (({}, 3), "a tuple of 2"),
    "a list": ([1, 2, 3, 4], "a list"),
    "a number": (5, "a int"),
    "four numbers": ((1, 2, 3, 4), "a tuple of 4"),
    "one of ours": ({"format": "emotag-checkpoint"}, "leave out --scene and --flame"),
    "13 fields": (((0,) * 13, {}, {}, 1), "13 fields"),
    "state is a number": (((0,) * 14, 5, {}, 1), "not a set of tensors"),
    "state of numbers": (((0,) * 14, {"gate_net": 1}, {}, 1), "not a set of tensors"),
}


@pytest.mark.parametrize("case", WRONG_CONTENT)
def test_other_files_of_torch(avatar: Fixture, case: str) -> None:
    content, expected = WRONG_CONTENT[case]
    avatar.save(content)
    refused(avatar, expected)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"not a checkpoint", b"\x80\x02}q\x00.", b"\x80\x05\x95\xff\xff\xff\xff"]
)
def test_not_a_checkpoint(avatar: Fixture, data: bytes) -> None:
    avatar.checkpoint.unlink()
    avatar.checkpoint.write_bytes(data)
    refused(avatar, "chkpnt_face_latest.pth")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.99999])
def test_truncated(avatar: Fixture, share: float) -> None:
    data = avatar.checkpoint.read_bytes()
    avatar.checkpoint.unlink()
    avatar.checkpoint.write_bytes(data[: int(len(data) * share)])
    refused(avatar, "chkpnt_face_latest.pth")


def test_missing_files(avatar: Fixture) -> None:
    avatar.checkpoint.unlink()
    refused(avatar, "does not exist")


class Payload:
    """Runs a command when it is unpickled by something that should not."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


def test_code_in_the_checkpoint_is_not_run(avatar: Fixture, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    content = avatar.load()
    avatar.save((*content[:3], Payload(trace)))
    refused(avatar, "could run code")
    avatar.checkpoint.write_bytes(pickle.dumps(Payload(trace)))
    refused(avatar, "chkpnt_face_latest.pth")
    assert not trace.exists()


def test_code_in_the_scene_and_head_is_not_run(avatar: Fixture, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    entries = avatar.tracked()
    write_tracking(avatar.scene, {**entries, "2": {**entries["2"], "shape": Payload(trace)}})
    refused(avatar, "flame_params.npz", "Nothing in it was executed")
    write_tracking(avatar.scene, entries)
    avatar.save_head(avatar.head() | {"J": Payload(trace)})
    refused(avatar, "generic_model.pkl", "Nothing in it was executed")
    np.save(avatar.scene / "aud_w2v.npy", np.array([Payload(trace)], dtype=object), allow_pickle=True)
    refused(avatar, "aud_w2v.npy", "not a readable array")
    assert not trace.exists()


def test_missing_unexpected_and_misshaped_keys_are_listed(avatar: Fixture) -> None:
    replace_state(avatar, lambda state: state.pop("gate_net.2.bias"))
    refused(avatar, "missing: gate_net.2.bias")
    replace_state(
        avatar, lambda state: state.update({"gate_net.2.bias": torch.zeros(2), "extra.weight": torch.zeros(1)})
    )
    refused(avatar, "unexpected: extra.weight", "wrong shape: gate_net.2.bias (2,) instead of (1,)")


def test_values_of_the_network(avatar: Fixture) -> None:
    replace_state(avatar, lambda state: state["emotion_head.bias"].fill_(float("nan")))
    refused(avatar, "emotion_head.bias holds values that are not finite")
    replace_state(avatar, lambda state: state["emotion_head.bias"].zero_())
    replace_state(avatar, lambda state: state["encoder_yz.offsets"].add_(8))
    refused(avatar, "encoder_yz.offsets", "another grid")


CAPTURES: dict[str, tuple[dict[str, Any], str]] = {
    "opacity short": ({"_6": torch.zeros(59, 1)}, "do not agree on G = 60 (opacity (59, 1))"),
    "scaling flat": ({"_4": torch.zeros(60)}, "scaling (60,)"),
    "rotation of 3": ({"_5": torch.ones(60, 3)}, "rotation (60, 3)"),
    "f_rest of 7": ({"_3": torch.zeros(60, 6, 3)}, "7 SH coefficients"),
    "f_rest of degree 4": ({"_3": torch.zeros(60, 24, 3)}, "25 SH coefficients"),
    "f_rest flat": ({"_3": torch.zeros(60, 24)}, "f_rest (60, 24)"),
    "active above stored": ({"_0": 3}, "active SH degree is 3, it should be 0 to the stored 2"),
    "active negative": ({"_0": -1}, "active SH degree is -1"),
    "active a text": ({"_0": "2"}, "active SH degree is '2'"),
    "xyz a number": ({"_1": 5}, "xyz of its capture"),
    "xyz integers": ({"_1": torch.zeros(60, 3, dtype=torch.int64)}, "xyz of its capture"),
    "xyz not finite": ({"_1": torch.full((60, 3), float("inf"))}, "xyz holds values that are not finite"),
    "xyz repeated from one number": ({"_1": torch.zeros(1, 1).expand(1 << 40, 3)}, "xyz of its capture"),
    "zero quaternion": ({"_5": torch.zeros(60, 4)}, "zero quaternion"),
    "no Gaussians": ({f"_{i}": torch.zeros(0, *s) for i, s in ((1, (3,)), (2, (1, 3)), (3, (8, 3)))}, "agree on G = 0"),
}


@pytest.mark.parametrize("case", CAPTURES)
def test_captures(avatar: Fixture, case: str) -> None:
    fields, expected = CAPTURES[case]
    replace_capture(avatar, **fields)
    refused(avatar, expected)


def test_densified_checkpoint_says_what_happened(original: Fixture, avatar: Fixture, tmp_path: Path) -> None:
    more = write_released(tmp_path / "more", gaussians=75, frames=6)
    avatar.save(more.load())
    refused(avatar, "75 Gaussians, face_indices.npy binds 60", "Densification", "train again with densification off")


def test_released_checkpoint_without_its_scene(original: Fixture) -> None:
    with pytest.raises(CheckpointError, match="--scene and --flame"):
        load_checkpoint(original.checkpoint)


# The scene


def change_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    return lambda fixture: np.save(fixture.scene / name, change(np.load(fixture.scene / name)))


def change_transforms(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(fixture: Fixture) -> None:
        content = read_transforms(fixture.scene)
        change(content)
        write_transforms(fixture.scene, content)

    return damage


def change_tracking(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(fixture: Fixture) -> None:
        entries = fixture.tracked()
        change(entries)
        write_tracking(fixture.scene, entries)

    return damage


def overwrite(name: str, data: bytes) -> Damage:
    return lambda fixture: (fixture.scene / name).write_bytes(data)


def cut(name: str) -> Damage:
    return lambda fixture: (fixture.scene / name).write_bytes((fixture.scene / name).read_bytes()[:-40])


def aus(rows: int, *columns: str) -> Damage:
    return lambda fixture: write_aus(fixture.scene, np.ones((rows, len(columns or AU_COLUMNS))), columns or AU_COLUMNS)


def edit_aus(old: str, new: str) -> Damage:
    def damage(fixture: Fixture) -> None:
        path = fixture.scene / "au_features.csv"
        path.write_text(path.read_text().replace(old, new))

    return damage


def long(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.concatenate([array, array], axis)


ONE_POINT = b"""ply
format ascii 1.0
element vertex 1
property float x
property float y
property float z
end_header
1 2 3
"""
OPEN_HEADER = b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,".ljust(63) + b"\n"
SCALED = np.diag([2, 2, 2, 1]).tolist()

SCENES: dict[str, tuple[Damage, str]] = {
    "AU column missing": (aus(6, *AU_COLUMNS[:4], "AU12_r", "AU45_r"), "columns AU07_r are missing"),
    "AU rows missing": (aus(4), "do not have the same frames"),
    "AU rows too many": (aus(20), "do not have the same frames"),
    "AU frame twice": (edit_aus("\n4, ", "\n3, "), "frame 4 is missing or there twice"),
    "AU from 0": (edit_aus("\n6, ", "\n0, "), "should count 1, 2"),
    "AU cell empty": (edit_aus("\n4, 0, 0.120", "\n4, 0"), "line 5 is incomplete"),
    "AU cell a text": (edit_aus("0.98, 1, ", "0.98, 1, x"), "line 2 is incomplete"),
    "AU cell nan": (edit_aus("\n2, 0, 0.040, 0.98, 1, ", "\n2, 0, 0.040, 0.98, 1, nan, "), "line 3 holds a value"),
    "AU file empty": (overwrite("au_features.csv", b""), "are missing"),
    "AU file binary": (overwrite("au_features.csv", b"\xff\xfe\x00"), "not a readable CSV"),
    "audio short": (change_array("aud_w2v.npy", lambda a: a[:5]), "aud_w2v.npy 5"),
    "audio much longer": (change_array("aud_w2v.npy", long(0)), "aud_w2v.npy 12"),
    "audio of 1024": (change_array("aud_w2v.npy", lambda a: np.zeros((6, 16, 1024))), "has 1024 channels"),
    "audio of 8 tokens": (change_array("aud_w2v.npy", lambda a: a[:, :8]), "(6, 8, 768), it should be any×16×any"),
    "audio nan": (change_array("aud_w2v.npy", lambda a: a * np.nan), "not finite"),
    "audio cut": (cut("aud_w2v.npy"), "aud_w2v.npy: not a readable array"),
    "emotion short": (change_array("emotion_features.npy", lambda a: a[:4]), "emotion_features.npy 4"),
    "emotion of 8": (change_array("emotion_features.npy", lambda a: np.ones((6, 8))), "it should be any×7"),
    "emotion negative": (change_array("emotion_features.npy", lambda a: -a), "not probabilities"),
    "identity of 256": (change_array("identity_feature.npy", lambda a: a[:256]), "it should be 512"),
    "centre of 2": (change_array("model_center.npy", lambda a: a[:2]), "it should be 3"),
    "centre with a damaged header": (overwrite("model_center.npy", OPEN_HEADER), "not a readable array"),
    "face index outside": (change_array("face_indices.npy", lambda a: a + 500), "pass that OBJ with --faces"),
    "face index negative": (change_array("face_indices.npy", lambda a: a - 600), "outside the head's 600"),
    "face index fraction": (change_array("face_indices.npy", lambda a: a + 0.5), "not indices"),
    "faces shuffled": (change_array("face_indices.npy", lambda a: a[::-1]), "away from points3D.ply"),
    "bary short": (change_array("bary_coords.npy", lambda a: a[:9]), "bary_coords.npy has 9 rows"),
    "bary no weights": (change_array("bary_coords.npy", lambda a: a * 2), "not barycentric"),
    "mouth outside": (change_array("mouth_point_indices.npy", lambda a: a + 60), "outside the checkpoint's 60"),
    "vertices of another mesh": (change_array("vertices.npy", lambda a: a[:-3]), "299 vertices"),
    "vertices moved": (change_array("vertices.npy", lambda a: a + 0.001), "1.0 mm away from points3D.ply"),
    "points cut": (cut("points3D.ply"), "not a readable PLY"),
    "points no PLY": (overwrite("points3D.ply", b"solid cube"), "not a readable PLY"),
    "points fewer": (overwrite("points3D.ply", ONE_POINT), "points3D.ply has 1 points"),
    "no frames": (change_transforms(lambda c: c.update(frames=[])), "it has no frames"),
    "no focal length": (change_transforms(lambda c: c.pop("fl_y")), "'fl_y' is missing"),
    "no width": (change_transforms(lambda c: c.pop("w")), "'w' is missing"),
    "picture of 0": (change_transforms(lambda c: c.update(h=0)), "h = 0 is not a picture size"),
    "focal length nan": (change_transforms(lambda c: c.update(fl_x=float("nan"))), "not a focal length"),
    "matrix 3×4": (change_transforms(lambda c: c["frames"][2]["transform_matrix"].pop()), "not a 4×4"),
    "matrix scaled": (change_transforms(lambda c: c["frames"][2].update(transform_matrix=SCALED)), "hold a rotation"),
    "matrix upside down": (change_transforms(lambda c: c["frames"][2]["transform_matrix"].reverse()), "not a 4×4"),
    "row outside": (change_transforms(lambda c: c["frames"][5].update(timestep_index=9)), "transforms.json needs 10"),
    "row negative": (change_transforms(lambda c: c["frames"][0].update(timestep_index=-1)), "is not a row"),
    "transforms no JSON": (overwrite("transforms.json", b"{"), "not a transforms.json"),
    "transforms a list": (overwrite("transforms.json", b"[1]"), "not a transforms.json"),
    "transforms deep": (overwrite("transforms.json", b"[" * 100000), "not a transforms.json"),
    "tracking gap": (change_tracking(lambda c: c.pop("3")), "frame 3 is missing"),
    "tracking short": (change_tracking(lambda c: c.pop("5")), "flame_params.npz 5"),
    "tracking no jaw": (change_tracking(lambda c: c["2"].update(jaw_pose=None, pose=None)), "frame 2 has no jaw_pose"),
    "tracking eyes of 3": (change_tracking(lambda c: c["1"].update(eyes_pose=np.zeros(3))), "eyes_pose has the shape"),
    "tracking nan": (change_tracking(lambda c: c["1"].update(neck_pose=np.full(3, np.nan))), "neck_pose is not finite"),
    "tracking a list": (change_tracking(lambda c: c.update({"1": [1, 2]})), "not a set of FLAME parameters"),
    "tracking keys": (change_tracking(lambda c: c.update(extra={})), "keys should be frame numbers"),
    "tracking cut": (cut("flame_params.npz"), "flame_params.npz: not a readable .npz"),
}  # fmt: skip


@pytest.mark.parametrize("case", SCENES)
def test_scenes(avatar: Fixture, case: str) -> None:
    damage, expected = SCENES[case]
    damage(avatar)
    refused(avatar, expected)


def test_every_file_of_the_scene_is_asked_for(avatar: Fixture, tmp_path: Path) -> None:
    for name in sorted(path.name for path in avatar.scene.iterdir()):
        if name == "identity_feature.npy":
            continue
        hidden = tmp_path / name
        (avatar.scene / name).rename(hidden)
        refused(avatar, name)
        hidden.rename(avatar.scene / name)
    load_released(*avatar.paths(), encoder=None)


def test_another_head_is_noticed(avatar: Fixture) -> None:
    head = avatar.head()
    avatar.save_head(head | {"v_template": head["v_template"] * 1.05})
    refused(avatar, "generic_model.pkl", "FLAME file that the scene was tracked with")
    avatar.save_head({name: value for name, value in head.items() if name != "posedirs"})
    refused(avatar, "no posedirs")


def test_scene_that_is_not_a_folder(avatar: Fixture) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_released(avatar.checkpoint, avatar.root / "nowhere", avatar.flame, encoder=None)


def test_template_that_does_not_fit(avatar: Fixture, tmp_path: Path) -> None:
    for name, text, expected in (
        ("few.obj", "v 0 0 0\nf 1 1 1\n", "has 1 vertices, the head 302"),
        ("none.obj", "v 0 0 0\n" * 302, "no faces"),
        ("outside.obj", "v 0 0 0\n" * 302 + "f 1 2 303\n", "outside its vertices"),
        ("words.obj", "f a b c\n", "not a readable OBJ"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(CheckpointError, match=expected):
            load_released(*avatar.paths(), encoder=None, faces=tmp_path / name)


def test_flipped_bytes_never_escape_as_another_error(avatar: Fixture) -> None:
    """Any damage to the pickle inside the checkpoint ends in a CheckpointError or still loads."""
    with zipfile.ZipFile(avatar.checkpoint) as archive:
        start = archive.read(archive.namelist()[0])
    data = bytearray(avatar.checkpoint.read_bytes())
    offset = data.find(start[:64])
    rng = np.random.default_rng(0)
    avatar.checkpoint.unlink()
    for position in rng.integers(0, len(start), 40):
        damaged = bytearray(data)
        damaged[offset + position] ^= 1 << int(rng.integers(8))
        avatar.checkpoint.write_bytes(damaged)
        try:
            load_released(*avatar.paths(), encoder=None)
        except CheckpointError as error:
            assert str(avatar.checkpoint) in str(error)
