"""The state of a training loop in a file, so that an interrupted run goes on with the same result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...runtime.errors import CheckpointError
from ..checkpoint import load_tensors, write_atomically

__all__ = ["Snapshot"]


@dataclass
class Snapshot:
    """Where a loop keeps its state, and how often.

    path: the file; None keeps nothing. every: steps between two writes; what is lost is at most that. recipe: what
    decides the result; a file of another recipe is refused.
    """

    path: Path | None = None
    every: int = 100
    recipe: str = ""
    losses: list[float] = field(default_factory=list)
    """of every step so far, those of the interrupted run included"""

    def resume(self, network: nn.Module, optimizer: torch.optim.Optimizer, shape: Any, rng: np.random.Generator) -> int:
        """Put everything back as it was written; the number of steps done, 0 without a file.

        Raises:
            CheckpointError: the file is damaged, or of another recipe.
        """
        if self.path is None or not self.path.is_file():
            return 0
        content = load_tensors(self.path)
        try:
            if content["recipe"] != self.recipe:
                raise CheckpointError(f"{self.path} is of another recipe: delete it, or choose another folder of work")
            network.load_state_dict(content["network"])
            optimizer.load_state_dict(content["optimizer"])
            shape.load_state_dict(content["shape"])
            rng.bit_generator.state = json.loads(content["rng"])
            self.losses = content["losses"].tolist()
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} is damaged ({error}): delete it and start again") from error
        return len(self.losses)

    def keep(self, network: nn.Module, optimizer: torch.optim.Optimizer, shape: Any, rng: np.random.Generator) -> None:
        """Write the state if it is time. Raises OutputError; the last good file stays."""
        if self.path is None or len(self.losses) % self.every:
            return
        content = {
            "recipe": self.recipe,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "shape": shape.state_dict(),
            "rng": json.dumps(rng.bit_generator.state),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
        }
        write_atomically(self.path, content)
