"""Audio goes in however it comes; frames are the same. Flush, interruption, reset, several avatars, long runs."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_bundle import Array, Shape, write_bundle

from emotag.plugins import Camera, Renderer
from emotag.runtime import AudioError, Avatar, BackendError, ControlError, Frame, Model
from emotag.runtime.audio import AudioQueue

DELAY = Shape().lookahead_frames


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_bundle(tmp_path_factory.mktemp("stream") / "a.emotag", Shape(size=32)), threads=1)


@pytest.fixture
def avatar(model: Model) -> Avatar:
    return Avatar(model)


def noise(samples: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def same(a: Frame, b: Frame) -> bool:
    motion = all(np.array_equal(getattr(a.motion, name), getattr(b.motion, name)) for name in vars(a.motion))
    return a.index == b.index and np.array_equal(a.rgb, b.rgb) and np.array_equal(a.audio, b.audio) and motion


def stepped(avatar: Avatar, samples: Array) -> list[Frame]:
    return [avatar.step(block) for block in samples.reshape(-1, 640)]


def pushed(avatar: Avatar, samples: Array, sizes: list[int], rate: int = 16000) -> Iterator[Frame]:
    start = 0
    while start < len(samples):
        for size in sizes:
            if start < len(samples):
                yield from avatar.push(samples[start : start + size], rate)
            start += size


@settings(max_examples=12, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_any_chunking_gives_identical_frames(model: Model, sizes: list[int]) -> None:
    samples = noise(640 * 20)
    expected = stepped(Avatar(model), samples)
    found = list(pushed(Avatar(model), samples, sizes))
    assert len(found) == len(expected) and all(map(same, found, expected))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_chunking_does_not_matter_while_resampling(model: Model, rate: int) -> None:
    samples = noise(rate)
    whole = Avatar(model)
    expected = [*whole.push(samples, rate), *whole.flush()]
    for sizes in ([rate // 50], [1, 777, 31, 5000]):
        parts = Avatar(model)
        found = [*pushed(parts, samples, sizes, rate), *parts.flush()]
        assert len(found) == len(expected) == 25 + DELAY and all(map(same, found, expected))


def test_resampling_is_continuous_and_keeps_time() -> None:
    rate, seconds = 44100, 2
    time = np.arange(rate * seconds) / rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    queue, out, found = AudioQueue(), np.zeros(640, np.float32), []
    for block in np.array_split(tone, 137):
        queue.put(block, rate)
    queue.finish()
    while queue.take(out):
        found.append(out.copy())
    result = np.concatenate(found)
    assert len(result) == 16000 * seconds
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(result)) / 16000)
    np.testing.assert_allclose(result[800:-800], expected[800:-800], atol=2e-3)


def test_int16_and_float_of_the_same_sound_are_the_same(model: Model) -> None:
    integers = (noise(640 * 8) * 32767).astype(np.int16)
    floats = integers.astype(np.float32) / np.float32(32768)
    assert all(map(same, stepped(Avatar(model), integers), stepped(Avatar(model), floats)))


def test_frames_stay_the_callers(model: Model) -> None:
    avatar, samples = Avatar(model), noise(640 * 10)
    expected = stepped(Avatar(model), samples)
    buffer = samples[:640].copy()
    kept = [avatar.step(buffer)]
    for block in samples.reshape(-1, 640)[1:]:
        buffer[:] = block  # a caller's buffer may be used again at once
        kept.append(avatar.step(buffer))
    assert all(map(same, kept, expected))


def test_out_is_drawn_into_and_checked(avatar: Avatar) -> None:
    out = np.zeros((32, 32, 3), np.uint8)
    frame = avatar.step(noise(640), out=out)
    assert np.shares_memory(frame.rgb, out) and out.any()
    for wrong in (np.zeros((32, 32, 4), np.uint8), np.zeros((32, 32, 3), np.float32), out[:, ::-1], "out"):
        with pytest.raises(ControlError, match="out"):
            avatar.step(noise(640), out=wrong)  # type: ignore[arg-type]
    assert avatar.step(noise(640)).index == 1 - DELAY


def test_flush_gives_the_last_frames_and_the_stream_goes_on(avatar: Avatar) -> None:
    first = [*avatar.push(noise(640 * 10 + 100)), *avatar.flush()]
    assert [frame.index for frame in first] == list(range(-DELAY, 11))
    padded = np.concatenate([noise(640 * 10 + 100), np.zeros(540, np.float32)])
    assert np.array_equal(np.concatenate([frame.audio for frame in first if frame.index >= 0]), padded)
    second = [*avatar.push(noise(640 * 5, seed=1)), *avatar.flush()]
    assert [frame.index for frame in second] == list(range(11, 11 + DELAY + 5))
    assert not any(frame.audio.any() for frame in second[:DELAY])
    assert np.array_equal(second[-1].audio, noise(640 * 5, seed=1)[-640:])


def test_short_audio_flushes_without_frames_of_negative_index(avatar: Avatar) -> None:
    assert list(avatar.push(noise(10))) == []
    assert [frame.index for frame in avatar.flush()] == [0]


def test_pushed_audio_that_is_not_asked_for_waits(model: Model) -> None:
    samples, avatar = noise(640 * 12), Avatar(model)
    avatar.push(samples[: 640 * 4])
    waiting = avatar.push(samples[640 * 4 : 640 * 8 + 50])
    found = [next(waiting), *(avatar.push(samples[640 * 8 + 50 :]))]
    assert all(map(same, found, stepped(Avatar(model), samples)))
    late = Avatar(model)
    late.push(samples[:100])
    assert same(late.step(samples[100:740]), Avatar(model).step(samples[:640]))


def test_interrupt_closes_the_mouth_drops_audio_and_starts_afresh(model: Model) -> None:
    avatar, samples = Avatar(model), noise(640 * 20)
    spoken = []
    for frame in avatar.push(samples):
        spoken.append(frame)
        if frame.index == 8:
            avatar.interrupt()
    assert spoken[-1].index == 8 and spoken[-1].jaw.any()
    silent = stepped(avatar, np.zeros(640 * DELAY, np.float32))
    assert [frame.index for frame in silent] == list(range(9, 9 + DELAY))
    assert not any(frame.audio.any() for frame in silent)
    np.testing.assert_allclose(silent[0].jaw, spoken[-1].jaw * 20 / 27, rtol=1e-5)  # a smooth step, not a line
    after = stepped(avatar, samples[: 640 * 10])
    assert np.array_equal(after[-1].audio, samples[640 * (9 - DELAY) : 640 * (10 - DELAY)])


def test_interrupted_mouth_is_exactly_closed_after_three_frames(tmp_path: Path) -> None:
    shape = Shape(lookahead=8, size=32)
    avatar = Avatar(write_bundle(tmp_path / "a.emotag", shape))
    spoken = stepped(avatar, noise(640 * 12))[-1]
    avatar.interrupt()
    samples, delay = noise(640 * 20, seed=5), shape.lookahead_frames
    closing = stepped(avatar, samples[: 640 * delay])
    opening = [float(np.abs(frame.jaw).max()) for frame in (spoken, *closing)]
    assert opening[0] > opening[1] > opening[2] > 0
    assert opening[3:] == [0.0] * (delay - 2)
    # What follows is a new utterance: the same sound moves the mouth the same, whatever was said before.
    again, expected = stepped(avatar, samples[640 * delay :]), stepped(Avatar(avatar.model), samples)[delay:]
    assert all(np.array_equal(a.jaw, b.jaw) for a, b in zip(again, expected, strict=True))


def test_reset_is_as_just_made(avatar: Avatar, model: Model) -> None:
    samples = noise(640 * 9)
    expected = stepped(Avatar(model), samples)
    stepped(avatar, noise(640 * 7, seed=3))
    avatar.push(noise(500))
    avatar.reset()
    assert all(map(same, stepped(avatar, samples), expected))


def test_avatars_of_one_model_are_independent(model: Model) -> None:
    sounds = [noise(640 * 15, seed) for seed in range(3)]
    expected = [stepped(Avatar(model), sound) for sound in sounds]
    avatars = [Avatar(model) for _ in sounds]
    interleaved: list[list[Frame]] = [[] for _ in sounds]
    for i in range(15):
        for avatar, sound, frames in zip(avatars, sounds, interleaved, strict=True):
            frames.append(avatar.step(sound[640 * i : 640 * (i + 1)]))
    assert all(same(a, b) for x, y in zip(interleaved, expected, strict=True) for a, b in zip(x, y, strict=True))


def test_avatars_of_one_model_run_on_several_threads(model: Model) -> None:
    sounds = [noise(640 * 30, seed) for seed in range(4)]
    expected = [stepped(Avatar(model), sound) for sound in sounds]
    found: dict[int, list[Frame]] = {}

    def speak(number: int) -> None:
        found[number] = stepped(Avatar(model), sounds[number])

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(a, b) for i in range(4) for a, b in zip(found[i], expected[i], strict=True))


def test_render_gives_whole_files_frames_and_leaves_the_avatar_reset(avatar: Avatar, model: Model) -> None:
    samples = noise(640 * 9 + 1)
    stepped(avatar, noise(640 * 3))
    frames = list(avatar.render(samples, progress=False))
    assert [frame.index for frame in frames] == list(range(10))
    fresh = Avatar(model)
    expected = [frame for frame in [*fresh.push(samples), *fresh.flush()] if frame.index >= 0]
    assert all(map(same, frames, expected))
    assert avatar.step(noise(640)).index == -DELAY


def test_a_render_that_is_given_up_leaves_the_avatar_reset(avatar: Avatar) -> None:
    frames = avatar.render(noise(640 * 50), progress=False)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert avatar.step(noise(640)).index == -DELAY


BAD_SAMPLES = {
    "639 samples": (np.zeros(639, np.float32), "exactly 640 samples.*not 639"),
    "no samples": (np.zeros(0, np.float32), "exactly 640"),
    "float64": (np.zeros(640), "float64.*astype"),
    "uint8": (np.zeros(640, np.uint8), "uint8"),
    "stereo": (np.zeros((640, 2), np.float32), "mono.*mean"),
    "a list": ([0.0] * 640, "list.*asarray"),
    "bytes": (bytes(1280), "bytes.*frombuffer"),
    "NaN": (np.full(640, np.nan, np.float32), "NaN"),
    "infinity": (np.full(640, -np.inf, np.float32), "infinity"),
    "int16 scale": (np.full(640, 12000.0, np.float32), "32768"),
    "big endian": (np.zeros(640, ">f4"), "float32"),
}


@pytest.mark.parametrize(("samples", "message"), BAD_SAMPLES.values(), ids=BAD_SAMPLES.keys())
def test_bad_samples_are_refused_and_the_avatar_goes_on(model: Model, samples: object, message: str) -> None:
    avatar, good = Avatar(model), noise(640 * 6)
    found = stepped(avatar, good[: 640 * 3])
    with pytest.raises(AudioError, match=message):
        avatar.step(samples)  # type: ignore[arg-type]
    found += stepped(avatar, good[640 * 3 :])
    assert all(map(same, found, stepped(Avatar(model), good)))


@pytest.mark.parametrize("rate", [0, -16000, 16000.0, True, None, 10**9, "16k"])
def test_bad_rates_are_refused(avatar: Avatar, rate: object) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        avatar.push(noise(640), rate)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="empty"):
        avatar.push(noise(0))
    assert avatar.step(noise(640)).index == -DELAY


def test_background_and_camera_can_be_set_at_any_time(avatar: Avatar) -> None:
    step = noise(640)
    assert avatar.step(step).rgb[0, 0].tolist() == [255, 255, 255]
    avatar.background = (0, 0.5, 1)
    assert avatar.step(step).rgb[0, 0].tolist() == [0, 127, 255]
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    avatar.background = picture
    assert np.array_equal(avatar.step(step).rgb[0, 0], picture[0, 0])
    avatar.background = None
    frame = avatar.step(step)
    assert frame.rgb.shape == (32, 32, 3) and frame.alpha is not None and frame.alpha.min() == 0 < frame.alpha.max()
    recorded = avatar.camera_at(0)
    view = recorded.view.copy()
    view[0, 3] += 0.05
    avatar.camera = Camera(view, *recorded.intrinsics, 32, 32)
    assert not np.array_equal(avatar.step(step).alpha, frame.alpha)
    avatar.camera = None
    assert avatar.step(step).index == 5 - DELAY


def test_bad_controls_are_refused_by_name(avatar: Avatar, model: Model) -> None:
    for background in ("white", (1, 2, 3), (0.5, 0.5), np.zeros((8, 8, 3), np.uint8), np.zeros((32, 32, 3))):
        with pytest.raises(ControlError, match="background"):
            avatar.background = background
    with pytest.raises(ControlError, match="camera"):
        avatar.camera = np.eye(4)  # type: ignore[assignment]
    with pytest.raises(ControlError, match="64x64"):
        avatar.camera = Camera(avatar.camera_at(0).view, 64, 64, 32, 32, 64, 64)
    for size in (0, -1, 10**6, 2.5, True):
        with pytest.raises(ControlError, match="width"):
            Avatar(model, width=size)  # type: ignore[arg-type]
    for threads in (-1, 10**6, 1.5):
        with pytest.raises(ControlError, match="threads"):
            Model.load(model.bundle.path, threads=threads)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="tpu.*cpu"):
        Model.load(model.bundle.path, device="tpu")


def test_another_size_keeps_the_proportions(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Avatar(model, width=64, height=32)
    camera, recorded = wide.camera_at(0), Avatar(model).camera_at(0)
    assert (camera.fx, camera.fy) == (recorded.fx, recorded.fy)
    assert (camera.cx, camera.cy) == (recorded.cx + 16, recorded.cy)
    double = Avatar(model, width=64, height=64).camera_at(0)
    assert (double.fx, double.cx) == (2 * recorded.fx, 2 * recorded.cx)
    usual = Avatar(model)
    moved = np.abs(wide.step(noise(640)).rgb[:, 16:48].astype(int) - usual.step(noise(640)).rgb)
    assert moved.max() <= 1 and (moved > 0).mean() < 0.001  # words round by where a span begins
    for avatar in (wide, usual):  # floats do not
        monkeypatch.setattr(avatar._painter, "_renderer", Renderer(model.scene, 1, "plain"))
    assert np.array_equal(wide.step(noise(640)).rgb[:, 16:48], usual.step(noise(640)).rgb)


def test_stats_count_frames_by_stage(avatar: Avatar) -> None:
    assert avatar.stats().frames == 0 and avatar.stats().fps == 0
    stepped(avatar, noise(640 * 20))
    stats = avatar.stats()
    assert stats.frames == 20 and set(stats.stages) == {"audio", "motion", "draw", "step"}
    for stage in stats.stages.values():
        assert 0 < stage.p50 <= stage.p95 <= stage.p99
    parts = sum(stats.stages[name].mean for name in ("audio", "motion", "draw"))
    assert parts <= stats.stages["step"].mean and "p99" in stats.table()


def test_memory_does_not_grow_with_the_length_of_the_audio(avatar: Avatar) -> None:
    minute = (noise(16000 * 60) * 32767).astype(np.int16)

    def speak() -> int:
        count = sum(1 for _ in avatar.push(minute))
        return count and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    speak()
    before = speak()
    for _ in range(4):
        after = speak()
    assert avatar.stats().frames == 6 * 1500
    assert after - before < 8 << 10, f"{after - before} KiB more after four minutes"


def test_importing_the_runtime_never_imports_torch() -> None:
    code = (
        "import sys, emotag.runtime, emotag.runtime.commands.render, emotag.runtime.commands.inspect;"
        "sys.exit(any(name.split('.')[0] in ('torch', 'onnx', 'scipy', 'transformers') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
