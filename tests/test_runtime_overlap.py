"""Audio on a thread of its own: the same frames, errors that arrive, threads that end, little memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from synthetic_bundle import Array, Shape, write_bundle
from test_runtime_stream import noise, same, stepped

from emotag.runtime import AudioError, Avatar, ControlError, Model
from emotag.runtime import ahead as ahead_module
from emotag.runtime.ahead import Ahead, OneAhead
from emotag.runtime.speech import Heard

DELAY = Shape().lookahead_frames
THREADED = pytest.mark.parametrize("threaded", [True, False], ids=["thread", "one core"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_bundle(tmp_path_factory.mktemp("overlap") / "a.emotag", Shape(size=32)), threads=1)


@pytest.fixture(params=[True, False], ids=["thread", "one core"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "overlaps", lambda: request.param)


def audio_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("emotag-audio")]


def wait_for_threads_to_end() -> None:
    """A thread whose owner is gone ends by itself, soon."""
    gc.collect()
    for _ in range(1000):
        if not audio_threads():
            return
        time.sleep(0.01)
    raise AssertionError(audio_threads())


@THREADED
def test_items_arrive_in_order_and_never_further_ahead_than_the_depth(threaded: bool) -> None:
    made, taken = 0, 0

    def count() -> Generator[int, None, None]:
        nonlocal made
        for number in range(50):
            assert made - taken <= 3 + 1  # those that wait, and the one that the consumer has just been given
            made += 1
            yield number

    items = Ahead(count(), depth=3, threaded=threaded)
    for number in items:
        assert number == taken
        taken += 1
    items.close()
    assert taken == 50 and not audio_threads()


@THREADED
def test_an_error_comes_after_the_items_before_it(threaded: bool) -> None:
    def fails() -> Generator[int, None, None]:
        yield 1
        raise AudioError("the file is broken")

    items = Ahead(fails(), threaded=threaded)
    assert next(items) == 1
    with pytest.raises(AudioError, match="broken"):
        next(items)
    items.close()
    assert not audio_threads()


@THREADED
def test_closing_early_closes_the_generator_and_ends_the_thread(threaded: bool) -> None:
    closed = []

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    items = Ahead(endless(), threaded=threaded)
    next(items)
    items.close()
    items.close()
    assert len(closed) == 1 and not audio_threads()
    with pytest.raises(StopIteration):
        next(items)


def test_who_is_slower_is_known() -> None:
    asked = threading.Event()

    def late() -> Generator[int, None, None]:
        for number in range(4):
            assert asked.wait(10)
            asked.clear()
            yield number

    items = Ahead(late(), threaded=True)
    for _ in range(3):
        asked.set()
        next(items)
        assert items.behind  # nothing more is made before it is asked for
    asked.set()
    items.close()
    items = Ahead((number for number in range(3)), threaded=True)
    for _ in range(1000):
        if items._made.qsize() == 4:  # all three, and the end
            break
        time.sleep(0.01)
    next(items)
    assert not items.behind
    items.close()
    wait_for_threads_to_end()


def test_one_thread_draws_while_the_encoder_is_slower(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "overlaps", lambda: True)
    avatar, said = Avatar(model), []
    monkeypatch.setattr(avatar._painter, "draw_alone", said.append)
    encode = avatar._speech.encode

    def slowly(samples: Array) -> Heard:
        time.sleep(0.05)
        return encode(samples)

    monkeypatch.setattr(avatar._speech, "encode", slowly)
    frames = list(avatar.render(noise(16000), progress=False))
    assert sum(said) > len(frames) / 2 and said[-1] is False
    for leave in (avatar.interrupt, avatar.reset):
        rendering = avatar.render(noise(16000), progress=False)
        next(rendering)
        leave()
        assert said[-1] is False  # though the frames are still held


@THREADED
def test_one_ahead_hands_out_what_came_before(threaded: bool) -> None:
    def double(samples: Array) -> float:
        if samples[0] == 3:
            raise AudioError("three")
        return float(2 * samples[0])

    pipeline, buffer = OneAhead(double, threaded=threaded), np.zeros(1, np.float32)
    found: list[object] = []
    for number in (1, 2, 4):
        buffer[0] = number  # used again at once, as the avatar does
        found.append(pipeline.exchange(buffer))
    assert found == [None, 2.0, 4.0]
    pipeline.clear()
    assert pipeline.exchange(buffer) is None
    del pipeline
    wait_for_threads_to_end()


@pytest.mark.usefixtures("cores")
def test_render_gives_the_bytes_of_push(model: Model) -> None:
    samples = noise(44100 * 2 + 17)
    plain = Avatar(model)
    expected = [f for f in [*plain.push(samples, 44100), *plain.flush()] if f.index >= 0]
    avatar = Avatar(model)
    for _ in range(2):
        found = list(avatar.render(samples, sample_rate=44100, progress=False))
        assert len(found) == len(expected) == 51 and all(map(same, found, expected))
        assert not audio_threads()


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_pipelined_step_is_one_frame_later_and_the_same(tmp_path: Path, chunk: int) -> None:
    shape = Shape(size=32, chunk=chunk, lookahead=4)
    model = Model.load(write_bundle(tmp_path / "a.emotag", shape), threads=1)
    delay, samples = shape.lookahead_frames, noise(640 * 30)
    plain, late = Avatar(model), Avatar(model, pipelined=True)
    assert late.latency_ms == plain.latency_ms + 40 == 40 * (delay + 1)
    expected = [*plain.push(samples), *plain.flush()]
    found = [*stepped(late, samples), *late.flush()]
    assert [frame.index for frame in found] == list(range(-delay - 1, 30))
    assert not any(frame.jaw.any() or frame.audio.any() for frame in found[: delay + 1])
    assert all(map(same, found[1:], expected))
    again = [*late.push(samples[: 640 * 5]), *late.flush()]
    silence = np.zeros(640 * (delay + 1), np.float32)  # that of a flush is heard, and the stream goes on
    whole = stepped(Avatar(model), np.concatenate([samples, silence, samples[: 640 * 5], silence]))
    assert len(again) == 5 + delay + 1 and all(map(same, [*found, *again][1:], whole))
    late.reset()
    assert all(map(same, stepped(late, samples)[1:], stepped(Avatar(model), samples)))
    assert all(map(same, late.render(samples, progress=False), expected[delay:]))
    assert late.step(samples[:640]).index == -delay - 1


@pytest.mark.usefixtures("cores")
def test_interrupting_a_pipelined_avatar_drops_what_is_under_way(model: Model) -> None:
    avatar, samples = Avatar(model, pipelined=True), noise(640 * 20)
    spoken = stepped(avatar, samples)[-1]
    avatar.interrupt()
    silent = stepped(avatar, samples[: 640 * (DELAY + 1)])
    assert [frame.index for frame in silent] == [spoken.index + 1 + i for i in range(DELAY + 1)]
    assert not any(frame.audio.any() for frame in silent)
    np.testing.assert_allclose(silent[0].jaw, spoken.jaw * 20 / 27, rtol=1e-5)
    after = stepped(avatar, samples[640 * (DELAY + 1) :])
    fresh = stepped(Avatar(model), samples)[DELAY:]
    assert all(np.array_equal(a.jaw, b.jaw) for a, b in zip(after, fresh, strict=False))


def test_threads_end_with_their_avatar(model: Model) -> None:
    avatar = Avatar(model, pipelined=True)
    stepped(avatar, noise(640 * 3))
    frames = avatar.render(noise(640 * 50), progress=False)
    next(frames)
    del frames, avatar
    wait_for_threads_to_end()


def test_a_render_given_up_or_failing_leaves_no_thread(model: Model) -> None:
    avatar = Avatar(model)
    frames = avatar.render(noise(640 * 500), progress=True)
    next(frames)
    assert audio_threads() or not ahead_module.overlaps()
    frames.close()  # type: ignore[attr-defined]
    del frames
    assert not audio_threads()
    bad = noise(640 * 40)
    bad[16000 + 5] = np.nan
    seen = 0
    with pytest.raises(AudioError, match="NaN"):
        for _ in broken_in_the_second_second(avatar, bad):
            seen += 1
    assert seen == 25 - DELAY and not audio_threads()
    assert avatar.step(noise(640)).index == -DELAY


def broken_in_the_second_second(avatar: Avatar, samples: Array) -> Iterator[object]:
    """A source that is found to be bad only while it is being read, as a damaged file is."""
    from emotag.runtime.sound import Sound

    blocks = (samples[start : start + 16000] for start in range(0, len(samples), 16000))
    return avatar._render(avatar._speech.listen(Sound(blocks, 16000, None)), 0)


def test_what_cannot_go_on_beside_a_render_is_refused_and_the_render_goes_on(model: Model) -> None:
    avatar, samples = Avatar(model), noise(640 * 12)
    expected = list(Avatar(model).render(samples, progress=False))
    frames = avatar.render(samples, progress=False)
    found = [next(frames)]
    for refused in (lambda: avatar.step(samples[:640]), lambda: avatar.push(samples), avatar.flush):
        with pytest.raises(ControlError, match="render.*not finished"):
            refused()
    assert all(map(same, [*found, *frames], expected))


def test_interrupt_ends_a_render_and_live_audio_follows(model: Model) -> None:
    avatar, samples = Avatar(model), noise(640 * 40)
    frames, spoken = avatar.render(samples, progress=False), []
    for frame in frames:
        spoken.append(frame)
        if frame.index == 8:
            avatar.interrupt()
    assert spoken[-1].index == 8 and not audio_threads()
    follows = avatar.step(samples[:640])
    assert follows.index == 9
    np.testing.assert_allclose(follows.jaw, spoken[-1].jaw * 20 / 27, rtol=1e-5)
    first = avatar.render(samples, progress=False)
    next(first)
    second = list(avatar.render(samples, progress=False))  # another begins: the first one ends
    assert list(first) == [] and len(second) == 40


ONE_CORE = """
import sys, threading
import numpy as np
from emotag.runtime import Avatar
samples = np.random.default_rng(0).standard_normal(640 * 30).astype(np.float32) * np.float32(0.1)
avatar = Avatar(sys.argv[1], pipelined=True)
import hashlib
digest, alone = hashlib.sha256(), True
for frame in avatar.render(samples, progress=False):
    digest.update(frame.rgb.tobytes())
    alone &= not any(t.name.startswith("emotag-audio") for t in threading.enumerate())
