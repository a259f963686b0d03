"""Pauses of recorded speech and the lips in them: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from emotag.training.metrics.errors import MetricError
from emotag.training.metrics.pauses import pause_frames, pause_report

FRAME = 640


def speech_and_silence() -> np.ndarray:
    """20 frames of noise, 20 of near silence, 20 of noise."""
    noise = np.random.default_rng(0).standard_normal(60 * FRAME).astype(np.float32) * 0.1
    noise[20 * FRAME : 40 * FRAME] *= 1e-4
    return noise


def test_a_pause_is_quiet_with_a_margin():
    pauses = pause_frames(speech_and_silence())
    assert np.flatnonzero(pauses).tolist() == list(range(24, 36))


def test_lips_shut_in_the_pause_count():
    gap = np.full(60, 10.0)
    gap[24:33] = 0.2
    report = pause_report(gap, speech_and_silence())
    assert (report.frames, report.shut) == (12, 9)
    assert report.share == 0.75
    assert report.widest == pytest.approx(1.0)


def test_speech_without_a_pause_has_no_share():
    sound = np.random.default_rng(1).standard_normal(30 * FRAME)
    report = pause_report(np.full(30, 5.0), sound)
    assert report.frames == 0 and np.isnan(report.share) and report.widest == 0.0


@pytest.mark.parametrize("samples", [np.zeros(100), np.zeros((2, FRAME))])
def test_no_whole_frame_is_refused(samples):
    with pytest.raises(MetricError, match="16 kHz"):
        pause_frames(samples)


def test_lips_of_another_clip_are_refused():
    with pytest.raises(MetricError, match="not of one clip"):
        pause_report(np.ones(10), speech_and_silence())
