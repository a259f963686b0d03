"""The gap between the lips of a bundle's head, by its own mesh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime import Model
from ..head import HeadModel
from ..synth.landmarks import landmark_vertices
from .control_stage import Take, still_vertices
from .landmarks import INNER_PAIRS

__all__ = ["LipPairs"]

_ANNY = Path(__file__).parents[1] / "assets" / "anny_head.npz"


@dataclass(frozen=True, eq=False)
class LipPairs:
    """Vertices of the inner lips that meet: upper [3], lower [3]."""

    upper: NDArray[np.int32]
    lower: NDArray[np.int32]

    @staticmethod
    def of(model: Model) -> LipPairs | None:
        """Those of a bundle with Anny's head; None for others, whose lips are not known."""
        head = HeadModel.load(_ANNY)
        if len(model.scene.head.template) != head.vertex_count:
            return None
        first, second = landmark_vertices(head)[np.array(INNER_PAIRS)].T
        height = head.v_template[:, 1]
        up = height[first].mean() >= height[second].mean()
        return LipPairs(first, second) if up else LipPairs(second, first)

    def gaps(self, model: Model, take: Take) -> NDArray[np.float64]:
        """[T, 3] mm between the pairs, negative where lips overlap."""
        points = still_vertices(model, take, range(len(take.jaw)))
        return np.asarray(1000 * (points[:, self.upper, 1] - points[:, self.lower, 1]))
