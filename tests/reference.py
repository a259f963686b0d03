"""The picture in float64 NumPy, straight from the definition (system §1, §3): what the kernels are measured against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emotag import plugins

Doubles = NDArray[np.float64]


class Bound(NamedTuple):
    """Means (G,3), unit quaternions wxyz (G,4) and scales (G,3) in the world."""

    means: Doubles
    quats: Doubles
    scales: Doubles


def rotation(axis_angle: ArrayLike) -> Doubles:
    """Rodrigues: (3,) to (3,3)."""
    vector = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def skin(head: plugins.Head, expression: ArrayLike, pose: ArrayLike, translation: ArrayLike) -> Doubles:
    """Vertices (V,3), eq. 1."""
    coefficients = np.asarray(expression, np.float64)
    turns = [rotation(p) for p in np.asarray(pose, np.float64)]
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    shaped = head.template + np.tensordot(coefficients, head.expression_basis.astype(np.float64), 1)
    posed = shaped + np.tensordot(feature, head.pose_basis.astype(np.float64), 1)
    joints = head.joints + np.tensordot(coefficients, head.joint_expression_basis.astype(np.float64), 1)
    transforms: list[Doubles] = []
    for j, parent in enumerate(head.parents):
        local = np.eye(4)
        local[:3, :3] = turns[j]
        local[:3, 3] = joints[j] - turns[j] @ joints[j]
        transforms.append(local if parent < 0 else transforms[parent] @ local)
    homogeneous = np.concatenate([posed, np.ones((len(posed), 1))], axis=1)
    blended = np.einsum("vj,jrc->vrc", head.weights.astype(np.float64), np.array(transforms))
    return np.einsum("vrc,vc->vr", blended, homogeneous)[:, :3] + np.asarray(translation, np.float64)


def unit(v: Doubles) -> Doubles:
    """Rows to length one; rows of length zero stay zero."""
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return v / np.where(length < 1e-12, 1.0, length)


def quaternion_product(a: Doubles, b: Doubles) -> Doubles:
    """Hamilton product, wxyz rows."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.T, b.T
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def matrices(quats: Doubles) -> Doubles:
    """Unit quaternions (N,4) to (N,3,3)."""
    w, x, y, z = quats.T
    return np.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        axis=-1,
    ).reshape(-1, 3, 3)


def quaternions(turns: Doubles) -> Doubles:
    """Rotations (N,3,3) to unit quaternions: the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix."""
    m = turns
    k = np.empty((len(m), 4, 4))
    k[:, 0, 0] = m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2]
    k[:, 0, 1:] = k[:, 1:, 0] = np.stack(
        [m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], axis=-1
    )
    trace = k[:, 0, 0]
    k[:, 1:, 1:] = m + m.transpose(0, 2, 1) - trace[:, None, None] * np.eye(3)
    return np.linalg.eigh(k)[1][:, :, -1]


def softplus(x: ArrayLike) -> Doubles:
    """log(1 + e^x)."""
    return np.logaddexp(0.0, np.asarray(x, np.float64))


def bind(vertices: Doubles, faces: NDArray[np.int32], gaussians: plugins.Gaussians) -> Bound:
    """Gaussians in the world, eq. 7."""
    v0, v1, v2 = (np.asarray(vertices, np.float64)[faces[gaussians.face_index, c]] for c in range(3))
    a0 = unit(v1 - v0)
    a1 = unit(np.cross(a0, v2 - v0))
    a2 = -unit(np.cross(a1, a0))
    turns = np.stack([a0, a1, a2], axis=-1)
    k = (np.linalg.norm(v1 - v0, axis=-1) + np.abs((a2 * (v2 - v0)).sum(-1))) / 2
    centre = (v0 + v1 + v2) / 3
    raw = gaussians.scales.astype(np.float64)
    scales = np.exp(raw) if gaussians.scale_activation == "exp" else softplus(raw)
    return Bound(
        k[:, None] * np.einsum("nrc,nc->nr", turns, gaussians.means.astype(np.float64)) + centre,
        quaternion_product(quaternions(turns), unit(gaussians.quats.astype(np.float64))),
        k[:, None] * scales,
    )


