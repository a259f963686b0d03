"""What a graph is exported from: a module that names its inputs and outputs and knows its first state."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class StepModule(nn.Module):
    """One streaming step with explicit state. `forward` takes and gives tensors in the order of the names."""

    @abstractmethod
    def input_names(self) -> list[str]:
        """Inputs, in the order of `forward`."""

    @abstractmethod
    def output_names(self) -> list[str]:
        """Outputs, in the order of `forward`."""

    @abstractmethod
    def initial_state(self) -> dict[str, Tensor]:
        """First values of the states that are fed back, by input name."""

    @abstractmethod
    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of a first step, in the order of `input_names`."""
