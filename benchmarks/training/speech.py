"""Motion on speech: a network on the corpus's unheard voices, and an avatar on recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emotag.runtime import Avatar
from emotag.training.demo.clips import FRAME, Clips, load_clips
from emotag.training.demo.geometry import LipGeometry, lip_geometry
from emotag.training.demo.learn import HELD_OUT_CLIPS
from emotag.training.demo.measure import segments_of
from emotag.training.demo.motion import predict
from emotag.training.grmn import GRMN, Motion
from emotag.training.head import HeadModel
from emotag.training.metrics.clips import Clip
from emotag.training.metrics.lips import LipReport, find_offset, lip_report, pool_reports
from emotag.training.metrics.mesh import load_landmark_vertices, with_mesh
from emotag.training.metrics.pauses import pause_report
from emotag.training.metrics.phonemes import read_phonemes
from emotag.training.scenes import read_speech
from emotag.training.wav2vec2 import StreamingWav2Vec2

_TAIL = 8  # frames of silence after a clip, so that its last ones have their look-ahead
_RECORDED_TOLERANCE = 60.0  # ms, of closures in recordings; the corpus's exact times allow 40

Numbers = dict[str, Any]


def tokens_of(encoder: StreamingWav2Vec2, clips: Clips) -> torch.Tensor:
    """What the encoder hears of every clip and of the silence after it, `[N, 2(F + 8), H]`."""
    with torch.no_grad():
        heard = [np.pad(clips.sound(i), (0, _TAIL * FRAME)) for i in range(len(clips))]
        return torch.stack([encoder(torch.from_numpy(sound)[None])[0] for sound in heard])


def say(motion: GRMN, identity: torch.Tensor | None, tokens: torch.Tensor, clips: Clips) -> Motion:
    """The motion of all frames of `clips` from the tokens of `tokens_of`."""
    aus = np.pad(clips.aus, ((0, 0), (0, _TAIL), (0, 0)), mode="edge")
    said = predict(motion, identity, tokens, aus)
    return Motion(*(part[:, : clips.jaw.shape[1]] for part in said))


def judge_motion(said: Motion, clips: Clips, geometry: LipGeometry) -> Numbers:
    """Jaw and lips of predicted motion against the truth of `clips`."""
    true, guess = clips.jaw[..., 0].ravel(), said.jaw[..., 0].numpy().ravel()
    gap = geometry.gap(said.expression.numpy(), said.jaw.numpy())
    reports = [lip_report(gap[i], segments_of(clips.phonemes[i])) for i in range(len(clips))]
    return {
        "seconds": clips.seconds,
        "jaw_correlation": float(np.corrcoef(true, guess)[0, 1]),
        "jaw_slope": float(np.cov(true, guess)[0, 1] / np.var(true, ddof=1)),
        **lips(pool_reports(reports)),
    }


def lips(report: LipReport) -> Numbers:
    """Shares and counts of a lip report."""
    return {
        "closures_present": report.present,
        "closures_false": report.false,
        "open_vowels_open": report.open,
        "closures_asked": report.bilabials,
        "closures_shown": report.closures_shown,
        "lateness_ms": float(np.median(report.lateness_ms)) if report.lateness_ms else None,
        "offset_ms": report.offset_ms,
    }


def unheard_voices(
    encoder: StreamingWav2Vec2, motion: GRMN, identity: torch.Tensor | None, head: HeadModel, cache: Path
) -> Numbers:
    """Part `speech`: 50 clips of voices that training never heard, pooled and by voice."""
    clips = load_clips(HELD_OUT_CLIPS, head.expression_names, cache)
    said = say(motion, identity, tokens_of(encoder, clips), clips)
    ahead = encoder.streaming.lookahead + motion.config.window_future - encoder.streaming.chunk
    return {
        **judge_motion(said, clips, lip_geometry(head)),
        "look_ahead_ms": 20 * ahead + 40 * motion.config.smooth_future,
    }


def recordings(
    bundle: Path, head: HeadModel, spoken: Sequence[tuple[Path, Path]], index: Path | None, paused: Sequence[Path]
) -> Numbers:
    """Part `real`: what an avatar shows on recordings, through the runtime as a customer has it.

    spoken: wav files with their phonemes; each clip's own offset is corrected first. paused: wav files in whose pauses
    the mouth must be shut.
    """
    found: Numbers = {"clips": {}, "pauses": {}}
    reports = []
    for sound, phonemes in spoken:
        gap = _shown_gap(bundle, head, sound)
        segments = read_phonemes(phonemes, index)
        offset = find_offset(gap, segments)
        report = lip_report(gap, segments, tolerance_ms=_RECORDED_TOLERANCE, offset_ms=offset)
        reports.append(report)
        found["clips"][sound.stem] = lips(report)
    if reports:
        found["pooled"] = lips(pool_reports(reports))
    shut = frames = 0
    for sound in paused:
        report_ = pause_report(_shown_gap(bundle, head, sound), read_speech(sound))
        found["pauses"][sound.stem] = {"frames": report_.frames, "shut": report_.share, "widest": report_.widest}
        shut, frames = shut + report_.shut, frames + report_.frames
    if frames:
        found["pauses_shut"] = shut / frames
    return found


def _shown_gap(bundle: Path, head: HeadModel, sound: Path) -> NDArray[np.float64]:
    """Lip gap [T] in metres of the frames that an avatar shows for a sound file."""
    shown = [(frame.expression.copy(), frame.jaw.copy()) for frame in Avatar(bundle).render(sound, progress=False)]
    tracks = {"expression": np.stack([e for e, _ in shown]), "jaw": np.stack([j for _, j in shown])}
    clip = with_mesh(Clip(sound.stem, 25.0, tracks), head, load_landmark_vertices(None, head))
    gap: NDArray[np.float64] = clip.track("lip_gap")
    return gap
