"""Shuts a mouth: the part of a motion that parts the lips, taken away by degrees."""

from __future__ import annotations

import numpy as np

from ..plugins import Head
from .cues import LEFT_EYE, RIGHT_EYE
from .graphs import Float

SHUT_FRAMES = 5  # from open to shut when silence sets in; it opens at once

# ARKit's expressions that move lips apart or shape them for a sound. Smiles, frowns and presses stay: they are feeling.
_SPOKEN = (
    "jawOpen", "jawLeft", "jawRight", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRoll", "mouthShrugUpper",
    "mouthUpperUp", "mouthLowerDown", "mouthStretch", "tongueOut",
)  # fmt: skip


class Shutter:
    """Takes what parts the lips out of expression and jaw.

    Heads with ARKit's names lose the expressions of speech. Of any other head, the coefficients are replaced by those
    that leave the lower face at rest and the upper face as it was, in the least squares of the vertices.
    """

    def __init__(self, names: tuple[str, ...], head: Head) -> None:
        spoken = np.array([name.startswith(_SPOKEN) for name in names], bool)
        if spoken.any():
            self._keep: Float = np.diag((~spoken).astype(np.float32))
        else:
            self._keep = _upper_only(head)

    def shut(self, expression: Float, jaw: Float, amount: float) -> None:
        """Changes coefficients [E] and jaw [3] in place. amount: 0 leaves them, 1 shuts the mouth."""
        if not amount:
            return
        expression += np.float32(amount) * (self._keep @ expression - expression)
        jaw *= np.float32(1 - amount)


def _upper_only(head: Head) -> Float:
    """[E, E] from coefficients to those that keep the upper face and lay the lower one to rest."""
    eyes = head.joints[[LEFT_EYE, RIGHT_EYE]].astype(np.float64)
    middle = eyes.mean(axis=0)
    between = max(float(np.linalg.norm(eyes[1] - eyes[0])), 1e-6)
    height = (head.template[:, 1] - middle[1]) / between  # y is up, in FLAME's layout
    basis = head.expression_basis.astype(np.float64) / between
    upper = basis[:, height > -0.4].reshape(len(basis), -1)
    lower = basis[:, height < -0.6].reshape(len(basis), -1)
    gram = upper @ upper.T
    size = max(float(np.trace(gram)) / max(len(gram), 1), 1e-12)
    # The lower face counts ten times: an open mouth is seen, a slightly lower brow is not.
    whole = gram + 10 * lower @ lower.T + 1e-4 * size * np.eye(len(gram))
    keep: Float = np.linalg.solve(whole, gram).astype(np.float32)
    return keep
