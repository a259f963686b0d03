"""The demo's training: it learns, and what is committed follows voices that it never heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from emotag import training
from emotag.runtime.errors import CheckpointError
from emotag.training import corpus
from emotag.training.checkpoint import load_checkpoint
from emotag.training.corpus import HELD_OUT
from emotag.training.corpus.listener import HOP
from emotag.training.demo import (
    ClipRequest,
    Clips,
    EncoderSchedule,
    Learned,
    Lesson,
    MotionSchedule,
    build_encoder,
    demo_identity,
    evaluate,
    fit_loudness,
    lessons,
    lip_geometry,
    load_clips,
    load_learned,
    make_clips,
    measure,
    silent_clips,
    train_encoder,
    train_motion,
)
from emotag.training.demo.__main__ import main
from emotag.training.demo.assemble import HEAD
from emotag.training.demo.clips import join
from emotag.training.demo.learn import HELD_OUT_CLIPS, lip_channels
from emotag.training.demo.measure import correlation, lips, runs
from emotag.training.demo.motion import hear, predict, restore_range
from emotag.training.demo.snapshot import Snapshot
from emotag.training.grmn import Motion
from emotag.training.head import HeadModel
from emotag.training.wav2vec2 import StreamingWav2Vec2

MODEL = HeadModel.load(HEAD)
NAMES = MODEL.expression_names
DEMO = Path(next(iter(training.__path__))) / "assets" / "demo.pt"
SMALL = ClipRequest(count=6, frames=60, seed=11)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clips() -> Clips:
    return join(make_clips(SMALL, NAMES), silent_clips(1, NAMES, frames=60))


def test_clips_agree_in_length_and_come_from_the_seed(clips: Clips) -> None:
    assert clips.samples.shape == (7, 60 * 640)
    assert clips.phonemes.shape == (7, 120) and clips.phonemes.max() < len(corpus.PHONEMES)
    assert clips.jaw.shape == (7, 60, 3) and clips.expression.shape == (7, 60, len(NAMES))
    again = make_clips(SMALL, NAMES, range(2, 4))
    np.testing.assert_array_equal(again.samples, clips.samples[2:4])
    np.testing.assert_array_equal(again.expression, clips.expression[2:4])
    assert np.abs(clips.samples[-1]).max() == 0 and clips.jaw[-1].max() < 1e-6


def test_clips_are_cached_and_a_prefix_is_shared(tmp_path: Path) -> None:
    request = replace(SMALL, count=2, frames=30)
    first = load_clips(request, NAMES, tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 1 and files[0].endswith(".npz")
    stamp = (tmp_path / files[0]).stat().st_mtime_ns
    second = load_clips(replace(request, count=1), NAMES, tmp_path)
    np.testing.assert_array_equal(second.samples, first.samples[:1])
    assert (tmp_path / files[0]).stat().st_mtime_ns == stamp


def test_conditions_name_contempt_apart(clips: Clips) -> None:
    contempt = Clips(**{**vars(clips), "contempt": np.ones(len(clips), bool), "emotion": clips.emotion * 0})
    contempt.emotion[0, :, 1] = contempt.emotion[0, :, 6] = 0.5
    asked = contempt.conditions(0)
    np.testing.assert_allclose(asked[:, 7], 1)
    np.testing.assert_allclose(asked[:, :7], 0, atol=1e-6)
    np.testing.assert_allclose(clips.conditions(0)[:, :7], clips.emotion[0])


def test_calm_units_leave_out_the_emotion(clips: Clips) -> None:
    calm = clips.calm_units(6)  # the silent, neutral clip
    np.testing.assert_allclose(calm, clips.aus[6])
    emotion = np.zeros_like(clips.emotion)
    emotion[..., 0] = 1
    angry = Clips(**{**vars(clips), "emotion": emotion, "contempt": np.zeros(len(clips), bool)})
    np.testing.assert_allclose(angry.calm_units(6)[:, 1], np.clip(clips.aus[6][:, 1] - 4.0, 0, 5))


def test_training_lowers_the_loss(clips: Clips) -> None:
    lips = lip_channels(clips, NAMES)
    np.testing.assert_allclose(lips.mean(axis=(0, 1)), 0, atol=1e-4)
    encoder, losses = train_encoder(Lesson(clips, lips), EncoderSchedule(steps=16, batch=2, frames=40, rate=2e-3))
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    tokens = hear(encoder, clips, seed=0)
    assert tokens.shape == (7, 120, encoder.hidden) and torch.isfinite(tokens.float()).all()
    schedule = MotionSchedule(hearings=1, steps=40, batch=4, frames=40, rate=2e-3)
    motion, losses = train_motion(clips, [tokens], lip_geometry(MODEL), schedule)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert motion.config.steerable
    said = predict(motion, demo_identity(), tokens, clips.aus)
    assert said.expression.shape == clips.expression.shape and torch.isfinite(said.expression).all()
    gains = restore_range(motion, demo_identity(), clips, tokens, NAMES)
    wider = predict(motion, demo_identity(), tokens, clips.aus)
    assert gains.min() >= 1 and gains[-1] > 1
    torch.testing.assert_close(wider.jaw[..., 0], said.jaw[..., 0] * float(gains[-1]), atol=1e-5, rtol=1e-4)


def test_a_recognizers_features_are_learned_and_standardised(clips: Clips) -> None:
    class Recognizer:
        def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
            rows = 1 + (len(samples) - 895) // HOP
            level = [np.sqrt((samples[HOP * i : HOP * i + 895] ** 2).mean()) for i in range(rows)]
            return np.stack([np.array(level, np.float32), np.arange(rows, dtype=np.float32)], 1)

    heard = lessons(clips, Recognizer())
    assert heard.shape == (len(clips), 2 * clips.jaw.shape[1], 2)
    np.testing.assert_allclose(heard.astype(np.float32).mean(axis=(0, 1)), 0, atol=1e-2)
    np.testing.assert_allclose(heard.astype(np.float32).std(axis=(0, 1)), 1, atol=1e-2)
    # The second feature is the row's number: token t, about sample 320t + 120, lies at row (320t + 120 - 447) / 384.
    steps = np.diff(heard[0, 10:-10, 1].astype(np.float64))
    place = (heard[0, :, 1].astype(np.float64) - heard[0, 20, 1]) / steps.mean() + 20
    np.testing.assert_allclose(place[10:-10], np.arange(10, len(place) - 10), atol=0.2)
    lesson = Lesson(clips, lip_channels(clips, NAMES), np.array([0, 0, 1]), heard)
    _, losses = train_encoder(lesson, EncoderSchedule(steps=12, batch=2, frames=40, rate=2e-3))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def test_the_fast_positional_convolution_is_the_definition() -> None:
    fast = build_encoder(3)
    slow = StreamingWav2Vec2(fast.model, fast.streaming)
    sound = torch.randn(2, 640 * 30, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        torch.testing.assert_close(fast(sound), slow(sound), atol=2e-5, rtol=0)


def test_learned_motion_survives_its_file(tmp_path: Path, clips: Clips) -> None:
    encoder = build_encoder(1)
    schedule = MotionSchedule(hearings=1, steps=1, batch=1, frames=20)
    motion, _ = train_motion(clips, [hear(encoder, clips, 0)], lip_geometry(MODEL), schedule)
    Learned(encoder, motion, demo_identity()).save(tmp_path / "learned.pt")
    back = load_learned(tmp_path / "learned.pt")
    for a, b in zip(motion.state_dict().values(), back.motion.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError):
        load_learned(tmp_path / "bad.pt")
    content = torch.load(tmp_path / "learned.pt", weights_only=True)
    content["encoder"]["model.encoder.layers.99999999.final_layer_norm.bias"] = torch.zeros(1)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="tensors do not fit .unexpected: model.encoder.layers.99999999"):
        load_learned(tmp_path / "bad.pt")
    content = torch.load(tmp_path / "learned.pt", weights_only=True)
    content["encoder_config"]["hidden_size"] = "wide"
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="configuration cannot be used"):
        load_learned(tmp_path / "bad.pt")
    torch.save({"motion": {}}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="is not learned motion"):
        load_learned(tmp_path / "bad.pt")


def test_measures_know_a_perfect_and_a_dead_face(clips: Clips) -> None:
    geometry = lip_geometry(MODEL)
    zeros = torch.zeros(1)
    perfect = Motion(torch.from_numpy(clips.expression), torch.from_numpy(clips.jaw), zeros, zeros, zeros, zeros, zeros)
    report = lips(clips, perfect, geometry)
    assert report.present > 0.95 and report.false == 0
    assert correlation(clips.jaw[..., 0].ravel(), np.zeros(clips.jaw[..., 0].size, np.float32)) == 0
    assert runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]
    fitted = fit_loudness(clips)
    assert fitted.shape == (4 * 12 + 1,) and np.isfinite(fitted).all()


def test_the_command_reports_errors_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--evaluate", str(tmp_path / "none.pt")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("demo: ") and "none.pt" in message and message.count("\n") == 1


def test_the_committed_checkpoint_is_small_and_safe() -> None:
    assert DEMO.stat().st_size <= 25_000_000
    content = torch.load(DEMO, weights_only=True)
    assert content["format"] == "emotag-checkpoint"
    checkpoint = load_checkpoint(DEMO)
    assert checkpoint.encoder is not None
    config, tokens_ahead = checkpoint.motion.config, checkpoint.encoder.streaming.lookahead
    assert (tokens_ahead + config.window_future) // 2 - 1 + config.smooth_future <= 4  # frames of 40 ms
    assert checkpoint.motion.config.steerable
    assert len(checkpoint.avatar["gaussians.means"]) == 60_000
    assert checkpoint.info.expression_names == NAMES


def test_the_committed_checkpoint_follows_unheard_voices(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(DEMO)
    assert checkpoint.encoder is not None
    numbers = evaluate(MODEL, checkpoint.encoder, checkpoint.motion, checkpoint.identity, tmp_path, count=12)
    assert numbers.jaw_correlation >= 0.7
    assert 0.8 <= numbers.jaw_slope <= 1.25
    assert numbers.jaw_correlation >= numbers.loudness_correlation + 0.15
    assert numbers.closure_recall >= 0.75
    assert numbers.silent_gap < 0.1 * numbers.parted_gap


@pytest.mark.parametrize("voice", HELD_OUT, ids=lambda voice: voice.name)
def test_no_unheard_voice_is_left_behind(voice: corpus.Voice) -> None:
    checkpoint = load_checkpoint(DEMO)
    assert checkpoint.encoder is not None
    clips = make_clips(replace(HELD_OUT_CLIPS, count=3, seed=5, voices=(voice,)), NAMES)
    geometry = lip_geometry(MODEL)
    numbers = measure(checkpoint.encoder, checkpoint.motion, checkpoint.identity, clips, geometry, fit_loudness(clips))
    assert numbers.jaw_correlation >= 0.7


def test_an_interrupted_training_goes_on_with_the_same_result(tmp_path: Path, clips: Clips) -> None:
    tokens, geometry = torch.randn(len(clips), 120, 192).half(), lip_geometry(MODEL)
    schedule = MotionSchedule(steps=6, batch=2, frames=20)
    whole, losses = train_motion(clips, [tokens], geometry, schedule)
    path = tmp_path / "motion.pt"

    class Stopped(Exception):
        pass

    def stop(said: str, share: float) -> None:
        raise Stopped

    kept = Snapshot(path, every=2)
    original, kept.keep = kept.keep, lambda *parts: (original(*parts), len(kept.losses) < 5 or stop("", 0))  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        train_motion(clips, [tokens], geometry, schedule, snapshot=kept)
    torch.manual_seed(99)
    again, more = train_motion(clips, [tokens], geometry, schedule, snapshot=Snapshot(path))
    assert more == losses
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="another recipe"):
        train_motion(clips, [tokens], geometry, schedule, snapshot=Snapshot(path, recipe="other"))
