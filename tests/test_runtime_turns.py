"""Turn-taking: the end of speech, cutting in, both from any thread; the sample clock after hours."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from synthetic_bundle import Shape, write_bundle
from test_runtime_stream import noise, stepped

from emotag.runtime import Avatar, Frame, Model
from emotag.runtime.audio import AudioQueue
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.speech import Speech


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    shape = Shape(size=16, gaussians=20, lookahead=4)
    return Model.load(write_bundle(tmp_path_factory.mktemp("turns") / "a.emotag", shape), threads=1)


def ends(frames: list[Frame]) -> list[int]:
    return [frame.index for frame in frames if frame.end_of_speech]


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_an_utterance_ends_with_exactly_one_frame(model: Model, count: int, pipelined: bool) -> None:
    avatar = Avatar(model, pipelined=pipelined)
    first = [*avatar.push(noise(640 * count - 100)), *avatar.flush(), *avatar.flush()]
    assert ends(first) == [count - 1] and first[-1].end_of_speech
    second = [*avatar.push(noise(640 * count)), *avatar.flush()]
    assert len(ends(second)) == 1 and second[-1].end_of_speech
    assert np.array_equal(second[-1].audio, noise(640 * count)[-640:])
    avatar.interrupt()
    assert list(avatar.flush()) == []


def test_a_flush_that_nobody_iterates_ends_in_step(model: Model) -> None:
    avatar = Avatar(model)
    found = stepped(avatar, noise(640 * 6))
    avatar.flush()
    found += stepped(avatar, np.zeros(640 * 8, np.float32))
    assert ends(found) == [5]


def test_a_bundle_without_delay_ends_with_a_frame_of_silence(tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = Shape(size=16, gaussians=20, lookahead=0, smooth_future=0)
    avatar = Avatar(write_bundle(tmp_path_factory.mktemp("swift") / "a.emotag", shape), threads=1)
    assert avatar.latency_ms == 0
    spoken = stepped(avatar, noise(640 * 4))
    last = list(avatar.flush())
    assert not ends(spoken) and ends(last) == [4] and not last[0].audio.any() and list(avatar.flush()) == []
    assert ends([*avatar.push(noise(640 * 2)), *avatar.flush()]) == [7]


def test_a_render_ends_with_its_last_frame(model: Model) -> None:
    assert ends(list(Avatar(model).render(noise(640 * 9 + 1), progress=False))) == [9]


def test_cutting_in_shuts_the_mouth_but_not_the_face(model: Model) -> None:
    avatar = Avatar(model)
    avatar.emotion = "happy"
    spoken = stepped(avatar, noise(640 * 20))
    avatar.interrupt()
    after = stepped(avatar, np.zeros(640 * 12, np.float32))
    assert spoken[-1].jaw.any() and not any(frame.jaw.any() for frame in after[2:])
    assert [frame.index for frame in after] == list(range(spoken[-1].index + 1, spoken[-1].index + 13))
    assert not any(frame.audio.any() for frame in after) and not any(frame.speaking for frame in after)
    assert all(frame.emotion.name == "happy" for frame in after) and after[2].expression.any()
    poses = np.array([frame.pose[0] for frame in [*spoken, *after]])
    speed = np.abs(np.diff(poses, axis=0)).max(axis=1)
    assert speed[18:].max() <= 1.2 * speed[:18].max()  # the head goes on
    stepped(avatar, noise(640 * 9))
    assert not ends(stepped(avatar, noise(640)))


def test_cutting_in_from_another_thread_at_any_moment(model: Model) -> None:
    avatar, found, done = Avatar(model), [], threading.Event()

    def listen() -> None:
        while not done.is_set():
            found.extend(avatar.push(noise(1000)))
            found.extend(avatar.flush())
        found.extend(avatar.flush())

    thread = threading.Thread(target=listen)
    thread.start()
    for number in range(60):
        (avatar.interrupt if number % 2 else avatar.flush)()
        avatar.emotion = "sad" if number % 3 else None
    done.set()
    thread.join(60)
    assert not thread.is_alive()
    indices = [frame.index for frame in found if frame.index >= 0]
    assert indices == sorted(set(indices))


def test_cutting_in_from_another_thread_ends_a_render(model: Model) -> None:
    for _ in range(5):
        avatar, begun = Avatar(model), threading.Event()
        count = 0

        def speak(avatar: Avatar = avatar, begun: threading.Event = begun) -> None:
            nonlocal count
            for _ in avatar.render(noise(640 * 2000), progress=False):
                begun.set()
                count += 1

        thread = threading.Thread(target=speak)
        thread.start()
        begun.wait(30)
        avatar.interrupt()
        thread.join(30)
        assert not thread.is_alive() and 0 < count < 2000
        avatar.step(noise(640))


class Counting(StreamingEncoder):
    """Hears nothing."""

    def __init__(self) -> None:
        pass

    def feed(self, samples: object, take: object) -> None:
        pass

    def reset(self) -> None:
        pass


def test_ten_hours_stay_aligned_to_the_sample(model: Model) -> None:
    """Samples carry the number of their frame; what is due is what the clock says, to the last of 900,000."""
    speech = Speech(model.manifest, Counting(), model.motion_network())
    speech.weigh = lambda samples: None  # type: ignore[method-assign]
    frames, block, delay = 10 * 3600 * 25, 640 * 500, model.manifest.lookahead_frames
    queue, samples, count = AudioQueue(), np.zeros(640, np.float32), 0
    for start in range(0, frames * 640, block):
        queue.put(((start // 640 + np.arange(500)).repeat(640) % 4096 / 4096).astype(np.float32))
        while queue.take(samples):
            speech.hear(samples)
            count += 1
            if count % 997 == 0 or count > frames - 3:
                assert speech.due == count - 1 - delay
                assert speech.sound()[0] * 4096 == speech.sound()[-1] * 4096 == (count - 1 - delay) % 4096
    assert count == frames
    frame = Avatar(model).step(noise(640))
    assert frame.sample == frame.index * 640
