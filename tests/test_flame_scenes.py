"""Training on heads of FLAME's layout: where their mouth is, that eq. 8 trains it, and VHAP's teeth."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_fixture import egg_head
from scene_fixture import write_released_scene
from transformers import Wav2Vec2Config, Wav2Vec2Model

from emotag.runtime.errors import CheckpointError
from emotag.training.checkpoint import load_checkpoint
from emotag.training.flame import load_flame
from emotag.training.head import HeadModel
from emotag.training.mouth_region import MASKS, NO_MOUTH, has_mouth, with_mouth_of
from emotag.training.scenes import load_encoder, open_scene
from emotag.training.subject import SubjectError
from emotag.training.subject_scene import check_head, extra_teeth, mouth_faces, static_offset
from emotag.training.trainer import Job, TrainConfig, perform
from emotag.training.trainer.start import fresh_networks, open_head
from emotag.training.wav2vec2 import StreamingConfig

PRETRAIN = TrainConfig(steps=6, warmup=1, blend=0.0, size=32, count=80, rate=1e-3)
PARTS = ("mouth_mlp", "mouth_head", "encoder_xy", "backbone_net")
ADAPT = replace(TrainConfig.adaptation(), steps=6, warmup=2, seconds=0.4, size=32, count=80)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene in the released layout with its head, and an encoder."""
    folder = tmp_path_factory.mktemp("flame")
    write_released_scene(folder / "anna")
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(16,) * 7,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder / "encoder")
    return folder


def flame(place: Path) -> Path:
    return place / "anna" / "generic_model.pkl"


def scene(place: Path) -> Path:
    return place / "anna" / "scene"


@pytest.fixture(scope="module")
def pretrained(place: Path) -> Path:
    output = place / "pretrained.pt"
    start = {"encoder": str(place / "encoder"), "streaming": StreamingConfig(2, 2, 20)}
    perform(Job(PRETRAIN, (scene(place),), output, head=str(flame(place)), cache=place / "cache", **start))  # type: ignore[arg-type]
    return output


def moved(place: Path, state: dict[str, torch.Tensor]) -> set[str]:
    """Which of some parts of a motion network are not as an untrained one has them."""
    encoder = load_encoder(place / "encoder", StreamingConfig(2, 2, 20))
    fresh = fresh_networks(encoder, open_head(flame(place)), seed=PRETRAIN.seed).motion.state_dict()
    names = [name for name in fresh if name.split(".")[0] in PARTS and not torch.equal(fresh[name], state[name])]
    return {name.split(".")[0] for name in names}


def adapted(place: Path, pretrained: Path, output: Path) -> tuple[Any, Any]:
    """The run, and the checkpoint that it wrote."""
    job = Job(ADAPT, (scene(place),), output, head=str(flame(place)), start=pretrained, cache=place / "cache")
    return perform(job), load_checkpoint(output)


def test_the_mouth_of_a_flame_head_trains(place: Path, pretrained: Path, tmp_path: Path) -> None:
    folder = scene(place)
    truth = np.unique(np.load(folder / "face_indices.npy")[np.load(folder / "mouth_point_indices.npy")])
    assert len(truth) and mouth_faces(with_mouth_of(load_flame(flame(place)), folder)).sum() <= len(truth)
    content = torch.load(pretrained, weights_only=True)
    (person,) = content["people"]
    assert 0 < int(person["subject"]["mouth"].sum()) < 40
    assert set(person["subject"]["face_index"][person["subject"]["mouth"]].tolist()) <= set(truth.tolist())
    assert moved(place, content["motion"]["state"]) == {"mouth_mlp", "mouth_head", "encoder_xy", "backbone_net"}
    run, avatar = adapted(place, pretrained, tmp_path / "a.pt")
    assert run.people[0].notes == ()
    bound = avatar.avatar["gaussians.face_index"][avatar.avatar["mouth.index"]]
    assert len(bound) and set(bound.tolist()) <= set(truth.tolist())


def test_a_head_without_a_mouth_is_told(place: Path, tmp_path: Path) -> None:
    """The mouth head then learns nothing, and the run says why."""
    head = load_flame(flame(place))
    assert with_mouth_of(head, tmp_path) is head and not mouth_faces(head).any()
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in scene(place).iterdir():
        if path.name != "mouth_point_indices.npy":
            (bare / path.name).symlink_to(path)
    start: dict[str, Any] = {"encoder": str(place / "encoder"), "streaming": StreamingConfig(2, 2, 20)}
    job = Job(PRETRAIN, (bare,), tmp_path / "a.pt", head=str(flame(place)), cache=place / "cache", **start)
    run = perform(job)
    assert run is not None and run.people[0].notes == (NO_MOUTH,)
    assert not run.people[0].subject.cloud.mouth.any()  # type: ignore[union-attr]
    assert moved(place, run.networks.motion.state_dict()) == {"backbone_net"}


def masked(folder: Path, masks: object) -> HeadModel:
    """FLAME's pickle with a file of masks beside it."""
    folder.mkdir()
    with (folder / "flame.pkl").open("wb") as file:
        pickle.dump(egg_head(np.random.default_rng(0)), file, protocol=2)
    (folder / MASKS).write_bytes(pickle.dumps(masks, protocol=2))
    return open_head(folder / "flame.pkl")


def test_flames_masks_name_the_mouth(tmp_path: Path) -> None:
    lips = np.arange(150, 200)
    head = masked(tmp_path / "good", {"lips": lips, "nose": np.arange(9)})
    faces = mouth_faces(head)
    assert has_mouth(head) and faces.any() and not faces.all() and head.expression_count == 50
    np.testing.assert_array_equal(faces, [set(face) <= set(lips.tolist()) for face in head.faces.tolist()])
    for masks, says in (({"lips": np.array([7, 999])}, "999 is outside the 302"), ({"nose": lips}, "no vertices of")):
        with pytest.raises(CheckpointError, match=says):
            masked(tmp_path / says[:3], masks)


def test_a_binding_of_another_mesh_is_refused(place: Path, tmp_path: Path) -> None:
    head = load_flame(flame(place))
    for name, values, says in (
        ("face_indices.npy", np.array([0, 600]), "600 is outside the 600 triangles"),
        ("mouth_point_indices.npy", np.array([3]), "3 is outside the 3 Gaussians"),
        ("mouth_point_indices.npy", np.array([0.5]), "not indices"),
    ):
        np.save(tmp_path / "face_indices.npy", np.array([0, 1, 1]))
        np.save(tmp_path / "mouth_point_indices.npy", np.array([1]))
        np.save(tmp_path / name, values)
        with pytest.raises(CheckpointError, match=says):
            with_mouth_of(head, tmp_path)


def test_vhaps_teeth_are_left_out(place: Path) -> None:
    """VHAP appends 120 vertices to FLAME's: a clip that was tracked so is learnt on the head without them."""
    head = load_flame(flame(place))
    known = open_scene(scene(place))
    count = head.vertex_count
    for more, fits in ((0, True), (120, True), (121, False)):
        offset = np.arange(3.0 * (count + more), dtype=np.float32).reshape(-1, 3)
        tracked = replace(known.head, static_offset=offset)
        clip = replace(known, layout="vhap", head=tracked, sizes=replace(known.sizes, vertices=count + more))
        assert extra_teeth(clip, head) == (more == 120)
        if fits:
            check_head(clip, head)
            np.testing.assert_array_equal(static_offset(clip, head), offset[:count])
        else:
            assert static_offset(clip, head) is None
            with pytest.raises(SubjectError, match="was tracked with a head of 423 vertices"):
                check_head(clip, head)
