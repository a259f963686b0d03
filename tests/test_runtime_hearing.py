"""A sound that is encoded once and spoken by several avatars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from synthetic_bundle import Shape, write_bundle
from test_runtime_files import speechlike, write_wav

from emotag.runtime import AudioError, Avatar, ControlError, Emotion, Hearing, Model
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.sheet import VIEWS, grid, sheet
from emotag.runtime.sound import Sound

FRAMES, SIDE = 9, 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_bundle(tmp_path_factory.mktemp("hearing") / "a.emotag", Shape(size=SIDE, gaussians=40))
    return Model.load(folder, threads=1)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("speech") / "a.wav", speechlike(640 * FRAMES))


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for each frame of samples that any encoder takes."""
    taken: list[int] = []
    feed = StreamingEncoder.feed

    def counting(self: StreamingEncoder, *given: object, **named: object) -> None:
        taken.append(1)
        feed(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(StreamingEncoder, "feed", counting)
    yield taken


def pictures(avatar: Avatar, source: object) -> list[np.ndarray]:
    return [frame.rgb for frame in avatar.render(source, progress=False)]  # type: ignore[arg-type]


def test_what_is_heard_once_looks_as_if_heard_by_each(model: Model, speech: Path, fed: list[int]) -> None:
    takes = [None, Emotion("happy"), Emotion("sad")]
    avatar = Avatar(model)
    alone = []
    for emotion in takes:
        avatar.emotion = emotion
        alone.append(pictures(avatar, speech))
    each = len(fed)
    fed.clear()
    hearing = Hearing(model, speech)
    for emotion, wanted in zip(takes, alone, strict=True):
        avatar.emotion = emotion
        assert np.array_equal(pictures(avatar, hearing), wanted)
    assert hearing.frames == len(alone[0]) == FRAMES and each == 3 * len(fed)


def test_it_gives_the_same_after_a_take_that_broke_off(model: Model, speech: Path, fed: list[int]) -> None:
    hearing, avatar = Hearing(model, speech), Avatar(model)
    assert not fed  # nobody listens yet
    first = next(avatar.render(hearing, progress=False))
    avatar.reset()
    assert len(fed) < FRAMES
    assert np.array_equal(pictures(avatar, hearing)[0], first.rgb)


def test_what_comes_before_the_start_is_spoken_but_not_drawn(model: Model, speech: Path) -> None:
    avatar = Avatar(model)
    whole = list(avatar.render(speech, progress=False))
    drawn = avatar.stats().frames
    late = list(avatar.render(speech, progress=False, start=6))
    assert avatar.stats().frames == drawn + FRAMES - 6
    assert [frame.index for frame in late] == [6, 7, 8] and late[-1].end_of_speech
    for frame, wanted in zip(late, whole[6:], strict=True):
        assert np.array_equal(frame.rgb, wanted.rgb) and np.array_equal(frame.audio, wanted.audio)
    assert not list(avatar.render(speech, progress=False, start=FRAMES))
    for bad in (-1, 1.0, True):
        with pytest.raises(ControlError, match="index of a frame"):
            avatar.render(speech, start=bad)  # type: ignore[arg-type]


def test_side_by_side_it_keeps_only_what_somebody_still_waits_for(model: Model, speech: Path) -> None:
    hearing = Hearing(model, speech, listeners=2)
    ahead, behind = hearing.listen(), hearing.listen()
    heard = [next(ahead) for _ in range(4)]
    assert len(hearing._kept) == 4
    assert all(next(behind) is item for item in heard)
    assert not hearing._kept
    rest = list(ahead)
    assert rest[-1].last and list(behind) == rest
    with pytest.raises(ControlError, match="made for 2 listeners"):
        next(hearing.listen())
    for bad in (0, -1, 2.0, True):
        with pytest.raises(ControlError, match="whole number from 1"):
            Hearing(model, speech, listeners=bad)  # type: ignore[arg-type]


def test_a_sound_that_breaks_off_does_so_for_everyone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros(640 * 5, np.float32)
        raise AudioError("the file ends in the middle")

    monkeypatch.setattr("emotag.runtime.hearing.Sound.open", lambda *given: Sound(blocks(), 16000, None))
    hearing = Hearing(model, "a.wav")
    for _ in range(2):
        heard = hearing.listen()
        assert len([next(heard) for _ in range(5)]) == 5
        with pytest.raises(AudioError, match="in the middle"):
            next(heard)


def test_what_was_interrupted_is_not_taken_for_the_end(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros(640 * 5, np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr("emotag.runtime.hearing.Sound.open", lambda *given: Sound(blocks(), 16000, None))
    hearing = Hearing(model, "a.wav")
    with pytest.raises(KeyboardInterrupt):
        list(hearing.listen())
    with pytest.raises(AudioError, match="interrupted: make the hearing anew"):
        list(hearing.listen())


def test_it_belongs_to_one_model(model: Model, speech: Path) -> None:
    other = Model.load(model.bundle.path, threads=1)
    with pytest.raises(ControlError, match="another model"):
        Avatar(other).render(Hearing(model, speech))


def test_it_has_its_rate_and_channels_already(model: Model, speech: Path) -> None:
    hearing = Hearing(model, speech)
    with pytest.raises(ControlError, match="leave out sample_rate"):
        Avatar(model).render(hearing, sample_rate=48000)
    with pytest.raises(ControlError, match="leave out sample_rate"):
        Avatar(model).render(hearing, downmix=True)


def test_a_sheet_and_a_grid_encode_once(model: Model, speech: Path, fed: list[int]) -> None:
    lookahead = model.manifest.lookahead_frames
    sheet(model, speech, SIDE)
    assert len(VIEWS) == 6 and len(fed) == FRAMES + lookahead
    fed.clear()
    assert len(list(grid(model, speech, SIDE))) == FRAMES
    assert len(fed) == FRAMES + lookahead