def hash_grid(points: ArrayLike, mouth: plugins.Mouth) -> Doubles:
    """Features (N,36), §3."""
    at = (np.asarray(points, np.float64) + mouth.bound) / (2 * mouth.bound)
    growth = np.log2(38.4 / 16) / 11
    features = []
    for table, axes in ((mouth.xy, (0, 1)), (mouth.yz, (1, 2)), (mouth.xz, (0, 2))):
        u, v = at[:, axes[0]], at[:, axes[1]]
        inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        for level in range(12):
            scale = 2 ** (level * growth) * 16 - 1
            resolution = int(np.ceil(scale)) + 1
            rows = table[mouth.offsets[level] : mouth.offsets[level + 1], 0].astype(np.float64)
            x, y = np.where(inside, u, 0) * scale + 0.5, np.where(inside, v, 0) * scale + 0.5
            i, j = np.floor(x).astype(int), np.floor(y).astype(int)
            value = np.zeros(len(at))
            for dx in (0, 1):
                for dy in (0, 1):
                    weight = np.abs(1 - dx - (x - i)) * np.abs(1 - dy - (y - j))
                    value += weight * rows[(i + dx + (j + dy) * (resolution + 1)) % len(rows)]
            features.append(np.where(inside, value, 0.0))
    return np.stack(features, axis=-1)


def mouth_offsets(points: ArrayLike, audio: ArrayLike, mouth: plugins.Mouth) -> tuple[Doubles, Doubles, Doubles]:
    """d_mu (M,3), d_rot (M,4), d_scale (M,3), eq. 8."""
    features = hash_grid(points, mouth)
    encoded = np.asarray(audio, np.float64)
    x = np.concatenate([features, np.broadcast_to(encoded, (len(features), len(encoded)))], axis=1)
    x = np.maximum(x @ mouth.layers[0].T.astype(np.float64), 0)
    x = np.maximum(x @ mouth.layers[1].T.astype(np.float64), 0)
    x = x @ mouth.layers[2].T.astype(np.float64)
    out = x @ mouth.head_weight.T.astype(np.float64) + mouth.head_bias
    return out[:, :3] * 0.01, out[:, 3:7], out[:, 7:] * 0.001


def apply_mouth(bound: Bound, index: NDArray[np.int32], offsets: tuple[Doubles, Doubles, Doubles]) -> Bound:
    """Position adds, rotation composes, scale multiplies."""
    means, quats, scales = (array.copy() for array in bound)
    means[index] += offsets[0]
    quats[index] = quaternion_product(quats[index], unit(offsets[1]))
    scales[index] *= softplus(offsets[2])
    return Bound(means, quats, scales)


def sh_colours(sh: ArrayLike, degree: int, directions: Doubles) -> Doubles:
    """max(SH + 0.5, 0) of (G,K,3) coefficients in unit directions (G,3)."""
    x, y, z = directions.T
    xx, yy, zz = x * x, y * y, z * z
    basis = [np.full_like(x, 0.28209479177387814)]
    if degree > 0:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        basis += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy)]
        basis += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    if degree > 2:
        basis += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
        basis += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
        basis += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
        basis += [-0.5900435899266435 * x * (xx - 3 * yy)]
    coefficients = np.asarray(sh, np.float64)[:, : len(basis)]
    return np.maximum(np.einsum("kg,gkc->gc", np.array(basis), coefficients) + 0.5, 0)


class Splats(NamedTuple):
    """Gaussians on the picture, nearest first."""

    centres: Doubles
    """(N,2) pixels."""
    conics: Doubles
    """(N,3) a, b, c of the inverse covariance."""
    tiles: NDArray[np.int64]
    """(N,4) pixels x0, y0, x1, y1 of the tiles touched by the 3σ square, ends exclusive."""
    opacities: Doubles
    colours: Doubles


