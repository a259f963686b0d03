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


class WindowLayer(nn.Module):
    """One layer of the window encoder for a single window, every product with its bias and ReLU in one node."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        attention = layer.self_attn
        self.heads = attention.num_heads
        width = attention.embed_dim
        scale = torch.ones(3 * width)
        scale[:width] = (width // self.heads) ** -0.5
        self.qkv_weight = nn.Parameter((attention.in_proj_weight.detach() * scale[:, None]).T.contiguous())
        self.qkv_bias = nn.Parameter(attention.in_proj_bias.detach() * scale)
        self.out, self.norm1, self.norm2 = attention.out_proj, layer.norm1, layer.norm2
        self.up, self.down = layer.linear1, layer.linear2

    def forward(self, x: Tensor) -> Tensor:
        """[W, D] to [W, D]."""
        length, width = x.shape
        qkv = (x @ self.qkv_weight + self.qkv_bias).reshape(length, 3 * self.heads, -1).transpose(0, 1)
        q, k, v = torch.split(qkv, self.heads)
        mixed = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        x = self.norm1(x + self.out(mixed.transpose(0, 1).reshape(length, width)))
        out: Tensor = self.norm2(x + self.down(torch.relu(self.up(x))))
        return out


class WindowEncoder(nn.Module):
    """`GRMN.encode` of one window, without batch axes: those cost a reshape around every product."""

    def __init__(self, grmn: GRMN) -> None:
        super().__init__()
        self.projection = grmn.audio_proj
        self.positions = nn.Parameter(grmn.pos_encoder.pe[0, : grmn.config.window].detach().clone())
        layers = grmn.audio_transformer.layers
        self.layers = nn.ModuleList(WindowLayer(x) for x in layers if isinstance(x, nn.TransformerEncoderLayer))

    def forward(self, window: Tensor) -> Tensor:
        """[W, H] to [1, D]."""
        x = self.projection(window) + self.positions
        for layer in self.layers:
            x = layer(x)
        encoded: Tensor = x.mean(0, keepdim=True)
        return encoded


class MotionStep(StepModule):
    """The newest window and the encodings before it to one frame's motion (docs/bundle.md, motion.onnx).

    The identity feature is baked in: its AdaIN modulation is constant for an avatar.
    """

    def __init__(self, grmn: GRMN, identity: Tensor | None) -> None:
        super().__init__()
        self.grmn = grmn
        self.encoder = WindowEncoder(grmn)
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
        around = torch.cat([encodings, self.encoder(window)])
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
