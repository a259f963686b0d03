"""Creases and blood of the synthetic corpus' skin: where, how much, whose, and what neither of them touches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotag.plugins.errors import OutputError
from emotag.training.corpus import FLITE
from emotag.training.synth import CorpusOptions, Take, corpus, draw_identity, make_corpus
from emotag.training.synth.blood import AREAS, MOST, SECONDS, blood_of, felt, tint
from emotag.training.synth.creases import CREASES, MOST_DARK, MOST_TILT, Creases, folded, paint_creases
from emotag.training.synth.figure import Skin, _anny_atlas, anny_head
from emotag.training.synth.landmarks import landmark_vertices
from emotag.training.synth.mesh_renderer import MeshRenderer
from emotag.training.synth.raster import project
from emotag.training.synth.sheet import emotion_pose
from emotag.training.synth.takes import camera_of, record

NAMES = anny_head().expression_names
OPTIONS = CorpusOptions(identities=1, first=0, seconds=0.2, size=160, voices=FLITE[:1], emotions=("happy",))
TAKE = Take(0, 0, "happy", 1, 0)
CAMERA = camera_of(TAKE, 160)
CALM = emotion_pose("neutral", 0.0)
NO_BLOOD = np.zeros(len(AREAS), np.float32)
LEFT_CHEEK, BETWEEN_BROWS = (0.045, -0.008, 0.056), (0.0, 0.047, 0.075)


@pytest.fixture(scope="module")
def renderer() -> MeshRenderer:
    return corpus.renderer_of(TAKE, OPTIONS)


def picture(renderer: MeshRenderer, skin: Skin | None) -> NDArray[np.float64]:
    return renderer.draw(renderer.figure.vertices(CALM), CAMERA, skin).rgb.astype(float)


def skin_of(blood: NDArray[np.float32] = NO_BLOOD, **creases: float) -> Skin:
    amounts = np.array([creases.get(name, 0.0) for name in CREASES], np.float32)
    return Skin(amounts, blood, np.eye(3))


def near(renderer: MeshRenderer, place: tuple[float, float, float], metres: float) -> NDArray[np.bool_]:
    """(H,W) pixels of the face so near a place on the template."""
    head = anny_head()
    vertex = int(np.linalg.norm(head.v_template - place, axis=1).argmin())
    local, pixels = project(renderer.figure.vertices(CALM)[vertex : vertex + 1], CAMERA)
    rows, columns = np.mgrid[: CAMERA.height, : CAMERA.width]
    away = np.hypot(columns - pixels[0, 0], rows - pixels[0, 1])
    return np.asarray(away < metres * CAMERA.fx / local[0, 2])


def test_a_calm_face_is_drawn_as_without_creases_and_blood(renderer: MeshRenderer) -> None:
    calm = renderer.figure.skin(CALM, "neutral", 1.0)
    assert not calm.creases.any() and not calm.blood.any()
    np.testing.assert_array_equal(picture(renderer, calm), picture(renderer, None))
    contempt = renderer.figure.skin(CALM, "contempt", 1.0)
    assert not contempt.blood.any()


def test_a_frown_darkens_the_skin_between_the_brows_and_nothing_else(renderer: MeshRenderer) -> None:
    plain, frown = picture(renderer, None), picture(renderer, skin_of(frown=1.0))
    where = near(renderer, BETWEEN_BROWS, 0.022)
    change = (frown - plain).mean(axis=2)
    assert change[where].min() < -8 and change[where].mean() < -0.3
    np.testing.assert_array_equal(change[~near(renderer, BETWEEN_BROWS, 0.035)], 0)
    half = (picture(renderer, skin_of(frown=0.5)) - plain).mean(axis=2)
    assert np.abs(half).sum() == pytest.approx(0.5 * np.abs(change).sum(), rel=0.2)


def test_a_raised_brow_draws_lines_across_the_forehead_alone(renderer: MeshRenderer) -> None:
    change = picture(renderer, skin_of(forehead=1.0)) - picture(renderer, None)
    rows = np.flatnonzero(np.abs(change).max(axis=(1, 2)) > 4)
    brows = renderer.figure.vertices(CALM)[landmark_vertices(anny_head())[17:27]]
    assert len(rows) and rows.max() < project(brows, CAMERA)[1][:, 1].max()
    dark = change[rows.min() : rows.max() + 1].mean(axis=(1, 2)) < 0.6 * change.mean(axis=(1, 2)).min()
    assert np.diff(dark.astype(int), prepend=0, append=0).clip(0).sum() >= 2  # grooves one above the other


def test_every_crease_is_somewhere_and_follows_its_own_expressions(renderer: MeshRenderer) -> None:
    for number, (name, crease) in enumerate(CREASES.items()):
        rows, values = renderer.figure.creases.maps[number]
        assert len(rows) > 500 and np.abs(values[:, :2]).max() > 0.15 and values[:, 2].max() > 0.04, name
        for driver in crease.drivers:
            sides = [one for one in NAMES if one.startswith(driver)]
            weights = np.isin(NAMES, [one for one in sides if one.endswith(("Left", "Right"))] or [driver])
            assert folded(weights.astype(np.float32), NAMES)[number] > 0.1, (name, driver)
            assert not folded(0.08 * weights.astype(np.float32), NAMES).any()
    left = folded((np.array(NAMES) == "mouthSmileLeft").astype(np.float32), NAMES)
    amounts = dict(zip(CREASES, left, strict=True))
    assert amounts["nasolabialLeft"] > 0.4 and amounts["nasolabialRight"] == 0


def test_left_is_left(renderer: MeshRenderer) -> None:
    """A crease's side is that of the mesh which its expression moves."""
    head = anny_head()
    moved = np.linalg.norm(head.expression_basis[:, :, NAMES.index("cheekSquintLeft")], axis=1)
    assert head.v_template[moved > 0.3 * moved.max(), 0].mean() > 0.01
    change = np.abs(picture(renderer, skin_of(crowsFeetLeft=1.0)) - picture(renderer, None)).max(axis=2)
    column = np.flatnonzero(change.max(axis=0) > 3)
    nose = project(renderer.figure.vertices(CALM)[landmark_vertices(head)[30:31]], CAMERA)[1][0, 0]
    assert len(column) and column.min() > nose  # the person's left is the picture's right


