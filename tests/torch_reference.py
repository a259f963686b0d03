"""The picture in float64 torch, straight from the definition, for autograd: what the kernels' gradients are measured
against. Colours first, no background, as `plugins.Tracer` gives them."""

from __future__ import annotations

import torch
from torch import Tensor

from emotag import plugins


def matrices(quats: Tensor) -> Tensor:
    """(N,4) wxyz of any length to (N,3,3)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def sh_colours(sh: Tensor, degree: int, directions: Tensor) -> Tensor:
    """max(SH + 0.5, 0) of (G,K,3) in unit directions (G,3)."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, 0.28209479177387814)]
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
    return (torch.einsum("kg,gkc->gc", torch.stack(basis), sh[:, : len(basis)]) + 0.5).clamp_min(0)


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    features: Tensor,
    degree: int,
    camera: plugins.Camera,
    points: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Picture (3+C,H,W) and alpha (H,W). `points` (G,2), zeros, is added to the projected means."""
    view = torch.from_numpy(camera.view.copy()).to(means.dtype)
    turn, shift = view[:3, :3], view[:3, 3]
    t = means @ turn.T + shift
    x, y, z = t.unbind(-1)
    limit_x, limit_y = 1.3 * camera.width / (2 * camera.fx), 1.3 * camera.height / (2 * camera.fy)
    cx, cy, zero = (x / z).clamp(-limit_x, limit_x), (y / z).clamp(-limit_y, limit_y), torch.zeros_like(z)
    jacobian = torch.stack(
        [camera.fx / z, zero, -camera.fx * cx / z, zero, camera.fy / z, -camera.fy * cy / z], -1
    ).reshape(-1, 2, 3)
    root = jacobian @ turn @ (matrices(quats) * scales[:, None])
    covariance = root @ root.transpose(1, 2) + 0.3 * torch.eye(2, dtype=means.dtype)
    conic = torch.linalg.inv(covariance)
    centres = torch.stack([camera.fx * x / z + camera.cx - 0.5, camera.fy * y / z + camera.cy - 0.5], -1)
    if points is not None:
        centres = centres + points
    directions = torch.nn.functional.normalize(means + turn.T @ shift, dim=-1)
    values = torch.cat([sh_colours(sh, degree, directions), features], -1)

    a, d = covariance[:, 0, 0].detach(), covariance[:, 1, 1].detach()
    mid = (a + d) / 2
    radius = torch.ceil(
        3 * torch.sqrt(mid + torch.sqrt((mid * mid - torch.linalg.det(covariance).detach()).clamp_min(0.1)))
    )
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    clear = torch.ones(camera.height, camera.width, dtype=means.dtype)
    going = torch.ones_like(clear, dtype=torch.bool)
    picture = torch.zeros(values.shape[1], camera.height, camera.width, dtype=means.dtype)
    for i in torch.argsort(z.detach(), stable=True).tolist():
        if z[i] <= 0.2:
            continue
        low, high = (
            torch.trunc((centres[i] - radius[i]).detach() / 16),
            torch.trunc((centres[i] + radius[i] + 15).detach() / 16),
        )
        inside = (columns >= 16 * low[0]) & (columns < 16 * high[0]) & (rows >= 16 * low[1]) & (rows < 16 * high[1])
        dx, dy = columns - centres[i, 0], rows - centres[i, 1]
        power = -0.5 * (conic[i, 0, 0] * dx * dx + conic[i, 1, 1] * dy * dy) - conic[i, 0, 1] * dx * dy
        raw = opacities[i] * torch.exp(power)
        alpha = torch.where(inside & going & (raw >= 1 / 255), raw.clamp_max(0.99), 0.0)
        stop = (alpha > 0) & (clear * (1 - alpha) < 1e-4)
        going = going & ~stop
        weight = torch.where(stop, 0.0, alpha * clear)
        picture = picture + weight * values[i][:, None, None]
        clear = clear - weight
    return picture, 1 - clear
