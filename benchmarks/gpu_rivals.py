"""What the GPU numbers are compared with, in the same run: gsplat on the same Gaussians, and PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from emotag import plugins
from emotag.plugins import cuda

from .gpu_checks import bound_arrays, decibels
from .gpu_device import Drawing, Gpu

Result = dict[str, Any]


def torch_milliseconds(torch: Any, work: Callable[[], Any], runs: int) -> dict[str, float]:
    """Median and tenth percentile of device milliseconds, warmed, by PyTorch's events."""
    times = []
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for run in range(runs + 20):
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if run >= 20:
            times.append(start.elapsed_time(end))
    return {"median": float(np.median(times)), "p10": float(np.percentile(times, 10))}


def torch_with_cuda() -> Any:
    """PyTorch, or the reason why it is not measured."""
    try:
        torch = import_module("torch")
    except ImportError:
        return "PyTorch is not installed"
    return torch if torch.cuda.is_available() else "this PyTorch has no CUDA; install a cu13 wheel to compare with it"


def measure_gsplat(gpu: Gpu, scene: plugins.Scene, size: int, runs: int) -> Result:
    """gsplat's forward pass on the bound Gaussians, and how far its picture is from ours."""
    torch = torch_with_cuda()
    if isinstance(torch, str):
        return {"skipped": torch}
    try:
        gsplat = import_module("gsplat")
    except ImportError:
        return {"skipped": "gsplat is not installed: pip install gsplat"}
    options = cuda.Options(size, size, pixels="rgba32f", background=None)
    drawing = Drawing(gpu, scene, options)
    means, quats, scales = (torch.from_numpy(array).cuda() for array in bound_arrays(drawing))
    drawing.work()
    ours = drawing.pictures()[0]
    gaussians, camera = scene.gaussians, drawing.camera
    opacities = torch.from_numpy(gaussians.activated_opacities()).cuda()
    sh = torch.from_numpy(gaussians.sh.copy()).cuda()
    view = torch.from_numpy(camera.view.astype(np.float32)).cuda()[None]
    intrinsics = torch.tensor([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]).float().cuda()[None]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def draw() -> Any:
        return gsplat.rasterization(
            means, quats, scales, opacities, sh, view, intrinsics, size, size, near_plane=plugins.constants.NEAR,
            sh_degree=gaussians.active_sh_degree, eps2d=plugins.constants.LOW_PASS, packed=False,
        )  # fmt: skip

    picture = draw()[0][0].cpu().numpy()
    return {
        "version": version("gsplat"),
        "milliseconds": torch_milliseconds(torch, draw, runs),
        "decibels_from_ours": decibels(ours[..., :3], picture, 1.0),
    }


def measure_torch_eager(checkpoint: Path, runs: int) -> Result:
    """The checkpoint's networks as PyTorch runs them, one streaming step each: no graph, no engine."""
    torch = torch_with_cuda()
    if isinstance(torch, str):
        return {"skipped": torch}
    if not checkpoint.exists():
        return {"skipped": f"{checkpoint} is missing: pass --checkpoint"}
    from emotag.export.graphs import graphs_of
    from emotag.training.checkpoint import load_checkpoint

    result: Result = {"version": torch.__version__}
    for graph in graphs_of(load_checkpoint(checkpoint), "fp32", "fp32"):
        module = graph.module.cuda()
        inputs = [tensor.cuda() for tensor in module.example_inputs()]
        with torch.inference_mode():
            result[graph.name] = torch_milliseconds(torch, lambda m=module, i=inputs: m(*i), runs)
    return result
