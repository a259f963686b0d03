"""How well motion follows speech: jaw against truth and against loudness alone, closures, silence."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..corpus import PHONEMES, Segment
from ..grmn import GRMN, Motion
from ..metrics.lips import LipReport, lip_report, pool_reports
from ..wav2vec2 import StreamingWav2Vec2
from .clips import FRAME, Clips
from .geometry import LipGeometry
from .motion import predict

_TAIL = 4  # last frames of a clip, whose future was cut off
_SILENCE = PHONEMES.index("SIL")


@dataclass(frozen=True)
class Measures:
    """Results on clips that training never heard.

    jaw_correlation, jaw_slope: Pearson's r, and the least-squares slope of predicted on true jaw opening.
    loudness_correlation: the best r of a predictor that knows loudness alone. closure_recall: share of P, B and M
    during which the predicted lips shut, within 40 ms. false_closures: share of the closures shown in speech that no
    P, B, M, F or V asks for (`metrics.lips`). silent_gap, parted_gap: mm between the lips in pauses, and its 95th
    percentile in speech. emotion_accuracy: share of frames whose class is named.
    """

    seconds: float
    jaw_correlation: float
    jaw_slope: float
    loudness_correlation: float
    closure_recall: float
    false_closures: float
    silent_gap: float
    parted_gap: float
    expression_correlation: float
    emotion_accuracy: float

    def lines(self) -> list[str]:
        """For people."""
        margin = self.jaw_correlation - self.loudness_correlation
        return [
            f"unheard voices             {self.seconds:8.0f} s",
            f"jaw correlation            {self.jaw_correlation:8.3f}   (bar 0.7)",
            f"jaw slope                  {self.jaw_slope:8.3f}   (bar 0.8 to 1.25)",
            f"loudness alone             {self.loudness_correlation:8.3f}   (margin {margin:.3f}, bar 0.15)",
            f"P, B, M closures present   {self.closure_recall:8.1%}",
            f"false closures             {self.false_closures:8.1%}",
            f"lip gap in silence         {self.silent_gap:8.2f} mm (95% in speech {self.parted_gap:.1f} mm)",
            f"lip shapes' correlation    {self.expression_correlation:8.3f}",
            f"emotion named              {self.emotion_accuracy:8.1%}",
        ]

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {name: float(value) for name, value in asdict(self).items()}


def measure(
    encoder: StreamingWav2Vec2,
    motion: GRMN,
    identity: Tensor | None,
    clips: Clips,
    geometry: LipGeometry,
    loudness: NDArray[np.float64],
) -> Measures:
    """Run the network on `clips` as the runtime would, and compare. `loudness` is what `fit_loudness` returned."""
    with torch.no_grad():
        tokens = torch.stack([encoder(torch.from_numpy(clips.sound(i))[None])[0] for i in range(len(clips))])
    said = predict(motion, identity, tokens, clips.aus)
    keep = slice(0, clips.jaw.shape[1] - _TAIL)
    true, guess = clips.jaw[:, keep, 0].ravel(), said.jaw[:, keep, 0].numpy().ravel()
    report = lips(clips, said, geometry)
    gap = geometry.gap(said.expression.numpy(), said.jaw.numpy())
    return Measures(
        seconds=clips.seconds,
        jaw_correlation=correlation(true, guess),
        jaw_slope=float(np.cov(true, guess)[0, 1] / np.var(true, ddof=1)),
        loudness_correlation=loudness_correlation(clips, loudness),
        closure_recall=report.present,
        false_closures=report.false,
        silent_gap=float(gap[_silent(clips)].mean()) if _silent(clips).any() else 0.0,
        parted_gap=float(np.percentile(gap, 95)),
        expression_correlation=_expression_correlation(clips.expression[:, keep], said.expression[:, keep].numpy()),
        emotion_accuracy=float((said.emotion_logits.argmax(-1).numpy() == clips.emotion.argmax(-1))[:, keep].mean()),
    )


def correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson's r of two tracks; 0 if one is constant."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def fit_loudness(clips: Clips) -> NDArray[np.float64]:
    """Ridge regression of jaw opening on the loudness from 8 frames before to 3 frames after, `[K]`.

    The same look-ahead and more past than GRMN has; decibels, amplitude and their squares.
    """
    x = np.concatenate([_loudness(clips, i) for i in range(len(clips))])
    y = clips.jaw[..., 0].astype(np.float64).ravel()
    return np.asarray(np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]), x.T @ y))


def loudness_correlation(clips: Clips, fitted: NDArray[np.float64]) -> float:
    """The best of: the fitted regression, and plain loudness or amplitude at the lag that suits these clips best."""
    features = np.stack([_loudness(clips, i) for i in range(len(clips))])[:, :-_TAIL]
    true = clips.jaw[:, :-_TAIL, 0].ravel()
    candidates = [features @ fitted, *np.moveaxis(features[..., :-1], -1, 0)]
    return max(correlation(true, candidate.ravel().astype(np.float32)) for candidate in candidates)


def lips(clips: Clips, said: Motion, geometry: LipGeometry) -> LipReport:
    """Closures and openings of all clips in which somebody speaks, by the rule of `metrics.lips`, last frames apart."""
    frames = clips.jaw.shape[1] - _TAIL
    gap = geometry.gap(said.expression.numpy(), said.jaw.numpy())[:, :frames]
    spoken = [segments_of(classes[: 2 * frames]) for classes in clips.phonemes]
    speaks = np.flatnonzero((clips.phonemes != _SILENCE).any(axis=1))
    return pool_reports([lip_report(gap[index], spoken[index]) for index in speaks])


def segments_of(classes: NDArray[np.uint8]) -> list[Segment]:
    """Timed phonemes from the class `[T]` of every token of 20 ms."""
    return [Segment(PHONEMES[classes[a]], a * 0.02, b * 0.02) for a, b in _stretches(classes)]


def _stretches(values: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Start and stop of every run of equal values."""
    bounds = [0, *(int(edge) + 1 for edge in np.flatnonzero(np.diff(values.astype(np.int16)))), len(values)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of every run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _loudness(clips: Clips, index: int, past: int = 8, future: int = 3) -> NDArray[np.float64]:
    frames = clips.samples[index].astype(np.float64).reshape(-1, FRAME) / 32768
    amplitude = np.sqrt((frames**2).mean(axis=1))
    decibel = np.log10(amplitude + 1e-4) / 4 + 1
    base = np.stack([decibel, decibel**2, amplitude, np.sqrt(amplitude)], axis=1)
    padded = np.pad(base, ((past, future), (0, 0)), mode="edge")
    lagged = [padded[lag : lag + len(base)] for lag in range(past + future + 1)]
    return np.concatenate([*lagged, np.ones((len(base), 1))], axis=1)


def _silent(clips: Clips) -> NDArray[np.bool_]:
    """Frames inside a silence, 200 ms from its edges."""
    silent = np.zeros(clips.jaw.shape[:2], bool)
    for index in range(len(clips)):
        for start, stop in runs(clips.phonemes[index] == _SILENCE):
            if stop - start > 20:
                silent[index, -(-start // 2) + 5 : stop // 2 - 5] = True
    silent[:, -_TAIL:] = False
    return silent


def _expression_correlation(true: NDArray[np.float32], guess: NDArray[np.float32]) -> float:
    """Mean r over the expressions that move."""
    moving = np.flatnonzero(true.std(axis=(0, 1)) > 0.02)
    return float(np.mean([correlation(true[..., k].ravel(), guess[..., k].ravel()) for k in moving]))
