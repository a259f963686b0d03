"""Sound files in, video files out: formats, damage, exact sync, nothing half-written."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from synthetic_bundle import Array, Shape, write_bundle

from emotag.runtime import AudioError, Avatar, Frame, Model, OutputError, write_video
from emotag.runtime.audio_file import AudioFile
from emotag.runtime.sound import Sound, with_sound


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_bundle(tmp_path_factory.mktemp("files") / "a.emotag"), threads=1)


def speechlike(samples: int, seed: int = 0) -> Array:
    """Noise with a syllable's envelope, below 2 kHz, so that AAC keeps it."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[int(len(spectrum) * 0.25) :] = 0
    envelope = 0.5 + 0.5 * np.sin(np.arange(samples) / 1600)
    sound = np.fft.irfft(spectrum, samples) * envelope
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def write_wav(path: Path, samples: Array, rate: int = 16000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def encode(path: Path, codec: str, samples: Array, rate: int) -> Path:
    """A compressed mono file; codecs differ in the sample format that they take."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        convert = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        for part in [*convert.resample(frame), None]:
            file.mux(stream.encode(part))
    return path


def read(path: Path) -> tuple[list[Array], list[float], Array, float]:
    """Pictures, their times, the sound at 16 kHz, and when it starts, as a player sees them."""
    with av.open(str(path)) as file:
        pictures = list(file.decode(video=0))
    with av.open(str(path)) as file:
        sound = list(file.decode(audio=0))
    samples = np.concatenate([part.to_ndarray()[0] for part in sound])
    return [p.to_ndarray(format="rgb24") for p in pictures], [p.time for p in pictures], samples, sound[0].time


def offset(reference: Array, found: Array) -> int:
    """Samples by which `found` lags `reference`, by cross-correlation."""
    size = 2 * max(len(reference), len(found))
    product = np.fft.rfft(found, size) * np.conj(np.fft.rfft(reference, size))
    lag = int(np.fft.irfft(product, size).argmax())
    return lag if lag < size // 2 else lag - size


@pytest.mark.parametrize(("codec", "name"), [("flac", "a.flac"), ("libmp3lame", "a.mp3"), ("pcm_f32le", "a.wav")])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_files_of_any_format_and_rate_are_heard_in_time(tmp_path: Path, codec: str, name: str, rate: int) -> None:
    sound = speechlike(rate * 2)
    file = AudioFile(encode(tmp_path / name, codec, sound, rate))
    found = np.concatenate(list(file.blocks()))
    assert file.rate == rate and file.seconds == pytest.approx(2, abs=0.1)
    assert abs(len(found) - len(sound)) <= (1200 if codec == "libmp3lame" else 0)
    assert offset(sound, found) == 0
    np.testing.assert_allclose(found[: len(sound)], sound, atol=0.1 if codec == "libmp3lame" else 1e-4)


def test_a_file_gives_the_same_frames_as_its_samples(tmp_path: Path, model: Model) -> None:
    sound = (speechlike(16000) * 32767).astype(np.int16)
    path = write_wav(tmp_path / "a.wav", sound / 32767)
    avatar = Avatar(model)
    from_array = list(avatar.render(sound, progress=False))
    from_file = list(avatar.render(path, progress=False))
    assert len(from_file) == len(from_array) == 25
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(from_file, from_array, strict=True))


def test_video_has_every_frame_and_its_sound_at_its_time(tmp_path: Path, model: Model) -> None:
    sound = speechlike(16000 * 3 + 100)
    frames = list(Avatar(model).render(sound, progress=False))
    assert write_video(tmp_path / "out.mp4", iter(frames)) == len(frames) == 76
    pictures, times, heard, start = read(tmp_path / "out.mp4")
    assert len(pictures) == 76 and start == 0
    np.testing.assert_allclose(times, np.arange(76) / 25, atol=1e-6)
    assert offset(sound, heard) == 0 and 640 * 76 <= len(heard) < 640 * 76 + 1024
    assert np.corrcoef(heard[: len(sound)], sound)[0, 1] > 0.98
    for picture, frame in zip(pictures, frames, strict=True):
        assert np.abs(picture.astype(int) - frame.rgb).mean() < 6
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_recorded_clip_can_carry_another_sound(tmp_path: Path, model: Model) -> None:
    sound = speechlike(44100)
    path = write_wav(tmp_path / "a.wav", sound, rate=44100)
    still: dict[str, Any] = dict.fromkeys(("motion", "emotion", "pose", "translation"))
    silent = (
        Frame(i, np.zeros((4, 4, 3), np.uint8), None, np.zeros(640, np.float32), **still, speaking=False)
        for i in range(30)
    )
    heard = np.concatenate([frame.audio for frame in with_sound(silent, path, downmix=False)])
    assert len(heard) == 30 * 640 and np.abs(heard[:15000]).max() > 0.1 and not heard[16000:].any()


def test_a_failing_render_leaves_the_old_video(tmp_path: Path, model: Model) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"the old one")

    def breaks() -> Iterator[Frame]:
        yield from Avatar(model).render(speechlike(6400), progress=False)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(output, breaks())
    with pytest.raises(OutputError, match="no frame"):
        write_video(output, iter(()))
    assert output.read_bytes() == b"the old one" and os.listdir(tmp_path) == ["out.mp4"]


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path, model: Model) -> None:
    frames = list(Avatar(model).render(speechlike(640), progress=False))
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        "out.avi": r"does not end in \.mp4",
        "missing/out.mp4": "does not exist",
        "folder.mp4": "is a folder",
    }
    for name, message in cases.items():
        with pytest.raises(OutputError, match=message):
            write_video(tmp_path / name, frames)
    odd = Avatar(model, width=33, height=32).render(speechlike(640), progress=False)
    with pytest.raises(OutputError, match="33x32.*even"):
        write_video(tmp_path / "odd.mp4", odd)
    assert os.listdir(tmp_path) == ["folder.mp4"]
    with pytest.raises(OutputError, match="/proc"):
        write_video("/proc/out.mp4", frames)


def test_stereo_files_are_refused_with_the_cure_which_works(tmp_path: Path, model: Model) -> None:
    sound = speechlike(6400)
    path = write_wav(tmp_path / "a.wav", np.stack([sound, -0.5 * sound], 1), channels=2)
    avatar = Avatar(model)
    with pytest.raises(AudioError, match="2 channels.*downmix"):
        avatar.render(path)
    mixed = np.concatenate([f.audio for f in avatar.render(path, downmix=True, progress=False)])
    np.testing.assert_allclose(mixed[:6400], sound * 0.25, atol=1e-4)


def test_files_that_are_no_sound_are_refused(tmp_path: Path, model: Model) -> None:
    (tmp_path / "text.wav").write_text("this is not a wav file at all, whatever it is called")
    (tmp_path / "empty.wav").write_bytes(b"")
    write_wav(tmp_path / "none.wav", np.zeros(0, np.float32))
    write_video(tmp_path / "mute.mp4", Avatar(model).render(speechlike(640), progress=False))
    encode(tmp_path / "nan.wav", "pcm_f32le", np.full(1600, np.nan, np.float32), 16000)
    avatar = Avatar(model)
    for name, message in {
        "missing.wav": "is not a file",
        "text.wav": "not a sound file",
        "empty.wav": "not a sound file",
        "none.wav": "holds no samples",
        "nan.wav": "nan.wav: samples hold NaN",
    }.items():
        with pytest.raises(AudioError, match=message):
            list(avatar.render(tmp_path / name, progress=False))
        assert avatar.step(np.zeros(640, np.float32)).index == -Shape().lookahead_frames
        avatar.reset()


def test_hours_are_read_a_block_at_a_time(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "long.flac"), "w") as file:
        stream = file.add_stream("flac", rate=8000, layout="mono")
        minute = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), format="s16", layout="mono")
        minute.sample_rate = 8000
        for part in [minute] * 180 + [None]:
            if part is not None:
                part.pts = None
            file.mux(stream.encode(part))
    sound = Sound.open(tmp_path / "long.flac", 16000, downmix=False)
    sizes = [len(block) for block in sound.blocks]
    assert sum(sizes) == 3 * 3600 * 8000 and max(sizes) <= 1 << 16
    assert sound.frames == 3 * 3600 * 25
