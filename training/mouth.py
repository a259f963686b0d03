"""Mouth head: residual offsets of the mouth Gaussians from a tri-plane hash grid and the audio (Eq. 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEAN_SCALE = 0.01
SCALE_SCALE = 0.001


@dataclass(frozen=True)
class MouthConfig:
    """The tri-plane grid and the MLP behind it. The defaults are the released network's."""

    levels: int = 12
    base_resolution: int = 16
    bound: float = 0.15  # metres; the grid covers [-bound, bound]
    width: int = 64

    @property
    def growth(self) -> float:
        """log2 of the resolution ratio of neighbouring levels; the finest is 256·bound."""
        return math.log2(256 * self.bound / self.base_resolution) / (self.levels - 1)

    def resolution(self, level: int) -> tuple[float, int]:
        """Scale and resolution of a level."""
        scale = 2 ** (level * self.growth) * self.base_resolution - 1
        return scale, math.ceil(scale) + 1

    def offsets(self) -> list[int]:
        """First row of each level in a plane's table; dense levels, rounded up to 8 rows."""
        rows = [0]
        for level in range(self.levels):
            side = self.resolution(level)[1] + 1
            rows.append(rows[-1] + -(-side * side // 8) * 8)
        return rows


class HashPlane(nn.Module):
    """One plane of the grid: a point in [0, 1]² to one feature a level, bilinear, 0 outside."""

    offsets: Tensor

    def __init__(self, config: MouthConfig) -> None:
        super().__init__()
        self.config = config
        offsets = config.offsets()
        self.embeddings = nn.Parameter(torch.empty(offsets[-1], 1).uniform_(-1e-4, 1e-4))
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int32))

    def forward(self, points: Tensor) -> Tensor:
        """[N, 2] in [0, 1] to [N, levels]."""
        inside = ((points >= 0) & (points <= 1)).all(-1)
        starts = self.config.offsets()
        levels = [self._level(points, level, starts) for level in range(self.config.levels)]
        return torch.where(inside[:, None], torch.stack(levels, -1), 0.0)

    def _level(self, points: Tensor, level: int, starts: list[int]) -> Tensor:
        scale, resolution = self.config.resolution(level)
        position = points * scale + 0.5
        corner = position.detach().floor()
        fraction = position - corner
        total = torch.zeros_like(points[:, 0])
        size = starts[level + 1] - starts[level]
        for dx in (0, 1):
            for dy in (0, 1):
                x, y = corner[:, 0].long() + dx, corner[:, 1].long() + dy
                row = (x + y * (resolution + 1)) % size + starts[level]
                wx = fraction[:, 0] if dx else 1 - fraction[:, 0]
                wy = fraction[:, 1] if dy else 1 - fraction[:, 1]
                total = total + wx * wy * self.embeddings[row, 0]
        return total


class MouthMLP(nn.Module):
    """Bias-free MLP with ReLU between its layers."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(nn.Linear(i, width, bias=False) for i in (inputs, width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[M, inputs] to [M, width]."""
        for index, layer in enumerate(self.net):
            x = layer(x if index == 0 else torch.relu(x))
        return x


class MouthHead(nn.Module):
    """Deformed mouth positions and encoded audio to Δμ, Δr, Δs."""

    def __init__(self, config: MouthConfig, audio_width: int) -> None:
        super().__init__()
        self.config = config
        self.xy, self.yz, self.xz = HashPlane(config), HashPlane(config), HashPlane(config)
        self.mlp = MouthMLP(3 * config.levels + audio_width, config.width)
        self.head = nn.Linear(config.width, 10)

    @staticmethod
    def of(
        config: MouthConfig, xy: HashPlane, yz: HashPlane, xz: HashPlane, mlp: MouthMLP, head: nn.Linear
    ) -> MouthHead:
        """A mouth head around existing parts."""
        mouth = MouthHead.__new__(MouthHead)
        nn.Module.__init__(mouth)
        mouth.config, mouth.xy, mouth.yz, mouth.xz = config, xy, yz, xz
        mouth.mlp, mouth.head = mlp, head
        return mouth

    def forward(self, points: Tensor, encoded_audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points [M, 3] (metres, deformed) and encoded audio [D] to Δμ [M, 3], Δr [M, 4], Δs [M, 3]."""
        unit = (points + self.config.bound) / (2 * self.config.bound)
        grid = torch.cat([self.xy(unit[:, :2]), self.yz(unit[:, 1:]), self.xz(unit[:, ::2])], -1)
        features = torch.cat([grid, encoded_audio.expand(len(points), -1)], -1)
        out = self.head(self.mlp(features))
        return out[:, :3] * MEAN_SCALE, out[:, 3:7], out[:, 7:] * SCALE_SCALE
