"""One frame of GRMN with one new window; what `motion.onnx` computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..runtime.manifest import ACTION_UNITS
from ..training.grmn import GRMN
from .step import StepModule

OUTPUTS = (
    "expression",
    "jaw",
    "gate",
    "emotion_logits",
    "base_expression",
    "residual_expression",
    "encoded_audio",
)


class MotionStep(StepModule):
    """The newest window and the encodings before it to one frame's motion (docs/bundle.md, motion.onnx).

    The identity feature is baked in: its AdaIN modulation is constant for an avatar.
    """

    def __init__(self, grmn: GRMN, identity: Tensor | None) -> None:
        super().__init__()
        self.grmn = grmn
        with torch.no_grad():
            modulation = None if identity is None else grmn.modulation(identity.float())
        self.audio_modulation = None if modulation is None else nn.Parameter(modulation[0], requires_grad=False)
        self.au_modulation = None if modulation is None else nn.Parameter(modulation[1], requires_grad=False)

    def input_names(self) -> list[str]:
        """Inputs, in the order of `forward`."""
        wish = ["emotion", "emotion_weight"] if self.grmn.config.steerable else []
        return ["window", "encodings", "aus", *wish]

    def output_names(self) -> list[str]:
        """Outputs, in the order of `forward`."""
        return [*OUTPUTS, "encodings_next"]

    def forward(self, window: Tensor, encodings: Tensor, aus: Tensor, *wish: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `input_names` to tensors in the order of `output_names`."""
        around = torch.cat([encodings, self.grmn.encode(window[None])])
        modulation = None
        if self.audio_modulation is not None and self.au_modulation is not None:
            modulation = (self.audio_modulation, self.au_modulation)
        emotion, weight = (wish[0][None], wish[1][None]) if wish else (None, None)
        motion = self.grmn.decode(around, aus[None], modulation, emotion, weight)
        return (*(part.mean(0) for part in motion), around[1:])

    @torch.no_grad()
    def initial_state(self) -> dict[str, Tensor]:
        """Encodings of the all-zero windows before the first frame."""
        config = self.grmn.config
        zero = self.grmn.encode(torch.zeros(1, config.window, config.hidden))
        return {"encodings": zero.repeat(config.smoothing - 1, 1)}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of a first frame, in the order of `input_names`."""
        config = self.grmn.config
        wish = (torch.zeros(len(config.conditions)), torch.zeros(1)) if config.steerable else ()
        window = torch.zeros(config.window, config.hidden)
        return (window, self.initial_state()["encodings"], torch.zeros(len(ACTION_UNITS)), *wish)
