"""What the face expresses: action units, valence and arousal, emotion class and intensity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ...runtime.manifest import EMOTIONS
from .errors import MetricError

__all__ = [
    "LOWER_AUS",
    "UPPER_AUS",
    "action_unit_error",
    "emotion_accuracy",
    "intensity",
    "intensity_response",
    "sign_agreement",
    "valence_arousal_rmse",
]

LOWER_AUS = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
UPPER_AUS = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU45")
"""As the authors' evaluation divides OpenFace's 17."""
NEUTRAL = EMOTIONS.index("neutral")


def action_unit_error(
    predicted: Mapping[str, NDArray[Any]], truth: Mapping[str, NDArray[Any]], units: Sequence[str]
) -> float:
    """AUE: the sum over `units` of the mean squared error over time, as the published numbers.

    Args:
        predicted, truth: AU name → [T] intensities 0…5.
        units: `LOWER_AUS` for AUE-L, `UPPER_AUS` for AUE-U, or others.

    Raises:
        MetricError: a unit is missing, because the sum over fewer compares with nothing; or lengths disagree.
    """
    missing = [unit for unit in units if unit not in predicted or unit not in truth]
    if missing:
        raise MetricError(f"{', '.join(missing)} missing: give OpenFace's CSV with all AUs of both clips")
    errors = []
    for unit in units:
        first, second = _same(predicted[unit], truth[unit], unit)
        errors.append(((first - second) ** 2).mean())
    return float(np.sum(errors))


def valence_arousal_rmse(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Root of the mean squared error of valence (or arousal) [T], -1…1. Raises MetricError if lengths disagree."""
    first, second = _same(predicted, truth, "valence or arousal")
    return float(np.sqrt(((first - second) ** 2).mean()))


def sign_agreement(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """SA: the share of frames where valence (or arousal) has the sign of the truth; a zero agrees with a zero only.

    Raises MetricError if lengths disagree.
    """
    first, second = _same(predicted, truth, "valence or arousal")
    return float((np.sign(first) == np.sign(second)).mean())


def emotion_accuracy(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """The share of frames whose most probable class is that of the truth.

    Args:
        predicted: [T, 7] probabilities or logits.
        truth: [T, 7] likewise, or class indices [T].

    Raises:
        MetricError: shapes disagree.
    """
    named = np.asarray(truth)
    named = named.argmax(axis=-1) if named.ndim == 2 else named
    guess = np.asarray(predicted)
    if guess.ndim != 2 or guess.shape != (len(named), len(EMOTIONS)) or len(named) == 0:
        raise MetricError(f"emotions of shapes {guess.shape} and {np.shape(truth)}: give [T, {len(EMOTIONS)}] of both")
    return float((guess.argmax(axis=-1) == named).mean())


def intensity(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """e = 1 - p(neutral) [T] of probabilities [T, 7]."""
    result: NDArray[np.float64] = 1 - np.asarray(probabilities, dtype=np.float64)[:, NEUTRAL]
    return result


def intensity_response(asked: NDArray[Any], shown: NDArray[Any]) -> dict[str, float]:
    """How what is shown follows what was asked for: slope of the line of best fit, Spearman's ρ, mean a level rising.

    Args:
        asked: [N] levels, such as 1, 2, 3.
        shown: [N] measured intensities of those clips or frames.

    Returns:
        slope (shown a level), rank_correlation, and rising: the share of neighbouring levels whose mean rises.

    Raises:
        MetricError: lengths disagree or there is only one level.
    """
    first, second = _same(asked, shown, "intensity")
    levels = np.unique(first)
    if len(levels) < 2:
        raise MetricError("intensity response needs two levels or more: give clips of several intensities")
    means = np.array([second[first == level].mean() for level in levels])
    slope = float(np.polyfit(first, second, 1)[0])
    flat = bool(np.ptp(second) == 0)
    correlation = 0.0 if flat else float(spearmanr(first, second).statistic)
    return {"slope": slope, "rank_correlation": correlation, "rising": float((np.diff(means) > 0).mean())}


def _same(first: NDArray[Any], second: NDArray[Any], what: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise MetricError(f"{what} of shapes {a.shape} and {b.shape}: give [T] of the same frames")
    return a, b