avatar.step(samples[:640])
alone &= not any(t.name.startswith("emotag-audio") for t in threading.enumerate())
print(digest.hexdigest(), alone)
"""


def test_one_core_makes_the_same_pictures_without_a_thread(model: Model) -> None:
    cores = sorted(os.sched_getaffinity(0))
    results = []
    for chosen in ({cores[0]}, set(cores)):
        process = subprocess.run(
            [sys.executable, "-c", ONE_CORE, str(model.bundle.path)], capture_output=True, text=True, check=True,
            preexec_fn=lambda chosen=chosen: os.sched_setaffinity(0, chosen),
        )  # fmt: skip
        results.append(process.stdout.split())
    assert results[0][0] == results[1][0]
    assert results[0][1] == "True" and results[1][1] == str(len(cores) == 1)


def test_an_hour_of_sound_is_never_held(model: Model) -> None:
    """The encoder waits for the drawing: what is encoded and not drawn stays a handful of frames."""
    produced = 0

    def blocks() -> Iterator[Array]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield noise(640)

    from emotag.runtime.sound import Sound

    avatar = Avatar(model)
    frames = avatar._render(avatar._speech.listen(Sound(blocks(), 16000, None)), 0)
    for count, _ in zip(range(20), frames, strict=False):
        assert produced <= count + DELAY + 7  # four wait; one is drawn, one encoded, one held back to know the last
    frames.close()  # type: ignore[attr-defined]
