"""The terms of the training loss (eq. 10-14), each a small function, and their weighted sum.

Pictures are channels first, 0…1. A term is a scalar tensor; `total` adds those that there is truth for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..runtime.errors import EmotagError
from .grmn import NEUTRAL
from .grmn import Motion as Predicted
from .render import RenderOutput
from .ssim import ssim

__all__ = [
    "LossError",
    "LossWeights",
    "Target",
    "Tracked",
    "depth",
    "emotion",
    "motion",
    "normal",
    "photometric",
    "score",
    "total",
]

_LEAST_COVER = 0.5
"""Of a pixel, by the rendered head, for its depth and normal to be judged."""
_LEAST_PIXELS = 16
_LEAST_SQUARES = 1e-16
"""Of two vectors' lengths, multiplied: shorter ones have no direction."""


class LossError(EmotagError):
    """A loss that is not a number, or that lacks what it compares with."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. A term of weight 0 is not computed (ablation).

    The defaults are the released code's, with the paper's λ of D-SSIM, depth and normals; `paper` gives those of the
    paper alone.
    """

    structural: float = 0.2
    """λ of D-SSIM: the picture's term is `absolute`·L1 + λ·(1 - SSIM)"""
    absolute: float = 0.8
    """of L1; the released code's is 1 - λ"""
    emotion: float = 0.01
    """of KL(p_emo ‖ softmax(z_e))"""
    score: float = 0.1
    """of |g - e|"""
    motion: float = 0.1
    """of the squared errors of expression and jaw"""
    depth: float = 1e-2
    """adaptation only"""
    normal: float = 1e-3
    """adaptation only"""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf") or (name == "structural" and value > 1):
                raise LossError(f"the weight {name} is {value}: give a number from 0, the structural one at most 1")

    @classmethod
    def paper(cls) -> LossWeights:
        """L1 + 0.2·(1 - SSIM) + KL + |g - e| + 0.01·depth + 0.001·normal: the paper weighs no other term."""
        return cls(absolute=1.0, emotion=1.0, score=1.0, motion=0.0)


class Target(NamedTuple):
    """What a picture should be."""

    rgb: Tensor
    """(3, H, W), the head over the background that the prediction is drawn over"""
    mask: Tensor
    """(H, W) cover of the head, 0…1"""
    depth: Tensor | None = None
    """(H, W), 0 or not finite where there is none; metres along the camera's z if `metric`, else in an unknown unit"""
    normal: Tensor | None = None
    """(3, H, W) unit, camera axes (x right, y down, z forward), 0 where there is none"""
    metric: bool = False
    """whether `depth` is in metres and wants no scale and shift of its own"""
    share: float = 1.0
    """of the whole picture that this is a part of, whose rest needs no judging: weighs the photometric term"""


class Tracked(NamedTuple):
    """What the motion should be; leading axes are the prediction's. What there is no truth of is None."""

    expression: Tensor | None = None
    """(..., E)"""
    jaw: Tensor | None = None
    """(..., 3) axis-angle, rad"""
    emotion: Tensor | None = None
    """(..., 7) probabilities p_emo"""


def photometric(predicted: Tensor, truth: Tensor, structural: float = 0.2, absolute: float | None = None) -> Tensor:
    """a·mean|I - Î| + λ·(1 - SSIM(I, Î)) (eq. 10); pictures (3, H, W), 0…1, λ `structural`, a `absolute` or 1 - λ."""
    difference = functional.l1_loss(predicted, truth) * (1 - structural if absolute is None else absolute)
    return difference if structural == 0 else difference + structural * (1 - ssim(predicted, truth))


def emotion(logits: Tensor, probabilities: Tensor) -> Tensor:
    """KL(p_emo ‖ softmax(z_e)) in nats, the mean over frames (eq. 11).

    Args:
        logits: (..., 7) the emotion latent z_e.
        probabilities: (..., 7) the teacher's, each row sums to one.
    """
    own = torch.xlogy(probabilities, probabilities).sum(-1)
    cross = (probabilities * functional.log_softmax(logits, -1)).sum(-1)
    return (own - cross).mean()


def score(gate: Tensor, probabilities: Tensor) -> Tensor:
    """|g - e|, the mean over frames (eq. 12): the gate (..., 1) follows the intensity e = 1 - p(neutral)."""
    return functional.l1_loss(gate, 1 - probabilities[..., NEUTRAL : NEUTRAL + 1])


def motion(expression: Tensor, jaw: Tensor, tracked_expression: Tensor, tracked_jaw: Tensor) -> Tensor:
    """Mean squared error of expression (..., E), plus that of jaw (..., 3), rad²."""
    return functional.mse_loss(expression, tracked_expression) + functional.mse_loss(jaw, tracked_jaw)


