"""Gated Residual Motion Network: windows of audio tokens and action units to FLAME motion.

Names of parameters are those of a released `motion_state_dict`, so that one loads with `strict=True`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..runtime.errors import CheckpointError
from ..runtime.manifest import ACTION_UNITS, EMOTIONS
from .mouth import MouthConfig, MouthHead

NEUTRAL = EMOTIONS.index("neutral")


@dataclass(frozen=True)
class GRMNConfig:
    """Sizes of a GRMN. The defaults are the released network's.

    `steerable` decodes the residual from the emotion latent (paper, Eq. 6) and so lets a caller replace that latent;
    the released residual never sees it. `conditions` are the classes a caller may ask for: the seven of `EMOTIONS`
    first, then any more (such as contempt) that only a caller, never the audio, brings in.
    `gate`, `residual` and `adain` are the paper's components; an ablation switches them off: g is 1, the motion is the
    base alone, identity modulates nothing. Their parameters stay, so that one checkpoint serves every ablation.
    """

    hidden: int = 768  # of the audio encoder
    width: int = 256
    layers: int = 4
    heads: int = 8
    feedforward: int = 1024
    expression: int = 50
    au_width: int = 64
    identity: int = 512
    window_past: int = 8  # tokens of 20 ms
    window_future: int = 8
    smooth_past: int = 4  # frames of 40 ms
    smooth_future: int = 3
    positions: int = 1024  # length of the stored position table
    steerable: bool = False
    conditions: tuple[str, ...] = EMOTIONS
    gate: bool = True
    residual: bool = True
    adain: bool = True
    mouth: MouthConfig | None = MouthConfig()

    @property
    def window(self) -> int:
        """Tokens in a window."""
        return self.window_past + self.window_future

    @property
    def smoothing(self) -> int:
        """Windows that are averaged into a frame."""
        return self.smooth_past + 1 + self.smooth_future

    @staticmethod
    def released() -> GRMNConfig:
        """The network of the released implementation."""
        return GRMNConfig()

    def to_dict(self) -> dict[str, object]:
        """Plain values, as stored in a checkpoint."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, object]) -> GRMNConfig:
        """Inverse of `to_dict`.

        Raises:
            CheckpointError: a field is unknown.
        """
        known = {field.name for field in fields(GRMNConfig)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise CheckpointError(
                f"the motion network's configuration has unknown fields {unknown}: it was written by a newer version; "
                "update emotag"
            )
        mouth = values.get("mouth")
        conditions = values.get("conditions", EMOTIONS)
        assert isinstance(conditions, Sequence)
        rest = {name: value for name, value in values.items() if name not in ("mouth", "conditions")}
        return GRMNConfig(
            **rest,  # type: ignore[arg-type]
            conditions=tuple(str(name) for name in conditions),
            mouth=MouthConfig(**mouth) if isinstance(mouth, dict) else None,
        )


class Motion(NamedTuple):
    """What GRMN says of each frame; leading axes are those of the input."""

    expression: Tensor  # [..., E]  base + gate · residual
    jaw: Tensor  # [..., 3]  axis-angle, rad
    gate: Tensor  # [..., 1]  0…1
    emotion_logits: Tensor  # [..., 7]  the emotion latent z_e
    base_expression: Tensor  # [..., E]
    residual_expression: Tensor  # [..., E]
    encoded_audio: Tensor  # [..., D]  before AdaIN; the mouth head's input


class BiasFreeMLP(nn.Module):
    """Bias-free linear layers with ReLU between them."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.net = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """[..., first width] to [..., last width]."""
        for index, layer in enumerate(self.net):
            x = layer(x if index == 0 else torch.relu(x))
        return x


class Positions(nn.Module):
    """Sinusoidal position table [1, positions, D]."""

    pe: Tensor

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        angle = torch.arange(positions)[:, None] * torch.exp(
            torch.arange(0, width, 2) * (-torch.log(torch.tensor(10000.0)) / width)
        )
        table = torch.stack([angle.sin(), angle.cos()], -1).reshape(1, positions, width)
        self.register_buffer("pe", table)

    def forward(self, x: Tensor) -> Tensor:
        """[..., tokens, D] with the position of every token added."""
        return x + self.pe[:, : x.shape[-2]]


class EncoderStack(nn.Module):
    """Post-norm ReLU Transformer encoder, written out so that every exporter sees plain matrix products.

    Parameters are named and shaped as in `nn.TransformerEncoder`.
    """

    def __init__(self, config: GRMNConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(config.width, config.heads, config.feedforward, dropout=0.0, batch_first=True)
            for _ in range(config.layers)
        )
        self.heads = config.heads

    def forward(self, x: Tensor) -> Tensor:
        """[N, W, D] to [N, W, D]."""
        for layer in self.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            x = layer.norm1(x + self._attend(layer.self_attn, x))
            x = layer.norm2(x + layer.linear2(torch.relu(layer.linear1(x))))
        return x

    def _attend(self, attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
        count, length, width = x.shape
        head = width // self.heads
        qkv = nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = qkv.reshape(count, length, 3, self.heads, head).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * head**-0.5) @ k.transpose(-1, -2)
        mixed = torch.softmax(scores, -1) @ v
        out: Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(count, length, width))
        return out


def adaptive_instance_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """AdaIN over channels (Eq. 4-5), with the unbiased standard deviation."""
    mean = x.mean(-1, keepdim=True)
    return (1 + gamma) * (x - mean) / (x.std(-1, keepdim=True) + 1e-5) + beta


class GRMN(nn.Module):
    """The motion network (spec §1)."""

    def __init__(self, config: GRMNConfig) -> None:
        super().__init__()
        self.config = config
        d, a = config.width, config.au_width
        self.audio_proj = nn.Linear(config.hidden, d)
        self.pos_encoder = Positions(d, config.positions)
        self.audio_transformer = EncoderStack(config)
        self.au_encoder = nn.Sequential(nn.Linear(len(ACTION_UNITS), a), nn.ReLU(), nn.Linear(a, a), nn.ReLU())
        self.au_fusion = nn.Linear(a, d)
        self.audio_adain = nn.Sequential(nn.Linear(config.identity, 256), nn.ReLU(), nn.Linear(256, 2 * d))
        self.au_adain = nn.Sequential(nn.Linear(config.identity, 256), nn.ReLU(), nn.Linear(256, 2 * a))
        self.backbone_net = BiasFreeMLP([d] * 5)
        self.flame_exp_head = nn.Linear(d, config.expression)
        self.flame_jaw_head = nn.Linear(d, 3)
        self.residual_net = BiasFreeMLP([d] * 3)
        self.residual_motion_head = nn.Linear(d, config.expression + 3)
        self.gate_net = nn.Sequential(nn.Linear(d, d // 2), nn.ReLU(), nn.Linear(d // 2, 1))
        self.emotion_head = nn.Linear(d, len(EMOTIONS))
        if config.steerable:
            self.emotion_decoder = nn.Linear(len(config.conditions), d)
        if config.mouth is not None:
            self._add_mouth(MouthHead(config.mouth, d))

    def _add_mouth(self, mouth: MouthHead) -> None:
        # A released state dict holds the mouth head's parts at its top level.
        self.encoder_xy, self.encoder_yz, self.encoder_xz = mouth.xy, mouth.yz, mouth.xz
        self.mouth_mlp, self.mouth_head = mouth.mlp, mouth.head

    def mouth(self) -> MouthHead:
        """The mouth head, sharing this network's parameters.

        Raises:
            CheckpointError: the network was made without one.
        """
        if self.config.mouth is None:
            raise CheckpointError("this motion network has no mouth head: set GRMNConfig.mouth when it is made")
        return MouthHead.of(
            self.config.mouth,
            self.encoder_xy,
            self.encoder_yz,
            self.encoder_xz,
            self.mouth_mlp,
            self.mouth_head,
        )

    def encode(self, windows: Tensor) -> Tensor:
        """Encode windows [..., W, H] of audio tokens to [..., D]."""
        lead = windows.shape[:-2]
        x: Tensor = self.pos_encoder(self.audio_proj(windows.reshape(-1, *windows.shape[-2:])))
        x = self.audio_transformer(x)
        return x.mean(-2).reshape(*lead, self.config.width)

    def modulation(self, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Audio and AU modulation (γ, β concatenated; Eq. 4) of an identity feature [..., 512]."""
        return self.audio_adain(identity), self.au_adain(identity)

    def decode(
        self,
        encodings: Tensor,
        aus: Tensor,
        modulation: tuple[Tensor, Tensor] | None,
        emotion: Tensor | None = None,
        emotion_weight: Tensor | None = None,
    ) -> Motion:
        """Decode encodings [..., D] with action units [..., 6] (0…5).

        `modulation` comes from `modulation`, broadcastable to the leading axes; None bypasses AdaIN, as the released
        code does when the identity file is missing. `emotion` [..., C] are probabilities over `conditions`;
        `emotion_weight` [..., 1] in 0…1 mixes them into the latent that the residual is decoded from, and their
        intensity 1 - p(neutral) into the gate.
        """
        audio, au = encodings, self.au_encoder(aus)
        if modulation is not None and self.config.adain:
            audio = adaptive_instance_norm(audio, *modulation[0].chunk(2, -1))
            au = adaptive_instance_norm(au, *modulation[1].chunk(2, -1))
        shared = self.backbone_net(audio) + self.au_fusion(au)
        logits = self.emotion_head(shared)
        gate = torch.sigmoid(self.gate_net(shared))
        latent, gate = self._latent(shared, logits, gate, emotion, emotion_weight)
        if not self.config.gate:
            gate = torch.ones_like(gate)
        base = torch.cat([self.flame_exp_head(shared), self.flame_jaw_head(shared)], -1)
        if self.config.residual:
            residual = self.residual_motion_head(self.residual_net(latent))
        else:
            residual = torch.zeros_like(base)
        motion = base + gate * residual
        e = self.config.expression
        return Motion(motion[..., :e], motion[..., e:], gate, logits, base[..., :e], residual[..., :e], encodings)

    def _latent(
        self, shared: Tensor, logits: Tensor, gate: Tensor, emotion: Tensor | None, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the residual is decoded from, and the gate, both after the caller's wish."""
        if not self.config.steerable:
            if emotion is not None:
                raise CheckpointError(
                    "this network's residual never sees the emotion latent, so a class cannot steer it: "
                    "train with GRMNConfig(steerable=True)"
                )
            return shared, gate
        extra = len(self.config.conditions) - len(EMOTIONS)
        p = nn.functional.pad(torch.softmax(logits, -1), (0, extra))
        if emotion is not None and weight is not None:
            p = (1 - weight) * p + weight * emotion
            intensity = 1 - emotion[..., NEUTRAL : NEUTRAL + 1]
            gate = (1 - weight) * gate + weight * intensity
        return shared + self.emotion_decoder(p), gate

    def smooth(self, encodings: Tensor) -> Tensor:
        """Encodings [..., T, D] to the S neighbours of every frame [..., T, S, D].

        Frames outside the clip are encodings of all-zero windows.
        """
        c = self.config
        zero = self.encode(encodings.new_zeros(1, c.window, c.hidden))
        shape = encodings.shape[:-2]
        before = zero.expand(*shape, c.smooth_past, c.width)
        after = zero.expand(*shape, c.smooth_future, c.width)
        padded = torch.cat([before, encodings, after], -2)
        return padded.unfold(-2, c.smoothing, 1).transpose(-1, -2)

    def forward(
        self,
        windows: Tensor,
        aus: Tensor,
        identity: Tensor | None,
        emotion: Tensor | None = None,
        emotion_weight: Tensor | None = None,
    ) -> Motion:
        """Windows [..., T, W, H] and AUs [..., T, 6] of a clip to its motion.

        `identity` is [512] or [..., 512] with the clip's leading axes. `emotion` [..., T, C] and `emotion_weight`
        [..., T, 1] as in `decode`.
        """
        return self.frames(self.smooth(self.encode(windows)), aus, identity, emotion, emotion_weight)

    def frames(
        self,
        around: Tensor,
        aus: Tensor,
        identity: Tensor | None,
        emotion: Tensor | None = None,
        emotion_weight: Tensor | None = None,
    ) -> Motion:
        """Encodings around every frame [..., T, S, D], as `smooth` gives them, to motion; the rest as in `forward`."""
        size = (*around.shape[:-1], -1)
        if identity is not None and identity.dim() > 1:
            identity = identity[..., None, None, :]
        who = None if identity is None else self.modulation(identity)
        wish = None if emotion is None else emotion[..., None, :].expand(size)
        weight = None if emotion_weight is None else emotion_weight[..., None, :].expand(size)
        decoded = self.decode(around, aus[..., None, :].expand(size), who, wish, weight)
        return Motion(*(part.mean(-2) for part in decoded))


def token_windows(tokens: Tensor, past: int, future: int) -> Tensor:
    """Windows of a streamed clip: tokens [..., 2T, H] to [..., T, past + future, H].

    Window f is the tokens [2f - past, 2f + future). Tokens before the first are copies of the first, and after the
    last of the last; live, silence follows instead, so train on audio that ends in silence.
    """
    count = tokens.shape[-2] // 2
    index = 2 * torch.arange(count)[:, None] + torch.arange(-past, future)[None]
    return tokens[..., index.clamp(0, tokens.shape[-2] - 1), :]
