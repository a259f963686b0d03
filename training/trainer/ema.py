"""A running mean of a network's parameters: what is exported and adapted."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """Exponential moving average: after every step, mean ← decay · mean + (1 - decay) · parameter.

    It starts as the network is. `decay` 0 is the network itself. Buffers are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step's parameters in."""
        for name, value in module.state_dict().items():
            mean = self._values[name]
            if mean.is_floating_point():
                mean.lerp_(value.detach(), 1 - self.decay)
            else:
                mean.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The means under the module's names."""
        return dict(self._values)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from these means, which must be of the same module."""
        for name, mean in self._values.items():
            mean.copy_(state[name])
