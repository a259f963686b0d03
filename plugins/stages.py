"""The steps of a frame one by one, for parity, tests and training data. `Renderer` fuses them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats, Ints, floats, indices, kernel_errors
from .camera import Camera
from .constants import JOINTS, MOUTH_MEAN_SCALE, MOUTH_SCALE_SCALE
from .errors import ControlError
from .models import Gaussians, Head, Mouth, checked_sh
from .renderer import checked_isa, checked_threads


class Bound(NamedTuple):
    """Gaussians in the world."""

    means: Floats
    """(G, 3) metres."""
    quats: Floats
    """(G, 4) unit, wxyz."""
    scales: Floats
    """(G, 3) standard deviations, metres."""


class MouthOffsets(NamedTuple):
    """What the mouth network adds to the mouth Gaussians."""

    d_mu: Floats
    """(M, 3) metres."""
    d_rot: Floats
    """(M, 4) wxyz, not normalised."""
    d_scale: Floats
    """(M, 3) before the softplus."""


def skin(
    head: Head, expression: npt.ArrayLike, pose: npt.ArrayLike, translation: npt.ArrayLike, isa: str = "auto"
) -> Floats:
    """Vertices (V, 3) of the posed head (system eq. 1).

    Args:
        head: the head.
        expression: (E,) coefficients.
        pose: (5, 3) axis-angle of root, neck, jaw, left eye, right eye.
        translation: (3,) metres, added last.
        isa: instruction set, as for `Renderer`.

    Raises:
        ControlError: if a shape is wrong or a value is not finite.
    """
    return _kernels.skin(
        head.kernel,
        floats("expression", expression, (head.expressions,), ControlError),
        floats("pose", pose, (JOINTS, 3), ControlError),
        floats("translation", translation, (3,), ControlError),
        checked_isa(isa),
    )


def bind(vertices: npt.ArrayLike, faces: npt.ArrayLike, gaussians: Gaussians) -> Bound:
    """Gaussians to the world by their triangles' frames (system eq. 7).

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3).
        gaussians: the Gaussians; every face_index must be below F.

    Raises:
        ControlError: if a shape is wrong, an index is out of range or a value is not finite.
    """
    points = floats("vertices", vertices, (None, 3), ControlError)
    triangles = indices("faces", faces, (None, 3), len(points), ControlError)
    indices("gaussians.face_index", gaussians.face_index, (None,), len(triangles), ControlError)
    return Bound(*_kernels.bind(points, triangles, gaussians.arrays))


def hash_grid(points: npt.ArrayLike, mouth: Mouth) -> Floats:
    """Features (N, 36) of points (N, 3) in metres: planes xy, yz, xz, each coarse to fine; 0 outside the bound."""
    return _kernels.hash_grid(floats("points", points, (None, 3), ControlError), mouth.arrays)


def mouth_offsets(points: npt.ArrayLike, encoded_audio: npt.ArrayLike, mouth: Mouth) -> MouthOffsets:
    """Offsets of the mouth Gaussians (system eq. 8).

    Args:
        points: (M, 3) their bound positions, metres.
        encoded_audio: (A,) the frame's audio encoding, before AdaIN.
        mouth: the network.

    Raises:
        ControlError: if a shape is wrong or a value is not finite.
    """
    features = hash_grid(points, mouth)
    audio = floats("encoded_audio", encoded_audio, (mouth.audio_size,), ControlError)
    raw = _kernels.mouth_network(features, audio, mouth.arrays)
    scale = np.float32(MOUTH_SCALE_SCALE)
    return MouthOffsets(raw[:, :3] * np.float32(MOUTH_MEAN_SCALE), raw[:, 3:7].copy(), raw[:, 7:] * scale)


def apply_mouth(bound: Bound, mouth: Mouth, offsets: MouthOffsets) -> Bound:
    """`bound` with the mouth moved: position adds, rotation composes q ⊗ unit(Δr), scale times softplus(Δs)."""
    count, moved = len(bound.means), len(mouth)
    indices("mouth.index", mouth.index, (None,), count, ControlError)
    means, quats, scales = (array.copy() for array in checked_bound(bound))
    _kernels.apply_mouth(
        mouth.index,
        floats("offsets.d_mu", offsets.d_mu, (moved, 3), ControlError),
        floats("offsets.d_rot", offsets.d_rot, (moved, 4), ControlError),
        floats("offsets.d_scale", offsets.d_scale, (moved, 3), ControlError),
        means,
        quats,
        scales,
    )
    return Bound(means, quats, scales)


def rasterize(
    bound: Bound,
    opacities: npt.ArrayLike,
    sh: npt.ArrayLike,
    sh_degree: int,
    camera: Camera,
    background: tuple[float, float, float] | None = None,
    isa: str = "auto",
    threads: int = 1,
) -> tuple[Floats, Floats]:
    """The picture (H, W, 3) and its alpha (H, W), float32, neither clamped nor quantised, by the kernels of `Renderer`.

    Args:
        bound: Gaussians in the world.
        opacities: (G,) in 0…1, after the sigmoid.
        sh: (G, K, 3) spherical harmonics.
        sh_degree: degree that is drawn.
        camera: the camera.
        background: colour behind the Gaussians, 0…1; None leaves what they emit (premultiplied by alpha).
        isa: instruction set, as for `Renderer`.
        threads: threads that draw.

    Raises:
        ControlError, CheckpointError: if an input is not what it should be.
        BackendError: if the instruction set is not available.
    """
    means, quats, scales = checked_bound(bound)
    colour = None if background is None else floats("background", background, (3,), ControlError)
    view_index: Ints = np.zeros(len(means), np.int32)
    arrays = _kernels.GaussianArrays(
        view_index,
        means,
        quats,
        scales,
        checked_opacities(opacities, len(means)),
        checked_sh(sh, len(means), sh_degree),
        int(sh_degree),
    )
    with kernel_errors():
        return _kernels.rasterize(
            arrays,
            camera.view,
            camera.intrinsics,
            int(camera.width),
            int(camera.height),
            None if colour is None else (float(colour[0]), float(colour[1]), float(colour[2])),
            checked_isa(isa),
            checked_threads(threads),
        )


def checked_bound(bound: Bound) -> Bound:
    """`bound` as contiguous float32 of matching lengths; ControlError if it is not."""
    means = floats("bound.means", bound.means, (None, 3), ControlError)
    return Bound(
        means,
        floats("bound.quats", bound.quats, (len(means), 4), ControlError),
        floats("bound.scales", bound.scales, (len(means), 3), ControlError),
    )


def checked_opacities(opacities: npt.ArrayLike, count: int) -> Floats:
    """`opacities` as (count,) in 0…1; ControlError if they are not."""
    alphas = floats("opacities", opacities, (count,), ControlError)
    if alphas.size and not (alphas.min() >= 0.0 and alphas.max() <= 1.0):
        raise ControlError("opacities must lie in 0…1; apply the sigmoid first")
    return alphas
