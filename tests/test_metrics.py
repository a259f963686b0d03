"""Every metric against an answer that is known without it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emotag.plugins import Camera
from emotag.training import metrics
from emotag.training.corpus.phonemes import Segment
from emotag.training.metrics import MetricError


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


# Pictures


def test_psnr_of_a_constant_difference() -> None:
    truth = np.full((8, 9, 3), 0.4)
    assert metrics.psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert metrics.psnr(np.full((8, 9, 3), 102, np.uint8), np.full((8, 9, 3), 153, np.uint8)) == pytest.approx(
        -20 * math.log10(0.2)
    )
    assert metrics.psnr(truth, truth) == 100.0


def test_masks_choose_the_pixels() -> None:
    truth, mask = np.zeros((6, 6, 3)), np.zeros((6, 6))
    predicted = truth.copy()
    predicted[:3] = 0.5
    predicted[4] = 0.01
    mask[4] = 1
    assert metrics.psnr(predicted, truth, mask) == pytest.approx(40.0)
    mask[0] = 1  # half the weight on pixels that are off by 0.5
    assert metrics.psnr(predicted, truth, mask) == pytest.approx(-10 * math.log10((0.25 + 1e-4) / 2))


def test_ssim_of_constants_is_the_formula() -> None:
    a, b = np.full((32, 32, 3), 0.2), np.full((32, 32, 3), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert metrics.ssim_map(a, b)[16, 16] == pytest.approx(expected, abs=1e-9)
    assert metrics.ssim(a, a) == pytest.approx(1.0)


def test_ssim_is_that_of_3dgs() -> None:
    """The same by two-dimensional convolutions with zero padding in PyTorch."""
    a, b = noise(1, 40, 30, 3), noise(2, 40, 30, 3)
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    kernel = torch.outer(line, line) / line.sum() ** 2

    def blur(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, kernel.expand(3, 1, 11, 11), padding=5, groups=3)

    x, y = (torch.from_numpy(p).permute(2, 0, 1)[None] for p in (a, b))
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    wanted = ((2 * mx * my + 1e-4) * (2 * vxy + 9e-4)) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert metrics.ssim(a, b) == pytest.approx(float(wanted.mean()), abs=1e-12)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_pictures_that_do_not_fit(metric: object) -> None:
    a = np.zeros((8, 8, 3))
    with pytest.raises(MetricError, match="one size"):
        metric(a, a[:4])  # type: ignore[operator]
    with pytest.raises(MetricError, match="mask is empty"):
        metric(a, a, np.zeros((8, 8)))  # type: ignore[operator]


# Landmarks


def mouth_points(scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """68 points whose 20 mouth points lie on a circle of radius 10·scale."""
    points = np.zeros((68, 2))
    angle = 2 * np.pi * np.arange(20) / 20
    points[48:] = 10 * scale * np.stack([np.cos(angle), np.sin(angle)], -1) + shift
    return points


def test_lmd_is_of_the_form_not_of_the_place() -> None:
    truth, wide = mouth_points()[None].repeat(3, 0), mouth_points(1.2, 7.0)[None].repeat(3, 0)
    assert metrics.lmd(truth + [40, -3], truth) == pytest.approx(0.0, abs=1e-12)
    assert metrics.lmd(wide, truth) == pytest.approx(2.0)  # the radius grew from 10 to 12
    assert metrics.lmd(wide[:, 48:], truth[:, 48:], region=None) == pytest.approx(2.0)
    with pytest.raises(MetricError, match="68"):
        metrics.lmd(wide[:, :5], truth[:, :5])


def test_lip_gap_is_the_mean_of_three_pairs() -> None:
    points = np.zeros((2, 68, 2))
    for lower, distance in ((67, 3.0), (66, 6.0), (65, 9.0)):
        points[1, lower, 1] = distance
    np.testing.assert_allclose(metrics.lip_gap(points), [0.0, 6.0])


def test_mouth_box_and_projection() -> None:
    mask = metrics.mouth_box(mouth_points(shift=32.0), 64, 64, margin=0.0)
    assert mask[32, 32] == 1 and mask[22, 22] == 1 and mask[10, 32] == 0 and mask.sum() == 20 * 20
    camera = Camera(np.eye(4), 100.0, 110.0, 32.0, 30.0, 64, 64)
    np.testing.assert_allclose(metrics.project(np.array([0.2, -0.1, 2.0]), camera), [41.5, 24.0])


# Face


def test_action_unit_error_is_a_sum_of_mean_squares() -> None:
    truth = {unit: np.zeros(4) for unit in metrics.LOWER_AUS + metrics.UPPER_AUS}
    predicted = {unit: values + 0.5 for unit, values in truth.items()}
    predicted["AU45"] = np.array([0, 0, 0, 2.0])
    assert metrics.action_unit_error(predicted, truth, metrics.LOWER_AUS) == pytest.approx(9 * 0.25)
    assert metrics.action_unit_error(predicted, truth, metrics.UPPER_AUS) == pytest.approx(7 * 0.25 + 1.0)
    del predicted["AU12"]
    with pytest.raises(MetricError, match="AU12 missing"):
        metrics.action_unit_error(predicted, truth, metrics.LOWER_AUS)


def test_valence_and_arousal() -> None:
    truth, predicted = np.array([0.5, -0.5, 0.2, 0.0]), np.array([0.2, 0.1, 0.2, 0.0])
    assert metrics.valence_arousal_rmse(predicted, truth) == pytest.approx(math.sqrt((0.09 + 0.36) / 4))
    assert metrics.sign_agreement(predicted, truth) == 0.75


def test_emotion_accuracy_and_intensity() -> None:
    truth = np.eye(7)[[0, 3, 6, 6]]
    assert metrics.emotion_accuracy(np.eye(7)[[0, 3, 6, 2]], truth) == 0.75
    assert metrics.emotion_accuracy(np.eye(7)[[0, 3, 6, 2]], np.array([0, 0, 6, 2])) == 0.75
    np.testing.assert_allclose(metrics.intensity(np.array([[0.1, 0, 0, 0.2, 0, 0, 0.7]])), [0.3])


def test_intensity_response() -> None:
    asked = np.array([1, 1, 2, 2, 3, 3.0])
    rising = metrics.intensity_response(asked, 0.1 + 0.2 * asked)
    assert rising == pytest.approx({"slope": 0.2, "rank_correlation": 1.0, "rising": 1.0})
    assert metrics.intensity_response(asked, -asked)["rank_correlation"] == pytest.approx(-1.0)
    assert metrics.intensity_response(asked, np.ones(6)) == pytest.approx(
        {"slope": 0.0, "rank_correlation": 0.0, "rising": 0.0}, abs=1e-12
    )
    with pytest.raises(MetricError, match="two levels"):
        metrics.intensity_response(np.ones(3), np.ones(3))


# Motion


def test_pose_motion_of_a_steady_turn() -> None:
    """0.03 rad and 0.04 head heights a frame, through a half-turn where axis-angle jumps."""
    time = np.arange(150)
    rotation = np.zeros((150, 3))
    rotation[:, 1] = (0.03 * time + np.pi) % (2 * np.pi) - np.pi
    translation = np.stack([0.04 * 0.2 * time, 0 * time, 0 * time], -1)
    found = metrics.pose_motion(rotation, translation, head_height=0.2)
    assert found == pytest.approx(
        {"velocity_mean": 0.05, "velocity_std": 0.0, "acceleration_mean": 0.0, "acceleration_std": 0.0}, abs=1e-9
    )


def test_pose_motion_of_a_rocking_head() -> None:
    """Right, stop, left, stop, …: every second step moves by 0.02 rad."""
    angle = np.array([0, 0.02, 0.02, 0, 0] * 20)[:100]
    rotation = np.zeros((100, 3))
    rotation[:, 0] = angle
    steps = np.abs(np.diff(angle))
    found = metrics.pose_motion(rotation, np.zeros((100, 3)))
    assert found["velocity_mean"] == pytest.approx(steps.mean())
    assert found["velocity_std"] == pytest.approx(steps.std())
    assert found["acceleration_mean"] == pytest.approx(np.abs(np.diff(angle, n=2)).mean())


def test_jaw_agreement() -> None:
    truth = np.sin(np.arange(50) / 3)
    found = metrics.jaw_agreement(np.stack([0.5 * truth + 0.1, 0 * truth, 0 * truth], -1), truth)
    assert found == pytest.approx({"correlation": 1.0, "slope": 0.5})
    assert metrics.jaw_agreement(np.zeros(50), truth) == pytest.approx({"correlation": 0.0, "slope": 0.0})
    mixed = truth + 2 * np.cos(np.arange(50) / 3)
    assert metrics.jaw_agreement(mixed, truth)["correlation"] == pytest.approx(np.corrcoef(mixed, truth)[0, 1])
    with pytest.raises(MetricError, match="never moves"):
        metrics.jaw_agreement(truth, np.ones(50))


# Lips


def utterance() -> list[Segment]:
    """SIL (P AA T)×6 F EH SIL: six closures, seven open vowels."""
    names = ["SIL", *["P", "AA", "T"] * 6, "F", "EH", "SIL"]
    lengths = {"SIL": 0.4, "P": 0.08, "AA": 0.16, "T": 0.12, "F": 0.08, "EH": 0.2}
    segments, time = [], 0.0
    for name in names:
        segments.append(Segment(name, time, time + lengths[name]))
        time += lengths[name]
    return segments


def gap_of(segments: list[Segment], late: float = 0.0, rate: float = 25.0) -> np.ndarray:
    """A mouth that does just what the phonemes ask, `late` seconds late."""
    levels = {"SIL": 0.0, "P": 0.0, "AA": 10.0, "T": 4.0, "F": 0.5, "EH": 8.0}
    time = (np.arange(round(segments[-1].end * rate)) + 0.5) / rate - late
    return np.array([next((levels[s.phoneme] for s in segments if s.start <= t < s.end), 0.0) for t in time])


def test_perfect_lips() -> None:
    report = metrics.lip_report(gap_of(utterance()), utterance())
    assert (report.bilabials, report.closures_present, report.present) == (6, 6, 1.0)
    assert (report.closures_shown, report.false_closures, report.excused_closures) == (
        6,
        0,
        1,
    )  # the first P ends a pause
    assert (report.open_vowels, report.open) == (7, 1.0)
    assert np.abs(report.lateness_ms).max() <= 20


def test_closed_is_below_a_tenth_of_the_95th_percentile() -> None:
    gap = np.concatenate([np.full(95, 10.0), [0.99, 1.01, 30, 30, 30]])
    assert np.flatnonzero(metrics.closed_frames(gap)).tolist() == [95]
    np.testing.assert_array_equal(metrics.closed_frames(7 * gap), metrics.closed_frames(gap))


def test_lips_that_never_close_or_close_at_will() -> None:
    gap = gap_of(utterance())
    lazy = metrics.lip_report(gap + 3.0, utterance())
    assert (lazy.closures_present, lazy.closures_shown, lazy.false, lazy.open) == (0, 0, 0.0, 1.0)
    nervous = gap.copy()
    closed_vowels = [s for s in utterance() if s.phoneme == "AA"][1:4]
    time = (np.arange(len(gap)) + 0.5) / 25
    for vowel in closed_vowels:
        nervous[(time >= vowel.start + 0.04) & (time < vowel.end)] = 0
    report = metrics.lip_report(nervous, utterance(), tolerance_ms=10)
    assert report.false_closures == 3 and report.open_vowels_open == 4


@pytest.mark.parametrize("late", [-0.18, -0.1, 0.0, 0.12])
def test_offset_is_found_and_corrected(late: float) -> None:
    gap = gap_of(utterance(), late)
    offset = metrics.find_offset(gap, utterance())
    assert offset == pytest.approx(1000 * late, abs=20)
    assert metrics.lip_report(gap, utterance(), offset_ms=offset).present == 1.0
    if abs(late) > 0.1:
        assert metrics.lip_report(gap, utterance()).present < 0.5


def test_lateness_is_measured() -> None:
    report = metrics.lip_report(gap_of(utterance(), 0.08, 100.0), utterance(), frame_rate=100.0, tolerance_ms=100)
    assert np.median(report.lateness_ms) == pytest.approx(80, abs=12)


def test_pooled_clips_are_counted_together() -> None:
    good = metrics.lip_report(gap_of(utterance()), utterance())
    bad = metrics.lip_report(gap_of(utterance()) + 3, utterance())
    pooled = metrics.pool_reports([good, bad])
    assert (pooled.bilabials, pooled.present) == (12, 0.5) and len(pooled.lateness_ms) == 6


def test_lips_of_another_clip_are_refused() -> None:
    with pytest.raises(MetricError, match="not of one clip"):
        metrics.lip_report(gap_of(utterance()), utterance(), frame_rate=50.0)
    with pytest.raises(MetricError, match="never open"):
        metrics.closed_frames(np.zeros(9))


# Phonemes


def test_phoneme_formats_agree(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[["sil", 0, 0.1], ["P", 0.1, 0.2], ["AA1", 0.2, 0.4]]')
    (tmp_path / "b.json").write_text('{"segments": [{"phoneme": "SIL", "start": 0, "end": 0.1},'
                                     '{"phoneme": "p", "start": 0.1, "end": 0.2},'
                                     '{"phoneme": "AA", "start": 0.2, "end": 0.4}]}')  # fmt: skip
    (tmp_path / "c_phonemes10fps.json").write_text("[7, 2, 0, 0]")
    (tmp_path / "index.json").write_text('{"AA": 0, "P": 2, "SIL": 7}')
    wanted = [Segment("SIL", 0.0, 0.1), Segment("P", 0.1, 0.2), Segment("AA", 0.2, 0.4)]
    for name, index in (("a.json", None), ("b.json", None), ("c_phonemes10fps.json", tmp_path / "index.json")):
        assert metrics.read_phonemes(tmp_path / name, index) == wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [("[1, 2]", "how many frames"), ("{}", "not a phoneme track"), ('[["P", 2, 1]]', "no segment"), ("?", "not JSON"),
     ('[["P"]]', "not a phoneme with")],
)  # fmt: skip
def test_phonemes_that_cannot_be_read(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(MetricError, match=words):
        metrics.read_phonemes(tmp_path / "p.json")


REAL = Path(__file__).parents[2] / "shared" / "data" / "video"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not on this machine")
def test_phonemes_of_real_clips() -> None:
    found = sorted(REAL.glob("*_phonemes30fps.json"))
    assert found
    for path in found:
        segments = metrics.read_phonemes(path, REAL / "styletalk__phindex.json")
        assert segments[0].phoneme == "SIL" and 15 < segments[-1].end < 35
        assert sum(segment.phoneme in "PBM" for segment in segments) > 10