def test_anger_reddens_and_fear_pales_the_skin_but_not_hair_and_eyes(renderer: MeshRenderer) -> None:
    figure, cheek = renderer.figure, near(renderer, LEFT_CHEEK, 0.010)
    plain = picture(renderer, None)[cheek].mean(axis=0)
    angry, fear = (picture(renderer, skin_of(figure.skin(CALM, name, 1.0).blood))[cheek].mean(axis=0)
                   for name in ("angry", "fear"))  # fmt: skip
    assert 5 < plain[1] - angry[1] < 30 and abs(plain[0] - angry[0]) < 6
    assert 3 < fear[1] - plain[1] < 30
    assert not figure.blood[figure.head_vertices :].any()
    assert not figure.blood[figure.eyeball_vertex].any() and not figure.blood[figure.mouth_vertex].any()


def test_whatever_is_felt_and_folded_stays_within_bounds(renderer: MeshRenderer) -> None:
    figure = renderer.figure
    everything = figure.creases.at(np.ones(len(CREASES), np.float32))
    assert np.abs(everything[:, :2]).max() <= MOST_TILT
    assert everything[:, 2].min() >= 0 and everything[:, 2].max() <= MOST_DARK
    assert not everything[0].any()  # of texels without creases
    flood = tint(figure.blood, np.full(len(AREAS), 9.0, np.float32))
    assert flood.min() >= np.exp(-MOST) - 1e-6 and flood.max() <= 1
    change = picture(renderer, skin_of(**dict.fromkeys(CREASES, 1.0))) - picture(renderer, None)
    assert np.abs(change).max() < 110 and np.abs(change).mean() < 2


def creases_of(seed: int) -> Creases:
    atlas = _anny_atlas()
    identity = replace(draw_identity(0, 0), seed=seed)
    chosen = np.flatnonzero(atlas.position[:, 2] > 0.03)[::25]
    return paint_creases(atlas, chosen, np.ones(len(chosen)), identity)


def test_creases_are_the_persons_own() -> None:
    first, again, other = creases_of(5), creases_of(5), creases_of(6)
    for (rows, values), (rows_again, values_again) in zip(first.maps, again.maps, strict=True):
        np.testing.assert_array_equal(rows, rows_again)
        np.testing.assert_array_equal(values, values_again)
    np.testing.assert_array_equal(first.index, again.index)
    assert (first.index != other.index).any()
    person, twin = draw_identity(0, 0), replace(draw_identity(0, 0), seed=9)
    np.testing.assert_array_equal(blood_of("sad", 1.0, person), blood_of("sad", 1.0, person))
    assert not np.allclose(blood_of("sad", 1.0, person), blood_of("sad", 1.0, twin))
    np.testing.assert_allclose(blood_of("sad", 0.5, person), 0.5 * blood_of("sad", 1.0, person), rtol=1e-6)


def test_blood_follows_a_feeling_slowly() -> None:
    np.testing.assert_allclose(felt(np.full(50, 0.4, np.float32), 1.0), 0.4, rtol=1e-5)
    frames = int(400 * SECONDS)
    step = np.repeat(np.array([0.0, 0.5], np.float32), frames)
    slow = felt(step, 0.5)
    assert slow[0] == pytest.approx(0.5, abs=0.02)  # the mean, as if it had gone on before
    after = slow[frames + int(25 * SECONDS) - 1]
    assert after == pytest.approx(1 - np.exp(-1), abs=0.01)
    assert np.abs(np.diff(slow)).max() < 1 / (25 * SECONDS)


def test_speech_alone_folds_hardly_any_skin() -> None:
    track = record(Take(0, 100, "neutral", 0, 0), FLITE[0], 2.0, NAMES)
    amounts = np.stack([folded(row, NAMES) for row in track.performance.expression])
    angry = record(Take(0, 100, "angry", 3, 0), FLITE[0], 2.0, NAMES)
    felt_amounts = np.stack([folded(row, NAMES) for row in angry.performance.expression])
    frown = list(CREASES).index("frown")
    assert amounts.mean() < 0.04 and amounts[:, frown].mean() < 0.05 < 0.5 < felt_amounts[:, frown].mean()


def test_scenes_of_another_skin_are_refused(tmp_path: Path) -> None:
    """Pictures that were made before there were creases are not taken for new ones."""
    made = dict(corpus.made_with(TAKE, OPTIONS))
    folder = tmp_path / TAKE.name
    folder.mkdir()
    options, still = replace(OPTIONS, levels=(1,)), replace(OPTIONS, levels=(1,), still_skin=True)
    (folder / "synth.json").write_text(json.dumps({"made_with": made}))
    assert list(make_corpus(tmp_path, options)) == [(TAKE, False)]
    with pytest.raises(OutputError, match="skin 'creases and blood 1' instead of 'still'"):
        list(make_corpus(tmp_path, still))
    del made["skin"]
    (folder / "synth.json").write_text(json.dumps({"made_with": made}))
    with pytest.raises(OutputError, match="skin 'still' instead of 'creases and blood 1'"):
        list(make_corpus(tmp_path, options))
    assert list(make_corpus(tmp_path, still)) == [(TAKE, False)]