def depth(predicted: Tensor, alpha: Tensor, truth: Tensor, mask: Tensor, metric: bool = False) -> Tensor:
    """Mean absolute error of depth inside the head (eq. 13); 0 where fewer than 16 pixels can be judged.

    A metric truth is compared as it is, in metres. A teacher's unknown unit is taken out: the truth is brought to the
    prediction's median and mean absolute deviation first (MiDaS, Ranftl et al. 2020), with the prediction's own held
    fixed, and the error is in units of that deviation.

    Args:
        predicted: (H, W) metres, blended as colours are (`RenderOutput.depth`).
        alpha: (H, W) of the prediction.
        truth: (H, W), larger is farther; not judged where it is not finite or not above 0.
        mask: (H, W) cover of the head.
        metric: whether the truth is in metres.
    """
    judged = _judged(alpha, mask) & torch.isfinite(truth) & (truth > 0)
    if int(judged.sum()) < _LEAST_PIXELS:
        return predicted.sum() * 0
    if metric:
        error = predicted / torch.where(judged, alpha, 1) - truth
        return torch.where(judged, error, 0).abs().sum() / judged.sum()
    ours = predicted[judged] / alpha[judged]
    theirs = truth[judged]
    (middle, spread), (their_middle, their_spread) = _spread(ours.detach()), _spread(theirs)
    return functional.l1_loss((ours - middle) / spread, (theirs - their_middle) / their_spread)


def normal(predicted: Tensor, alpha: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean of 1 - cos between normals inside the head (eq. 14); 0 where fewer than 16 pixels can be judged.

    Args:
        predicted: (3, H, W) camera axes, blended as colours are (`RenderOutput.normal`).
        alpha, mask: (H, W), as `depth`.
        truth: (3, H, W), 0 where there is none.
    """
    judged = _judged(alpha, mask) & (truth.square().sum(0) > 0.25)
    if int(judged.sum()) < _LEAST_PIXELS:
        return predicted.sum() * 0
    # Masked sums instead of chosen pixels: those would be gathered, and their gradients scattered, one by one.
    truth = torch.where(judged, truth, 0)
    squares = predicted.square().sum(0) * truth.square().sum(0)
    cosine = (predicted * truth).sum(0) * squares.clamp_min(_LEAST_SQUARES).rsqrt()
    return 1 - cosine.sum() / judged.sum()


def total(
    weights: LossWeights,
    output: RenderOutput | None = None,
    target: Target | None = None,
    predicted: Predicted | None = None,
    tracked: Tracked | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and every term before its weight (detached): what there is truth for and a weight above 0.

    Terms are called photometric, depth, normal, emotion, score and motion. Depth and normal are those of adaptation:
    they are judged if the prediction was rendered with `geometry` and the target has them.

    Args:
        weights: of the terms.
        output, target: a picture and its truth, of one size and over one background.
        predicted, tracked: what GRMN said, and its truth, of any leading axes.

    Raises:
        LossError: a term is not a number (names it), or nothing can be compared.
    """
    terms: dict[str, tuple[float, Tensor]] = {}
    if output is not None and target is not None:
        compared = target.share * photometric(output.rgb, target.rgb, weights.structural, weights.absolute)
        terms["photometric"] = (1.0, compared)
        if weights.depth and output.depth is not None and target.depth is not None:
            compared = depth(output.depth, output.alpha, target.depth, target.mask, target.metric)
            terms["depth"] = (weights.depth, compared)
        if weights.normal and output.normal is not None and target.normal is not None:
            terms["normal"] = (weights.normal, normal(output.normal, output.alpha, target.normal, target.mask))
    if predicted is not None and tracked is not None:
        terms |= _motion_terms(weights, predicted, tracked)
    if not terms:
        raise LossError("there is nothing to learn from: give a picture with its target, or a motion with its track")
    for name, (_, value) in terms.items():
        if not bool(torch.isfinite(value)):
            raise LossError(
                f"the term {name} is not a number ({float(value.detach())}): go on from the last good checkpoint "
                "with a lower learning rate, and look at the pictures and tracks of this step"
            )
    result = torch.stack([weight * value for weight, value in terms.values()]).sum()
    return result, {name: value.detach() for name, (_, value) in terms.items()}


def _motion_terms(weights: LossWeights, predicted: Predicted, tracked: Tracked) -> dict[str, tuple[float, Tensor]]:
    terms: dict[str, tuple[float, Tensor]] = {}
    if tracked.emotion is not None and weights.emotion:
        terms["emotion"] = (weights.emotion, emotion(predicted.emotion_logits, tracked.emotion))
    if tracked.emotion is not None and weights.score:
        terms["score"] = (weights.score, score(predicted.gate, tracked.emotion))
    if tracked.expression is not None and tracked.jaw is not None and weights.motion:
        error = motion(predicted.expression, predicted.jaw, tracked.expression, tracked.jaw)
        terms["motion"] = (weights.motion, error)
    return terms


def _judged(alpha: Tensor, mask: Tensor) -> Tensor:
    return (alpha.detach() > _LEAST_COVER) & (mask > _LEAST_COVER)


def _spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Median, and mean absolute deviation from it."""
    middle = values.median()
    return middle, (values - middle).abs().mean().clamp_min(1e-6)
