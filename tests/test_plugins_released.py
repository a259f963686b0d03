"""The released fixture, where it lies beside the checkout: geometry and pictures of another renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference

from emotag import plugins

RELEASED = Path(__file__).parent.parent.parent / "shared" / "released"
pytestmark = pytest.mark.skipif(not RELEASED.is_dir(), reason="needs the released checkpoint")


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(RELEASED / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def avatar() -> tuple[plugins.Scene, dict[str, np.ndarray]]:
    """The scene, and the cues of its frames."""
    from emotag.training.released import load_released

    checkpoint = load_released(RELEASED / "chkpnt_face_latest.pth", RELEASED / "scene", RELEASED / "generic_model.pkl")
    arrays = {name: np.asarray(value) for name, value in checkpoint.avatar.items()}

    def group(prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}

    gaussians = plugins.Gaussians(
        **group("gaussians."),
        active_sh_degree=checkpoint.info.active_sh_degree,
        scale_activation="softplus",
    )
    mouth = _mouth(arrays["mouth.index"])
    return plugins.Scene(plugins.Head(**group("head.")), gaussians, mouth), dict(checkpoint.cues)


def _mouth(index: np.ndarray) -> plugins.Mouth:
    import torch

    content = torch.load(RELEASED / "chkpnt_face_latest.pth", weights_only=True)
    state = {name: value.detach().numpy() for name, value in content[1].items()}
    return plugins.Mouth(
        index=index,
        bound=0.15,
        xy=state["encoder_xy.embeddings"],
        yz=state["encoder_yz.embeddings"],
        xz=state["encoder_xz.embeddings"],
        offsets=state["encoder_xy.offsets"],
        layers=(
            state["mouth_mlp.net.0.weight"],
            state["mouth_mlp.net.1.weight"],
            state["mouth_mlp.net.2.weight"],
        ),
        head_weight=state["mouth_head.weight"],
        head_bias=state["mouth_head.bias"],
    )


@pytest.mark.parametrize("isa", plugins.supported_isas())
@pytest.mark.parametrize("row", range(3))
def test_frame(
    avatar: tuple[plugins.Scene, dict[str, np.ndarray]], expected: dict[str, np.ndarray], isa: str, row: int
) -> None:
    scene, cues = avatar
    assert scene.mouth is not None
    frame = int(expected["render_frames"][row])
    eyes = cues["eyes"][frame]
    pose = np.stack([cues["rotation"][frame], cues["neck"][frame], expected["jaw"][frame], eyes[:3], eyes[3:]])
    controls = (expected["expression"][frame], pose, cues["translation"][frame])
    camera = plugins.Camera(cues["view"][frame], *(float(x) for x in cues["intrinsics"][frame]), 256, 256)

    vertices = plugins.skin(scene.head, *controls, isa=isa)
    assert np.abs(vertices - expected["vertices"][row]).max() < 1e-6
    bound = plugins.bind(vertices, scene.head.faces, scene.gaussians)
    offsets = plugins.mouth_offsets(bound.means[scene.mouth.index], expected["encoded_audio"][frame], scene.mouth)
    for got, name in zip(offsets, ("d_mu", "d_rot", "d_scale"), strict=True):
        assert np.abs(got - expected[name][row]).max() < 1e-5 * np.abs(expected[name][row]).max()
    bound = plugins.apply_mouth(bound, scene.mouth, offsets)
    position, scale, rotation = (expected[name][row] for name in ("position", "scale", "rotation"))
    assert np.abs(bound.means - position).max() < 1e-5 * np.abs(position).max()
    assert (np.abs(bound.scales - scale) < 1e-5 * scale).all()
    # The released matrix-to-quaternion formula loses precision near half-turns, in a dozen Gaussians.
    off = np.abs(np.abs((bound.quats * rotation).sum(axis=1)) - 1)
    assert (off < 1e-6).mean() > 0.998 and off.max() < 1e-3

    gaussians = scene.gaussians
    inputs = (gaussians.activated_opacities(), gaussians.sh, gaussians.active_sh_degree, camera)
    rgb, alpha = plugins.rasterize(bound, *inputs, (1, 1, 1), isa)
    assert reference.decibels(rgb, expected["render_rgb"][row]) > 65
    assert reference.decibels(alpha, expected["render_alpha"][row]) > 60
    picture = plugins.Renderer(scene, 1, isa).draw(*controls, camera, expected["encoded_audio"][frame])
    wanted = np.floor(np.clip(expected["render_rgb"][row], 0, 1) * 255)
    assert reference.decibels(picture, wanted, 255) > 58
