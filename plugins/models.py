"""What an avatar is made of: a head, Gaussians bound to it, and the mouth network. Checked once, immutable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats, Ints, floats, frozen, indices
from .constants import (
    GRID_BASE,
    GRID_FEATURES,
    GRID_FINEST,
    GRID_LEVELS,
    JOINTS,
    MAX_SH_DEGREE,
    MOUTH_HIDDEN,
    MOUTH_OUTPUTS,
    POSE_FEATURES,
)
from .errors import CheckpointError

ScaleActivation = Literal["softplus", "exp"]


@dataclass(frozen=True, eq=False)
class Head:
    """A head in FLAME's layout, the identity's shape applied (system eq. 1). Metres.

    Attributes:
        template: (V, 3) rest vertices.
        faces: (F, 3) int32.
        expression_basis: (E, V, 3).
        pose_basis: (36, V, 3), times R - I of joints 1-4, row-major.
        joints: (5, 3) at rest: root, neck, jaw, left eye, right eye.
        joint_expression_basis: (E, 5, 3).
        weights: (V, 5) skinning weights.
        parents: (5,) each joint's parent, an earlier joint; -1 for the root.

    Raises:
        CheckpointError: if shapes disagree, an index is out of range or a value is not finite.
    """

    template: Floats
    faces: Ints
    expression_basis: Floats
    pose_basis: Floats
    joints: Floats
    joint_expression_basis: Floats
    weights: Floats
    parents: Ints
    kernel: _kernels.Head = field(init=False, repr=False)

    def __post_init__(self) -> None:
        error = CheckpointError
        template = floats("head.template", self.template, (None, 3), error)
        expression_basis = floats("head.expression_basis", self.expression_basis, (None, len(template), 3), error)
        count = (len(expression_basis), JOINTS, 3)
        frozen(
            self,
            template=template,
            faces=indices("head.faces", self.faces, (None, 3), len(template), error),
            expression_basis=expression_basis,
            pose_basis=floats("head.pose_basis", self.pose_basis, (POSE_FEATURES, len(template), 3), error),
            joints=floats("head.joints", self.joints, (JOINTS, 3), error),
            joint_expression_basis=floats("head.joint_expression_basis", self.joint_expression_basis, count, error),
            weights=floats("head.weights", self.weights, (len(template), JOINTS), error),
            parents=_parents(self.parents),
        )
        if not len(self.template) or not len(self.faces):
            raise CheckpointError("head has no vertices or no faces")
        object.__setattr__(self, "kernel", _kernels.Head(*(getattr(self, name) for name in _HEAD_FIELDS)))

    @property
    def expressions(self) -> int:
        """E, the number of expressions."""
        return len(self.expression_basis)


_HEAD_FIELDS = (
    "template",
    "faces",
    "expression_basis",
    "pose_basis",
    "joints",
    "joint_expression_basis",
    "weights",
    "parents",
)


def _parents(values: npt.ArrayLike) -> Ints:
    parents = indices("head.parents + 1", np.asarray(values) + 1, (JOINTS,), JOINTS + 1, CheckpointError) - 1
    if parents[0] != -1 or any(not 0 <= parents[j] < j for j in range(1, JOINTS)):
        raise CheckpointError(f"head.parents must be -1, then an earlier joint each, not {parents.tolist()}")
    return parents.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians bound to triangles (system eq. 7), as they are trained: before the activations.

    Attributes:
        face_index: (G,) int32, the triangle of each.
        means: (G, 3) in the triangle's frame, in units of its scale k.
        quats: (G, 4) wxyz, any length but zero.
        scales: (G, 3) before the activation.
        opacities: (G,) before the sigmoid.
        sh: (G, K, 3) spherical harmonics, K = (stored degree + 1)², degree 0 to 3.
        active_sh_degree: degree that is drawn, at most the stored one.
        scale_activation: "softplus" or "exp".

    Raises:
        CheckpointError: if shapes disagree, a value is not finite or a degree is not stored.
    """

    face_index: Ints
    means: Floats
    quats: Floats
    scales: Floats
    opacities: Floats
    sh: Floats
    active_sh_degree: int
    scale_activation: ScaleActivation
    arrays: _kernels.GaussianArrays = field(init=False, repr=False)

    def __post_init__(self) -> None:
        error = CheckpointError
        face_index = indices("gaussians.face_index", self.face_index, (None,), 2**31 - 1, error)
        count = len(face_index)
        quats = floats("gaussians.quats", self.quats, (count, 4), error)
        if not np.square(quats).sum(axis=1).all():
            raise CheckpointError("gaussians.quats holds a zero quaternion, which is no rotation")
        if self.scale_activation not in ("softplus", "exp"):
            raise CheckpointError(
                f'gaussians.scale_activation must be "softplus" or "exp", not {self.scale_activation!r}'
            )
        frozen(
            self,
            face_index=face_index,
            means=floats("gaussians.means", self.means, (count, 3), error),
            quats=quats,
            scales=floats("gaussians.scales", self.scales, (count, 3), error),
            opacities=floats("gaussians.opacities", self.opacities, (count,), error),
            sh=checked_sh(self.sh, count, self.active_sh_degree),
        )
        scales = floats("gaussians.scales after the activation", self.activated_scales(), (count, 3), error)
        arrays = _kernels.GaussianArrays(
            self.face_index, self.means, self.quats, scales, self.activated_opacities(), self.sh, self.active_sh_degree
        )
        object.__setattr__(self, "arrays", arrays)

    def __len__(self) -> int:
        return len(self.face_index)

    def activated_scales(self) -> Floats:
        """(G, 3) scales in units of the triangle's k."""
        raw = self.scales.astype(np.float64)
        with np.errstate(over="ignore"):
            scales = np.exp(raw) if self.scale_activation == "exp" else np.logaddexp(0.0, raw)
            return scales.astype(np.float32)

    def activated_opacities(self) -> Floats:
        """(G,) opacities in 0…1."""
        return np.exp(-np.logaddexp(0.0, -self.opacities.astype(np.float64))).astype(np.float32)


