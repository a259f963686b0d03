"""How far a motion moves the face's surface wrongly: what the steps without pictures have in their stead."""

from __future__ import annotations

import torch
from torch import Tensor

from ..demo.geometry import lip_geometry
from ..grmn import Motion
from ..head import HeadModel
from ..losses import Tracked

__all__ = ["FaceLoss"]

_SOFT = 0.05  # mm²
_WEIGHT, _PACE = 0.3, 0.1


class FaceLoss:
    """Displacement of the face in mm, the lips weighted, and its change from frame to frame.

    d·metric·d is the mean squared displacement of a difference d in expression and jaw opening. It counts by its
    size, not its square: a mouth that is either shut or open then decides, where squares would have it half open.
    """

    def __init__(self, metric: Tensor) -> None:
        self._metric = metric

    @classmethod
    def of(cls, head: HeadModel, device: torch.device) -> FaceLoss | None:
        """For a head whose lips are known; None for others, whose parameters alone are compared then."""
        if "lips" not in head.region_names:
            return None
        return cls(torch.from_numpy(lip_geometry(head).metric).float().to(device))

    def __call__(self, predicted: Motion, tracked: Tracked) -> Tensor:
        """The loss of T consecutive frames."""
        assert tracked.expression is not None and tracked.jaw is not None
        error = torch.cat(
            [predicted.expression - tracked.expression, predicted.jaw[..., :1] - tracked.jaw[..., :1]], -1
        )
        place = torch.sqrt(((error @ self._metric) * error).sum(-1) + _SOFT).mean()
        if len(error) < 2:
            return _WEIGHT * place
        change = error[1:] - error[:-1]
        return _WEIGHT * place + _PACE * ((change @ self._metric) * change).sum(-1).mean()
