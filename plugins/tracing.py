"""Pictures with a way back: a forward pass that remembers, and the gradients of a loss in what it was made of.

The training side's `emotag.training.render` is the differentiable interface; this is its kernel, in arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats, floats, kernel_errors
from .camera import Camera
from .errors import ControlError
from .models import checked_sh
from .renderer import checked_isa, checked_threads
from .stages import Bound, checked_bound, checked_opacities

FEATURES = 4
"""Extra channels that can be blended beside the colours."""


class Traced(NamedTuple):
    """A picture and what the way back needs."""

    picture: Floats
    """(3, H, W) colours, or (7, H, W) colours and features; premultiplied by alpha, no background."""
    alpha: Floats
    """(H, W)."""
    trace: _kernels.Trace
    """Opaque; holds the inputs."""

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """(G,) which Gaussians touch the picture."""
        return self.trace.visible().astype(np.bool_)


class TraceGradients(NamedTuple):
    """Gradients of a loss, shaped as the inputs of `Tracer.forward`."""

    means: Floats
    quats: Floats
    scales: Floats
    opacities: Floats
    sh: Floats
    features: Floats
    """(G, 4), or (G, 0) if there were none."""
    points: Floats
    """(G, 2) of the projected means, pixels: what densification counts."""


class Tracer:
    """Renders for training: blending stops where 3DGS does (transmittance below 1e-4), pixel by pixel.

    Gradients are deterministic for a thread count; another count adds up in another order.

    Args:
        threads: threads that share a picture; 0 is one for each core.
        isa: instruction set, as for `Renderer`.

    Raises:
        ControlError: if the thread count is out of range.
        BackendError: if the instruction set is not available.
    """

    def __init__(self, threads: int = 1, isa: str = "auto") -> None:
        self._kernel = _kernels.Tracer(checked_isa(isa), checked_threads(threads))

    @property
    def cpu_timings(self) -> dict[str, float]:
        """Milliseconds of processor time of the calling thread, by stage of the last forward and backward pass."""
        stages = ("project", "sort", "blend", "blend_backward", "project_backward")
        return dict(zip(stages, self._kernel.cpu_milliseconds(), strict=True))

    def forward(
        self,
        bound: Bound,
        opacities: npt.ArrayLike,
        sh: npt.ArrayLike,
        sh_degree: int,
        camera: Camera,
        features: npt.ArrayLike | None = None,
    ) -> Traced:
        """Draws Gaussians of the world.

        Args:
            bound: means (G, 3) metres, quats (G, 4) of any length, scales (G, 3) metres.
            opacities: (G,) in 0…1, after the sigmoid.
            sh: (G, K, 3) spherical harmonics.
            sh_degree: degree that is drawn.
            camera: the camera.
            features: (G, 4) values that are blended as colours are, or None.

        Raises:
            ControlError, CheckpointError: if an input is not what it should be, or the picture is too much to draw.
        """
        means, quats, scales = checked_bound(bound)
        if not len(means):
            raise ControlError("there are no Gaussians to train; initialise some on the head")
        extra = None if features is None else floats("features", features, (len(means), FEATURES), ControlError)
        with kernel_errors():
            trace, picture, alpha = self._kernel.forward(
                means,
                quats,
                scales,
                checked_opacities(opacities, len(means)),
                checked_sh(sh, len(means), sh_degree),
                int(sh_degree),
                extra,
                camera.view,
                camera.intrinsics,
                int(camera.width),
                int(camera.height),
            )
        return Traced(picture, alpha, trace)

    def backward(self, traced: Traced, d_picture: npt.ArrayLike, d_alpha: npt.ArrayLike) -> TraceGradients:
        """The gradients of a loss, from its gradients in the picture and in alpha, of their shapes.

        Raises:
            ControlError: if a shape is wrong or a value is not finite: the loss has overflowed, or is not a number.
        """
        return TraceGradients(
            *self._kernel.backward(
                traced.trace,
                traced.picture,
                traced.alpha,
                floats("gradient of the picture", d_picture, traced.picture.shape, ControlError),
                floats("gradient of alpha", d_alpha, traced.alpha.shape, ControlError),
            )
        )
