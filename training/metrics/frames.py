"""Picture metrics over a clip: PSNR, SSIM and LPIPS of every frame, and the frames to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import EmotagError
from .errors import MetricError
from .image import psnr, ssim_map
from .judge import Case, Value
from .landmarks import mouth_box
from .lpips import Lpips, load_lpips

__all__ = ["Shot", "judge_pictures"]

Pixels = NDArray[np.uint8]

NAMES = ("psnr", "ssim", "psnr_head", "ssim_head", "psnr_mouth", "lpips")
_UNITS = {"psnr": "dB", "psnr_head": "dB", "psnr_mouth": "dB"}


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame for the page."""

    row: int
    psnr: float
    predicted: Pixels
    truth: Pixels


def judge_pictures(
    case: Case,
    lpips_network: str,
    lpips_weights: list[Path],
    every: int = 1,
    progress: Callable[[], None] | None = None,
) -> tuple[dict[str, Value], list[Shot]]:
    """PSNR and SSIM (whole picture, head mask, mouth box) and LPIPS, means over every `every`-th common frame.

    Returns the values, and the worst, median and best frame by PSNR.
    """
    try:
        rows = common_rows(case)[::every]
    except MetricError as error:
        return {name: Value(None, why=str(error)) for name in NAMES}, []
    judges = _Judges(case, lpips_network, lpips_weights)
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for row in rows:
        for name, value in judges.frame(row).items():
            found[name].append(value)
        if progress is not None:
            progress()
    values = {
        name: Value(float(np.mean(numbers)), _UNITS.get(name, ""), frames=len(numbers))
        if numbers
        else Value(None, why=judges.reasons.get(name, "no frame has it"))
        for name, numbers in found.items()
    }
    return values, judges.shots(rows, found["psnr"])


def common_rows(case: Case) -> list[int]:
    """Frames of the prediction that both sides have a picture of and that are judged. Raises MetricError if none."""
    predicted, truth = case.predicted, case.against()
    for clip in (predicted, truth):
        if clip.read is None or not clip.picture_rows:
            raise MetricError(f"{clip.name} has no pictures")
    there = set(truth.picture_rows)
    judged = set(case.rows) if case.rows else None
    rows = [r for r in predicted.picture_rows if r + case.start in there and (judged is None or r in judged)]
    if not rows:
        raise MetricError("prediction and truth have no picture in common: check --start and --split")
    return rows


class _Judges:
    """What is computed for a frame, and why the rest is not."""

    def __init__(self, case: Case, network: str, weights: list[Path]) -> None:
        self._case = case
        self.reasons: dict[str, str] = {}
        self._lpips: Lpips | None = None
        try:
            self._lpips = load_lpips(network, weights)
        except MetricError as error:
            self.reasons["lpips"] = str(error)

    def frame(self, row: int) -> dict[str, float]:
        """Every metric that this frame has."""
        predicted, truth = self._pictures(row)
        similarity = ssim_map(predicted, truth)
        values = {"psnr": psnr(predicted, truth), "ssim": float(similarity.mean())}
        mask = self._attempt(("psnr_head", "ssim_head"), lambda: self._mask(row))
        if mask is not None:
            values["psnr_head"] = psnr(predicted, truth, mask)
            values["ssim_head"] = float((similarity * mask).sum() / mask.sum())
        box = self._attempt(("psnr_mouth",), lambda: self._box(row, truth))
        if box is not None:
            values["psnr_mouth"] = psnr(predicted, truth, box)
        if self._lpips is not None:
            values["lpips"] = self._lpips.distance(predicted, truth)
        return values

    def shots(self, rows: list[int], quality: list[float]) -> list[Shot]:
        """The worst, the median and the best frame."""
        order = np.argsort(quality, kind="stable")
        chosen = dict.fromkeys(int(order[index]) for index in (0, len(order) // 2, -1))
        return [Shot(rows[i], quality[i], *self._pictures(rows[i])) for i in chosen]

    def _pictures(self, row: int) -> tuple[Pixels, Pixels]:
        predicted, truth = self._case.predicted, self._case.against()
        assert predicted.read is not None and truth.read is not None, "common_rows has seen to it"
        return predicted.read(row), truth.read(row + self._case.start)

    def _mask(self, row: int) -> NDArray[np.float32]:
        truth = self._case.against()
        if truth.mask is None:
            raise MetricError(f"{truth.name} has no head masks")
        mask = truth.mask(row + self._case.start)
        if not mask.any():
            raise MetricError(f"the head mask of frame {row} is empty")
        return mask

    def _box(self, row: int, picture: Pixels) -> NDArray[np.float32]:
        landmarks: NDArray[Any] = self._case.against().track("landmarks")
        box = mouth_box(landmarks[row + self._case.start], picture.shape[1], picture.shape[0])
        if not box.any():
            raise MetricError(f"the mouth of frame {row} is outside the picture")
        return box

    def _attempt(self, names: tuple[str, ...], make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32] | None:
        try:
            return make()
        except EmotagError as error:
            self.reasons |= {name: " ".join(str(error).split()) for name in names}
            return None
