"""Emotional residual of the Gaussians (GaussianEmoTalker; spec §5): what an emotion changes of a face beside its shape.

A few spatial tokens, each a patch of the head with its mean displacement from the neutral to the emotional mesh, attend
to tokens of the encoded audio and of the emotion. They give R coefficients a frame; every Gaussian has R fixed offsets
of all its attributes, of which the coefficients make a sum. The coefficients are multiplied by the intensity
e = 1 - p(neutral): without emotion nothing is added, whatever was trained. Every offset is bounded, and the Gaussians
that the mouth head moves keep place, rotation and scale, so that the lips stay what GRMN made of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..runtime.errors import CheckpointError
from .grmn import GRMNConfig, Motion
from .render import GaussianParameters

__all__ = ["BOUNDS", "OFFSETS", "EmotionalResidual", "ResidualConfig", "asked_emotion", "make_residual", "wear"]

OFFSETS = 14
"""Numbers of a Gaussian: mean 3, quaternion 4, scale 3, opacity 1, colour of degree 0 3."""
BOUNDS = (0.5,) * 3 + (0.2,) * 4 + (0.3,) * 3 + (1.0,) + (0.8,) * 3
"""Largest offset of each: triangle scales, unit quaternion, share of the scale, halvings of the opacity, SH of degree 0
(0.8 is 0.23 of full colour)."""
_COLOUR_FROM = 10  # opacity and colour: what a Gaussian of the mouth may change
_UNIT = 0.002  # metres: displacements are of this size
_MOST_OPAQUE = 1 - 1e-6


@dataclass(frozen=True)
class ResidualConfig:
    """Sizes: of what it works on (gaussians … classes), then of the network."""

    gaussians: int
    expression: int
    audio: int
    classes: int
    neutral: int
    """number of the class that is no emotion"""
    rank: int = 6
    tokens: int = 32
    """spatial tokens"""
    audio_tokens: int = 4
    width: int = 32
    heads: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.neutral < self.classes or self.width % self.heads or not 1 <= self.rank <= 8:
            raise CheckpointError(f"an emotional residual cannot have these sizes: {self}: train it again")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ResidualConfig:
        """Inverse of `to_dict`. Raises CheckpointError for a field that this version does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(ResidualConfig)})
        if unknown:
            raise CheckpointError(f"the emotional residual has unknown fields {unknown}: update emotag")
        return ResidualConfig(**values)


