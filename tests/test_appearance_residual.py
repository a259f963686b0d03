"""The emotional residual of the Gaussians: nothing when neutral, bounded, kept in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from emotag.runtime.errors import CheckpointError, ControlError
from emotag.training.checkpoint import Checkpoint, load_checkpoint
from emotag.training.command import main
from emotag.training.emotional_residual import BOUNDS, EmotionalResidual, ResidualConfig, make_residual, wear
from emotag.training.emotional_residual_fit import FitOptions
from emotag.training.render import GaussianParameters


def felt_checkpoint() -> Checkpoint:
    """An avatar whose residual does something everywhere."""
    checkpoint = tiny.checkpoint()
    residual = make_residual(checkpoint.avatar, checkpoint.motion.config, seed=1, rank=3)
    with torch.no_grad():
        residual.raw.copy_(torch.randn(residual.raw.shape, generator=torch.Generator().manual_seed(2)))
        residual.out.bias.add_(1.0)
    checkpoint.appearance = residual.eval()
    return checkpoint


@pytest.fixture(scope="module")
def felt() -> Checkpoint:
    return felt_checkpoint()


def residual_of(checkpoint: Checkpoint) -> EmotionalResidual:
    assert checkpoint.appearance is not None
    return checkpoint.appearance


def inputs_of(residual: EmotionalResidual, count: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    own, generator = residual.config, torch.Generator().manual_seed(3)
    displacement, audio = (torch.randn(count, n, generator=generator) for n in (own.expression, own.audio))
    return displacement, audio, torch.rand(count, own.classes, generator=generator).softmax(-1)


def test_neutral_is_exactly_nothing(felt: Checkpoint) -> None:
    residual = residual_of(felt)
    displacement, audio, _ = inputs_of(residual)
    neutral = torch.eye(residual.config.classes)[residual.config.neutral].expand(5, -1)
    found = residual.coefficients(displacement, audio, neutral)
    assert found.shape == (5, 3) and torch.count_nonzero(found) == 0


def test_every_input_is_heard(felt: Checkpoint) -> None:
    residual = residual_of(felt)
    inputs = inputs_of(residual)
    plain = residual.coefficients(*inputs)
    for number in range(3):
        changed = list(inputs)
        changed[number] = changed[number].flip(0)
        assert not torch.allclose(residual.coefficients(*changed), plain, atol=1e-4), number


def test_offsets_are_bounded_and_leave_the_mouth_its_shape(felt: Checkpoint) -> None:
    residual = residual_of(felt)
    found = residual.coefficients(*inputs_of(residual))
    assert bool((found != 0).all())
    offsets = torch.stack([residual.offsets(row) for row in found])
    assert offsets.shape == (5, residual.config.gaussians, 14)
    assert bool((offsets.abs() <= torch.tensor(BOUNDS)).all())
    mouth = torch.from_numpy(felt.avatar["mouth.index"].astype(np.int64))
    assert len(mouth) and torch.count_nonzero(offsets[:, mouth, :10]) == 0
    assert torch.count_nonzero(offsets[:, mouth, 10:]) > 0


def test_a_fresh_one_adds_nothing_and_can_learn() -> None:
    checkpoint = tiny.checkpoint()
    residual = make_residual(checkpoint.avatar, checkpoint.motion.config)
    offsets = residual.offsets(residual.coefficients(*inputs_of(residual))[0])
    assert torch.count_nonzero(offsets) == 0
    offsets.sum().backward()
    assert residual.raw.grad is not None and torch.count_nonzero(residual.raw.grad) > 0


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_wearing_changes_every_attribute_by_its_rule(activation: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    kept = (some(9, 3), some(9, 4), some(9, 3), some(9), some(9, 4, 3))
    plain = GaussianParameters(torch.arange(9), *kept, sh_degree=1, scale_activation=activation)  # type: ignore[arg-type]
    offsets = some(9, 14).clamp(-1, 1) * torch.tensor(BOUNDS, dtype=torch.float64)
    worn = wear(plain, offsets)
    activate = torch.exp if activation == "exp" else torch.nn.functional.softplus
    torch.testing.assert_close(worn.means, plain.means + offsets[:, :3])
    unit = plain.quats / plain.quats.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(worn.quats, unit + offsets[:, 3:7])
    torch.testing.assert_close(activate(worn.scales), activate(plain.scales) * (1 + offsets[:, 7:10]))
    opacity = (plain.opacities.sigmoid() * 2 ** offsets[:, 10]).clamp_max(1)
    torch.testing.assert_close(worn.opacities.sigmoid(), opacity, atol=2e-6, rtol=0)
    torch.testing.assert_close(worn.sh[:, 0], plain.sh[:, 0] + offsets[:, 11:])
    assert torch.equal(worn.sh[:, 1:], plain.sh[:, 1:])


def test_checkpoint_round_trip(felt: Checkpoint, tmp_path: Path) -> None:
    felt.save(tmp_path / "a.pt")
    again = residual_of(load_checkpoint(tmp_path / "a.pt"))
    inputs = inputs_of(again)
    assert torch.equal(again.coefficients(*inputs), residual_of(felt).coefficients(*inputs))
    assert torch.equal(again.basis(), residual_of(felt).basis())
    plain = tiny.checkpoint()
    plain.save(tmp_path / "b.pt")
    assert load_checkpoint(tmp_path / "b.pt").appearance is None
    assert "appearance" not in torch.load(tmp_path / "b.pt", weights_only=True)


def test_residuals_that_do_not_fit_are_refused(felt: Checkpoint, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    checkpoint.appearance = make_residual(tiny.avatar(count=300), checkpoint.motion.config)
    with pytest.raises(CheckpointError, match="emotional residual"):
        checkpoint.validate()
    felt.save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["appearance"]["state"]["raw"]
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="emotional residual's tensors do not fit"):
        load_checkpoint(tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="unknown fields"):
        ResidualConfig.from_dict({"colour": 3})
    with pytest.raises(CheckpointError, match="sizes"):
        ResidualConfig(9, 7, 256, 8, 8)


def test_the_command_refuses_in_one_line(felt: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    avatar = tmp_path / "a.pt"
    felt.save(avatar)
    assert main(["appearance", str(avatar), str(tmp_path), "-o", str(avatar)]) == 1
    assert "is the avatar itself" in capsys.readouterr().err
    assert main(["appearance", str(avatar), str(tmp_path), "-o", str(tmp_path / "b.pt"), "--rank", "9"]) == 1
    assert "rank" in capsys.readouterr().err
    with pytest.raises(ControlError, match="steps"):
        FitOptions(steps=0)
