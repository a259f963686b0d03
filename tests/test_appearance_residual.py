"""The emotional residual of the Gaussians: nothing when neutral, bounded, kept in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import trainer_fixture

from emotag import plugins
from emotag.runtime.errors import CheckpointError, ControlError
from emotag.training.checkpoint import Checkpoint, load_checkpoint
from emotag.training.command import main
from emotag.training.emotional_residual import BOUNDS, EmotionalResidual, ResidualConfig, make_residual, wear
from emotag.training.emotional_residual_fit import FitOptions, Studio, fit
from emotag.training.render import GaussianParameters, HeadTensors, Motion, render


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


def scene_of(checkpoint: Checkpoint, activation: str = "exp") -> plugins.Scene:
    """The avatar as the kernels hold it."""
    arrays = checkpoint.avatar
    values = {name[10:]: array for name, array in arrays.items() if name.startswith("gaussians.")}
    gaussians = plugins.Gaussians(**values, active_sh_degree=0, scale_activation=activation)  # type: ignore[arg-type]
    head = plugins.Head(**{name[5:]: array for name, array in arrays.items() if name.startswith("head.")})
    return plugins.Scene(head, gaussians)


@pytest.mark.parametrize("isa", plugins.supported_isas())
@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_kernels_wear_what_training_wears(felt: Checkpoint, activation: str, isa: str) -> None:
    """The runtime's picture is the training renderer's, for every attribute that is offset."""
    scene, residual = scene_of(felt, activation), residual_of(felt)
    basis = residual.basis().detach().half().double()
    coefficients = torch.tensor([0.9, -0.7, 0.8], dtype=torch.float64)
    view, sizes = felt.cues["view"][0].astype(np.float64), (felt.info.width, felt.info.height)
    camera = plugins.Camera(view, *(float(x) for x in felt.cues["intrinsics"][0]), *sizes)
    still = np.zeros(tiny.EXPRESSIONS, np.float32), np.zeros((5, 3), np.float32), felt.cues["translation"][0]
    renderer = plugins.Renderer(scene, threads=1, isa=isa)
    plain = renderer.draw(*still, camera)
    renderer.wear(plugins.Appearance(scene, basis.numpy()), coefficients.numpy())
    worn = renderer.draw(*still, camera)
    assert np.abs(worn.astype(int) - plain).max() > 8
    assert (renderer.draw(*still, camera) == worn).all()
    renderer.wear(None)
    assert (renderer.draw(*still, camera) == plain).all()
    with torch.no_grad():
        trained = wear(GaussianParameters.of(scene.gaussians), torch.tensordot(coefficients, basis, 1).float())
        motion = Motion(*(torch.from_numpy(np.asarray(x, np.float32)) for x in still))
        drawn = render(HeadTensors.of(scene.head), trained, motion, camera, torch.ones(3)).rgb
    wanted = drawn.permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(worn - wanted).max() < 4 and np.abs(worn - wanted).mean() < 1


def test_threads_wear_the_same(felt: Checkpoint) -> None:
    scene = scene_of(felt)
    appearance = plugins.Appearance(scene, residual_of(felt).basis().detach().numpy())
    view = felt.cues["view"][0].astype(np.float64)
    camera = plugins.Camera(view, *(float(x) for x in felt.cues["intrinsics"][0]), 64, 48)
    pictures = []
    for threads in (1, 3):
        renderer = plugins.Renderer(scene, threads=threads)
        renderer.wear(appearance, [0.5, 1.0, -1.0])
        pictures.append(renderer.draw(np.zeros(tiny.EXPRESSIONS), np.zeros((5, 3)), np.zeros(3), camera))
    assert (pictures[0] == pictures[1]).all()


def test_appearances_that_do_not_fit_are_refused(felt: Checkpoint) -> None:
    scene, count = scene_of(felt), residual_of(felt).config.gaussians
    for shape in ((2, count - 1, 14), (2, count, 13), (0, count, 14), (65, count, 14), (count, 14)):
        with pytest.raises(CheckpointError, match="appearance.offsets"):
            plugins.Appearance(scene, np.zeros(shape, np.float32))
    with pytest.raises(CheckpointError, match="finite"):
        plugins.Appearance(scene, np.full((1, count, 14), np.nan, np.float32))
    appearance, renderer = plugins.Appearance(scene, np.zeros((2, count, 14))), plugins.Renderer(scene, threads=1)
    for wrong in (None, [1.0], [1.0, np.inf], "no"):
        with pytest.raises(ControlError, match="coefficients"):
            renderer.wear(appearance, wrong)  # type: ignore[arg-type]
    with pytest.raises(ControlError, match="another scene"):
        plugins.Renderer(scene_of(felt), threads=1).wear(appearance, [1.0, 1.0])


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


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Studio]:
    """The egg in front of a clip whose emotion features show some."""
    folder = tmp_path_factory.mktemp("felt")
    checkpoint = load_checkpoint(trainer_fixture.write_start(folder / "start.pt"))
    scene = trainer_fixture.write_scene(folder / "scene", maps=False)
    angry = np.tile(np.eye(7, dtype=np.float32)[0], (trainer_fixture.FRAMES, 1))
    np.save(scene / "emotion_features.npy", angry)
    return checkpoint, Studio(checkpoint, scene, trainer_fixture.head(), 32)


def learned(studio: tuple[Checkpoint, Studio], **options: float) -> EmotionalResidual:
    return fit(studio[0], [studio[1]], FitOptions(steps=16, size=32, **options))  # type: ignore[arg-type]


@torch.no_grad()
def error(scene: Studio, residual: EmotionalResidual | None) -> float:
    """Of the training pictures over white."""
    white, total = torch.ones(3), 0.0
    for index in scene.subject.train_indices:
        drawn = scene.draw(index, residual, white, True).rgb
        total += float(torch.nn.functional.mse_loss(drawn, scene.subject.target(index, white, crop=True).rgb))
    return total


def test_it_learns_from_pictures_the_same_way_every_time(studio: tuple[Checkpoint, Studio]) -> None:
    first, again = learned(studio), learned(studio)
    assert error(studio[1], first) < 0.99 * error(studio[1], None)
    assert torch.equal(first.basis(), again.basis()) and torch.count_nonzero(first.basis()) > 0
    small = learned(studio, decay=10.0)
    assert small.basis().abs().mean() < 0.7 * learned(studio, decay=0.0).basis().abs().mean()


def test_other_audio_moves_the_residual_and_nothing_else(studio: tuple[Checkpoint, Studio]) -> None:
    residual, scene = learned(studio), studio[1]
    index, other = scene.subject.train_indices[0], scene.subject.train_indices[-1]
    with torch.no_grad():
        own, heard = (scene.draw(index, residual, torch.ones(3), True, audio_of=one).rgb for one in (None, other))
        plain, same = (scene.draw(index, None, torch.ones(3), True, audio_of=one).rgb for one in (None, other))
    assert torch.equal(plain, same)
    assert not torch.equal(own, heard) and not torch.equal(own, plain)


@pytest.mark.parametrize("wrong", [{"decay": -1.0}, {"decay": float("nan")}, {"other_audio": 1.5}])
def test_bad_ways_to_learn_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ControlError, match="other_audio"):
        FitOptions(**wrong)  # type: ignore[arg-type]