def checked_sh(sh: npt.ArrayLike, count: int, degree: int) -> Floats:
    """`sh` as (count, K, 3) with K a square that holds `degree`; CheckpointError if it is not."""
    if isinstance(degree, bool) or not isinstance(degree, (int, np.integer)) or not 0 <= degree <= MAX_SH_DEGREE:
        raise CheckpointError(f"the active SH degree must be 0 to {MAX_SH_DEGREE}, not {degree!r}")
    array = floats("gaussians.sh", sh, (count, None, 3), CheckpointError)
    stored = {(d + 1) ** 2: d for d in range(MAX_SH_DEGREE + 1)}.get(array.shape[1])
    if stored is None:
        raise CheckpointError(f"gaussians.sh must have 1, 4, 9 or 16 coefficients, not {array.shape[1]}")
    if degree > stored:
        raise CheckpointError(f"the active SH degree {degree} is above the stored degree {stored}")
    return array


@dataclass(frozen=True, eq=False)
class Mouth:
    """Which Gaussians are the mouth's, and the network that moves them (system eq. 8): tri-plane hash grid and MLP.

    Attributes:
        index: (M,) int32, distinct.
        bound: half side of the grid's cube, metres.
        xy, yz, xz: (N, 1) embeddings of the planes.
        offsets: (13,) int32, first row of each of the 12 levels, and N.
        layers: (64, 36 + A), (64, 64), (64, 64), bias-free, ReLU between; inputs are the 36 grid features, then the A
            of the encoded audio.
        head_weight, head_bias: (10, 64) and (10,).

    Raises:
        CheckpointError: if shapes disagree, an index is out of range or a value is not finite.
    """

    index: Ints
    bound: float
    xy: Floats
    yz: Floats
    xz: Floats
    offsets: Ints
    layers: tuple[Floats, Floats, Floats]
    head_weight: Floats
    head_bias: Floats
    arrays: _kernels.MouthArrays = field(init=False, repr=False)

    def __post_init__(self) -> None:
        error = CheckpointError
        index = indices("mouth.index", self.index, (None,), 2**31 - 1, error)
        if not len(index) or len(np.unique(index)) != len(index):
            raise CheckpointError("mouth.index must name at least one Gaussian, and none twice")
        bound = float(self.bound)
        if not 0.0 < bound < float("inf"):
            raise CheckpointError(f"mouth.bound must be a positive length, not {self.bound!r}")
        planes = {
            name: floats(f"mouth.grid.{name}", getattr(self, name), (None, 1), error) for name in ("xy", "yz", "xz")
        }
        rows = len(planes["xy"])
        if any(len(plane) != rows for plane in planes.values()):
            raise CheckpointError("mouth.grid.xy, yz and xz differ in length")
        if len(self.layers) != 3:
            raise CheckpointError(f"the mouth network must have 3 layers, not {len(self.layers)}")
        frozen(
            self,
            index=index,
            **planes,
            offsets=_grid_offsets(self.offsets, rows),
            head_weight=floats("mouth.head.weight", self.head_weight, (MOUTH_OUTPUTS, MOUTH_HIDDEN), error),
            head_bias=floats("mouth.head.bias", self.head_bias, (MOUTH_OUTPUTS,), error),
        )
        first = floats("mouth.mlp.0", self.layers[0], (MOUTH_HIDDEN, None), error)
        if first.shape[1] <= GRID_FEATURES:
            raise CheckpointError(
                f"mouth.mlp.0 has {first.shape[1]} inputs; it must read {GRID_FEATURES} of the grid and at least one "
                "of the encoded audio"
            )
        square = (MOUTH_HIDDEN, MOUTH_HIDDEN)
        others = (floats(f"mouth.mlp.{i}", self.layers[i], square, error).copy() for i in (1, 2))
        layers = (first.copy(), *others)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "bound", bound)
        tables = (self.xy[:, 0], self.yz[:, 0], self.xz[:, 0])
        arrays = _kernels.MouthArrays(
            self.index, bound, *tables, self.offsets, *self.layers, self.head_weight, self.head_bias
        )
        object.__setattr__(self, "arrays", arrays)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def audio_size(self) -> int:
        """A, the width of the encoded audio."""
        return int(self.layers[0].shape[1]) - GRID_FEATURES


def _grid_offsets(values: npt.ArrayLike, rows: int) -> Ints:
    """The levels' offsets, each level large enough to be dense: (resolution + 1)² rows."""
    offsets = indices("mouth.grid.offsets", values, (GRID_LEVELS + 1,), rows + 1, CheckpointError)
    growth = np.log2(GRID_FINEST / GRID_BASE) / (GRID_LEVELS - 1)
    resolution = np.ceil(np.exp2(np.arange(GRID_LEVELS) * growth) * GRID_BASE - 1.0) + 1
    if offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 1).any():
        raise CheckpointError(f"mouth.grid.offsets must rise from 0 to the {rows} rows of the grid")
    if (np.diff(offsets) < (resolution + 1) ** 2).any():
        raise CheckpointError("mouth.grid.offsets leaves a level too few rows for its resolution")
    return offsets
