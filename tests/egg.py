"""A seeded egg-shaped head with Gaussians and a mouth: stands in for a person wherever a test needs one."""

from __future__ import annotations

import numpy as np

from emotag import plugins


def mesh(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of an egg 0.2 m wide and 0.25 m tall, y up, outward triangles."""
    polar = np.linspace(0.05, np.pi - 0.05, rows)
    around = np.arange(columns) * 2 * np.pi / columns
    p, a = np.meshgrid(polar, around, indexing="ij")
    radius = 0.1 * (1 + 0.12 * np.cos(p))
    vertices = np.stack([radius * np.sin(p) * np.sin(a), 0.125 * np.cos(p), radius * np.sin(p) * np.cos(a)], axis=-1)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    at = i * columns + j
    right = i * columns + (j + 1) % columns
    low = np.stack([at, at + columns, right + columns], axis=-1)
    high = np.stack([at, right + columns, right], axis=-1)
    return vertices.reshape(-1, 3), np.concatenate([low.reshape(-1, 3), high.reshape(-1, 3)]).astype(np.int32)


def head(rows: int = 24, columns: int = 32, expressions: int = 20, seed: int = 0) -> plugins.Head:
    """A head whose expressions are smooth waves over the egg."""
    random = np.random.default_rng(seed)
    template, faces = mesh(rows, columns)
    bases = []
    for k in range(expressions + 36):
        wave = np.sin(template @ random.normal(0, 25, 3) + random.uniform(0, 6))
        bases.append(0.002 / (1 + 0.05 * k) * wave[:, None] * random.normal(0, 1, 3))
    basis = np.array(bases, np.float32).reshape(-1, len(template), 3)
    joints = np.array([[0, -0.1, 0], [0, -0.06, 0], [0, -0.03, 0.01], [0.03, 0.03, 0.07], [-0.03, 0.03, 0.07]])
    near = np.exp(-np.square(template[:, None] - joints).sum(-1) / 0.005) + np.array([1e-3, 1e-3, 0, 0, 0])
    return plugins.Head(
        template=template.astype(np.float32),
        faces=faces,
        expression_basis=basis[:expressions],
        pose_basis=basis[expressions:],
        joints=joints.astype(np.float32),
        joint_expression_basis=random.normal(0, 2e-4, (expressions, 5, 3)).astype(np.float32),
        weights=(near / near.sum(axis=1, keepdims=True)).astype(np.float32),
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
    )


def gaussians(
    on: plugins.Head,
    count: int,
    stored_degree: int = 3,
    active_degree: int = 3,
    activation: str = "exp",
    size: float = 0.6,
    seed: int = 1,
) -> plugins.Gaussians:
    """Flat splats spread evenly over the faces, a seventh of them translucent; `size` in units of a triangle."""
    random = np.random.default_rng(seed)
    long = (0.3 + 0.5 * random.uniform(size=count)) * size
    scales = np.stack([long, long * random.uniform(0.1, 0.3, count), long * random.uniform(0.35, 1, count)], axis=-1)
    raw = np.log(scales) if activation == "exp" else np.log(np.expm1(scales))
    yaw = random.uniform(0, np.pi, count)
    quats = np.stack([np.cos(yaw), random.normal(0, 0.1, count), np.sin(yaw), random.normal(0, 0.1, count)], axis=-1)
    alpha = np.where(
        random.uniform(size=count) < 1 / 7, random.uniform(0.05, 0.7, count), random.uniform(0.7, 0.999, count)
    )
    sh = random.normal(0, 0.04, (count, (stored_degree + 1) ** 2, 3))
    face_index = random.permutation(np.arange(count) * len(on.faces) // count)
    where = on.template[on.faces[face_index, 0]]
    sh[:, 0] = (
        0.5 + 0.3 * np.sin(where * [40, 35, 50] + [0, 1, 2]) + random.normal(0, 0.05, (count, 3)) - 0.5
    ) / 0.2821
    means = random.normal(0, 1, (count, 3)) * [0.4, 0.05, 0.25]
    return plugins.Gaussians(
        face_index=face_index.astype(np.int32),
        means=means.astype(np.float32),
        quats=(quats * random.uniform(0.5, 2, (count, 1))).astype(np.float32),
        scales=raw.astype(np.float32),
        opacities=np.log(alpha / (1 - alpha)).astype(np.float32),
        sh=sh.astype(np.float32),
        active_sh_degree=active_degree,
        scale_activation=activation,  # type: ignore[arg-type]
    )


def mouth(of: plugins.Gaussians, count: int = 50, seed: int = 2, audio: int = 256) -> plugins.Mouth:
    """A mouth network with random weights on some of the Gaussians; `audio` is the width of the encoded audio."""
    random = np.random.default_rng(seed)
    resolution = np.ceil(np.exp2(np.arange(12) * np.log2(38.4 / 16) / 11) * 16 - 1).astype(int) + 1
    offsets = np.concatenate([[0], np.cumsum(((resolution + 1) ** 2 + 7) // 8 * 8)]).astype(np.int32)
    layer = lambda o, i: (random.normal(0, 1, (o, i)) * np.sqrt(2 / i)).astype(np.float32)  # noqa: E731
    return plugins.Mouth(
        index=np.sort(random.choice(len(of), count, replace=False)).astype(np.int32),
        bound=0.15,
        xy=random.normal(0, 0.5, (offsets[-1], 1)).astype(np.float32),
        yz=random.normal(0, 0.5, (offsets[-1], 1)).astype(np.float32),
        xz=random.normal(0, 0.5, (offsets[-1], 1)).astype(np.float32),
        offsets=offsets,
        layers=(layer(64, 36 + audio), layer(64, 64), layer(64, 64)),
        head_weight=layer(10, 64),
        head_bias=np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0], np.float32),
    )


def controls(of: plugins.Head, frame: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expression, pose and translation of a lively frame."""
    random = np.random.default_rng(100 + frame)
    expression = random.normal(0, 0.7, of.expressions).astype(np.float32)
    pose = (0.1 * np.sin(0.3 * frame + np.arange(15) * 1.7)).reshape(5, 3).astype(np.float32)
    return expression, pose, np.array([0.004, -0.003, 0.002], np.float32)


def camera(width: int = 512, height: int = 512, turn: float = 0.1, distance: float = 1.0) -> plugins.Camera:
    """A camera in front of the face, `turn` radians to its side; the head fills the picture's height."""
    rotation = np.diag([1.0, -1.0, -1.0]) @ np.array(
        [[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]]
    )
    view = np.eye(4)
    view[:3, :3] = rotation
    view[2, 3] = distance
    focal = 3.4 * height * distance
    return plugins.Camera(view, focal, focal, width / 2, height / 2, width, height)