def project(bound: Bound, opacities: ArrayLike, sh: ArrayLike, degree: int, camera: plugins.Camera) -> Splats:
    """EWA projection as in 3DGS."""
    view = camera.view
    means = np.asarray(bound.means, np.float64)
    t = means @ view[:3, :3].T + view[:3, 3]
    spread = matrices(unit(np.asarray(bound.quats, np.float64))) * np.asarray(bound.scales, np.float64)[:, None]
    near = t[:, 2] > 0.2
    z = np.where(near, t[:, 2], 1.0)
    limits = 1.3 * camera.width / (2 * camera.fx), 1.3 * camera.height / (2 * camera.fy)
    x, y = (np.clip(t[:, i] / z, -limits[i], limits[i]) for i in range(2))
    jacobian = np.zeros((len(t), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 0, 2] = camera.fx / z, -camera.fx * x / z
    jacobian[:, 1, 1], jacobian[:, 1, 2] = camera.fy / z, -camera.fy * y / z
    root = jacobian @ view[:3, :3] @ spread
    covariance = root @ root.transpose(0, 2, 1) + 0.3 * np.eye(2)
    determinant = np.linalg.det(covariance)
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    mid = (a + c) / 2
    radius = np.ceil(3 * np.sqrt(mid + np.sqrt(np.maximum(mid * mid - determinant, 0.1))))
    centres = np.stack([camera.fx * t[:, 0] / z + camera.cx - 0.5, camera.fy * t[:, 1] / z + camera.cy - 0.5], axis=-1)
    grid = np.ceil(np.array([camera.width, camera.height]) / 16)
    low = np.clip(np.trunc((centres - radius[:, None]) / 16), 0, grid)
    high = np.clip(np.trunc((centres + radius[:, None] + 15) / 16), 0, grid)
    order = np.argsort(t[:, 2], kind="stable")
    order = order[(near & (determinant > 0) & (high > low).all(axis=1))[order]]
    position = -view[:3, :3].T @ view[:3, 3]
    return Splats(
        centres[order],
        (np.stack([c, -b, a], axis=-1) / determinant[:, None])[order],
        (np.concatenate([low, high], axis=1) * 16).astype(np.int64)[order],
        np.asarray(opacities, np.float64)[order],
        sh_colours(sh, degree, unit(means - position))[order],
    )


def rasterize(
    bound: Bound,
    opacities: ArrayLike,
    sh: ArrayLike,
    degree: int,
    camera: plugins.Camera,
    background: ArrayLike | None = None,
) -> tuple[Doubles, Doubles]:
    """Picture (H,W,3) and alpha (H,W), neither clamped nor quantised."""
    splats = project(bound, opacities, sh, degree, camera)
    height, width = camera.height, camera.width
    clear, going = np.ones((height, width)), np.ones((height, width), bool)
    picture = np.zeros((height, width, 3))
    for centre, conic, tiles, opacity, colour in zip(*splats, strict=True):
        window = np.s_[tiles[1] : min(tiles[3], height), tiles[0] : min(tiles[2], width)]
        dx = np.arange(tiles[0], min(tiles[2], width)) - centre[0]
        dy = (np.arange(tiles[1], min(tiles[3], height)) - centre[1])[:, None]
        power = -0.5 * (conic[0] * dx * dx + conic[2] * dy * dy) - conic[1] * dx * dy
        alpha = np.minimum(0.99, opacity * np.exp(power))
        alpha[(alpha < 1 / 255) | (power > 0) | ~going[window]] = 0
        after = clear[window] * (1 - alpha)
        stop = (after < 1e-4) & (alpha > 0)
        going[window] &= ~stop
        weight = np.where(stop, 0, alpha * clear[window])
        picture[window] += weight[..., None] * colour
        clear[window] -= weight
    if background is not None:
        picture += clear[..., None] * np.asarray(background, np.float64)
    return picture, 1 - clear


def render(
    scene: plugins.Scene,
    expression: ArrayLike,
    pose: ArrayLike,
    translation: ArrayLike,
    camera: plugins.Camera,
    encoded_audio: ArrayLike | None = None,
    background: ArrayLike | None = None,
) -> tuple[Doubles, Doubles]:
    """The whole frame of `Renderer.draw`, as `rasterize` returns it."""
    g = scene.gaussians
    bound = bind(skin(scene.head, expression, pose, translation), scene.head.faces, g)
    if scene.mouth is not None and encoded_audio is not None:
        index = scene.mouth.index
        bound = apply_mouth(bound, index, mouth_offsets(bound.means[index], encoded_audio, scene.mouth))
    opacities = 1 / (1 + np.exp(-g.opacities.astype(np.float64)))
    return rasterize(bound, opacities, g.sh, g.active_sh_degree, camera, background)


def decibels(a: ArrayLike, b: ArrayLike, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio; infinite for equal pictures."""
    error = np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean()
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))
