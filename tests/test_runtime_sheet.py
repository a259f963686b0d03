"""The sheet and the video grid of emotions and views."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from synthetic_bundle import Shape, write_bundle
from test_runtime_files import speechlike, write_wav

from emotag.runtime import Model
from emotag.runtime.commands import render
from emotag.runtime.sheet import VIEWS, grid, sheet, tiled

SIDE, LABEL = 24, 18


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("sheet") / "a.emotag", Shape(size=24, gaussians=40))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("speech") / "a.wav", speechlike(640 * 9))


def cells(picture: np.ndarray) -> np.ndarray:
    """[rows, columns, SIDE, SIDE, 3] without the labels."""
    rows = picture.reshape(-1, SIDE + LABEL, picture.shape[1] // SIDE, SIDE, 3)[:, LABEL:]
    return rows.transpose(0, 2, 1, 3, 4)


def test_a_sheet_has_every_class_at_three_levels_and_all_views(bundle: Path, speech: Path) -> None:
    found = cells(sheet(Model.load(bundle, threads=1), speech, SIDE))
    assert found.shape[:2] == (5, 6)  # neutral and six classes, two a row; then the views
    feeling = found[:4].reshape(-1, 3, SIDE, SIDE, 3)
    assert np.array_equal(feeling[0, 0], feeling[0, 2])  # neutral is neutral at any level
    assert all(not np.array_equal(levels[0], levels[2]) for levels in feeling[1:7])
    assert (feeling[7] == 255).all()  # seven classes leave half a row
    views = found[4]
    assert len(VIEWS) == 6 and all(not np.array_equal(views[2], view) for n, view in enumerate(views) if n != 2)


def test_a_network_that_cannot_be_steered_shows_what_it_hears(tmp_path: Path, speech: Path) -> None:
    model = Model.load(write_bundle(tmp_path / "a.emotag", Shape(size=24, gaussians=40, steerable=False)), threads=1)
    assert cells(sheet(model, speech, SIDE)).shape[:2] == (2, 6)
    assert len(list(grid(model, speech, SIDE))) == 9


def test_labels_do_not_touch_the_pictures() -> None:
    cell = np.full((10, 40, 3), 7, np.uint8)
    picture = tiled([("ab", cell), ("°", cell), ("", cell)], 2)
    assert picture.shape == (2 * (10 + LABEL), 80, 3) and (picture[LABEL : LABEL + 10] == 7).all()
    assert picture[:LABEL, :40].min() < 100 and (picture[LABEL + 10 : 2 * LABEL + 10, :40] == 255).all()


def test_the_command_writes_both(
    bundle: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, video = tmp_path / "sheet.png", tmp_path / "grid.mp4"
    size = ["--size", f"{SIDE}x{SIDE}", "--threads", "1"]
    assert render.main([str(bundle), str(speech), "--sheet", str(picture), "-o", str(video), *size]) == 0
    assert "levels 1 to 3" in capsys.readouterr().out
    with Image.open(picture) as drawn:
        assert drawn.size == (6 * SIDE, 5 * (SIDE + LABEL))
    with av.open(str(video)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 9 and frames[0].shape == (2 * (SIDE + LABEL), 5 * SIDE, 3)
    with pytest.raises(SystemExit):
        render.main([str(bundle), str(speech), "--sheet", str(picture), "--size", "24x32"])