class EmotionalResidual(nn.Module):
    """Coefficients of a frame from displacement, audio and emotion; offsets of the Gaussians from coefficients.

    Make one with `make_residual`. Buffers: `patches` [K,3,E] mean displacement of a patch by expression, in 2 mm;
    `places` [K,3] its middle; `bounds` [G,14] of the offsets.
    """

    patches: Tensor
    places: Tensor
    bounds: Tensor

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.config = c = config
        self.register_buffer("patches", torch.zeros(c.tokens, 3, c.expression))
        self.register_buffer("places", torch.zeros(c.tokens, 3))
        self.register_buffer("bounds", torch.zeros(c.gaussians, OFFSETS))
        self.place_in = nn.Linear(3, c.width)
        self.displacement_in = nn.Linear(3, c.width, bias=False)
        self.audio_in = nn.Linear(c.audio, c.audio_tokens * c.width)
        self.emotions = nn.Parameter(0.5 * torch.randn(c.classes, c.width))
        self.intensity = nn.Parameter(0.5 * torch.randn(1, c.width))
        self.query, self.key = nn.Linear(c.width, c.width), nn.Linear(c.width, c.width)
        self.value, self.mixed = nn.Linear(c.width, c.width), nn.Linear(c.width, c.width)
        self.norm = nn.LayerNorm(c.width)
        self.hidden = nn.Linear(c.width, c.width)
        self.narrow = nn.Linear(c.width, 8)
        self.out = nn.Linear(8 * c.tokens, c.rank)
        self.raw = nn.Parameter(torch.zeros(c.rank, c.gaussians, OFFSETS))

    def coefficients(self, displacement: Tensor, audio: Tensor, emotion: Tensor) -> Tensor:
        """What a frame wears.

        Args:
            displacement: [N,E] expressions of the emotional mesh minus those of the neutral one: gate · residual.
            audio: [N,D] encoded audio of GRMN.
            emotion: [N,C] probabilities; intensity is 1 - p(neutral).

        Returns:
            [N,R] in -e…e.
        """
        c = self.config
        moved = (displacement @ self.patches.reshape(-1, c.expression).T).reshape(-1, c.tokens, 3)
        queries = self.place_in(self.places) + self.displacement_in(moved)
        intensity = 1 - emotion[:, c.neutral : c.neutral + 1]
        heard = self.audio_in(audio).reshape(-1, c.audio_tokens, c.width)
        felt = emotion[:, :, None] * self.emotions
        tokens = torch.cat([heard, felt, intensity[:, :, None] * self.intensity], 1)
        mixed = self.norm(queries + self._attend(queries, tokens))
        mixed = mixed + functional.relu(self.hidden(mixed))
        found = self.out(self.narrow(mixed).reshape(-1, 8 * c.tokens))
        return intensity * torch.tanh(found)

    def _attend(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Cross-attention [N,K,W] to [N,T,W]."""
        c = self.config

        def heads(x: Tensor, count: int) -> Tensor:
            return x.reshape(-1, count, c.heads, c.width // c.heads).transpose(1, 2)

        count = c.audio_tokens + c.classes + 1
        q, k = heads(self.query(queries), c.tokens), heads(self.key(tokens), count)
        weights = torch.softmax(q @ k.transpose(2, 3) * (c.width // c.heads) ** -0.5, -1)
        mixed = weights @ heads(self.value(tokens), count)
        out: Tensor = self.mixed(mixed.transpose(1, 2).reshape(-1, c.tokens, c.width))
        return out

    def basis(self) -> Tensor:
        """[R,G,14] offsets of a coefficient of 1; their sum over R never passes the bounds."""
        basis: Tensor = self.bounds * torch.tanh(self.raw) / self.config.rank
        return basis

    def offsets(self, coefficients: Tensor) -> Tensor:
        """[G,14] of the coefficients [R] of one frame."""
        summed: Tensor = torch.tensordot(coefficients, self.basis(), 1)
        return summed

    def of_motion(self, motion: Motion, emotion: Tensor) -> Tensor:
        """Coefficients [N,R] of N frames of GRMN, seen with the probabilities `emotion` [N,C]."""
        return self.coefficients(motion.gate * motion.residual_expression, motion.encoded_audio, emotion)


def asked_emotion(motion: Motion, asked: Tensor | None, classes: int) -> Tensor:
    """[N,C] the emotion that frames are made with: what was asked for, or what the network hears; as the runtime's."""
    if asked is not None:
        return functional.pad(asked, (0, classes - asked.shape[-1]))
    heard = torch.softmax(motion.emotion_logits, -1)
    return functional.pad(heard, (0, classes - heard.shape[-1]))


def make_residual(
    avatar: dict[str, NDArray[Any]], motion: GRMNConfig, seed: int = 0, rank: int = 6
) -> EmotionalResidual:
    """An untrained one, which adds nothing, for an avatar (`Checkpoint.avatar`) and its motion network."""
    face_index = avatar["gaussians.face_index"]
    config = ResidualConfig(
        gaussians=len(face_index),
        expression=motion.expression,
        audio=motion.width,
        classes=len(motion.conditions),
        neutral=motion.conditions.index("neutral"),
        rank=rank,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        residual = EmotionalResidual(config)
    template, faces = avatar["head.template"], avatar["head.faces"]
    used = np.unique(face_index)
    centres = template[faces[used]].mean(1)
    seeds = _far_apart(centres, config.tokens)
    patch = np.linalg.norm(centres[:, None] - centres[seeds][None], axis=-1).argmin(1)
    moved = avatar["head.expression_basis"][:, faces[used]].mean(2)  # (E, triangles, 3)
    for token in range(config.tokens):
        mine = patch == token
        if mine.any():
            residual.patches[token] = torch.from_numpy(moved[:, mine].mean(1).T / _UNIT).float()
            residual.places[token] = torch.from_numpy(centres[mine].mean(0) / 0.1).float()
    residual.bounds[:] = torch.tensor(BOUNDS)
    if "mouth.index" in avatar:
        residual.bounds[torch.from_numpy(avatar["mouth.index"].astype(np.int64)), :_COLOUR_FROM] = 0
    return residual


def _far_apart(points: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """`count` of the points, each the farthest from those before it; the first is the foremost."""
    chosen = [int(points[:, 2].argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def wear(gaussians: GaussianParameters, offsets: Tensor) -> GaussianParameters:
    """Gaussians with offsets [G,14], by the rules of `plugins.Appearance`, before the activations again."""
    mean, turn, scale, opacity, colour = torch.split(offsets, [3, 4, 3, 1, 3], -1)
    if gaussians.scale_activation == "exp":
        scales = gaussians.scales + torch.log1p(scale)
    else:
        stretched = functional.softplus(gaussians.scales) * (1 + scale)
        scales = stretched + torch.log(-torch.expm1(-stretched))
    opacities = (gaussians.opacities.sigmoid() * torch.exp2(opacity[:, 0])).clamp_max(_MOST_OPAQUE)
    sh = torch.cat([gaussians.sh[:, :1] + colour[:, None], gaussians.sh[:, 1:]], 1)
    return replace(
        gaussians,
        means=gaussians.means + mean,
        quats=functional.normalize(gaussians.quats) + turn,
        scales=scales,
        opacities=torch.logit(opacities),
        sh=sh,
    )
