"""Correctness and speed on an NVIDIA GPU, in one run, to a JSON file: kernels, networks, whole steps, crowds, rivals.

Usage: python -m benchmarks.gpu [--device 0] [--bundle demo.emotag] [--checkpoint training/assets/demo.pt] [--quick]

Needs the CUDA kernels (docs/cuda_kernels.md) and emotag[gpu]. Times are milliseconds by CUDA events around recorded
graphs, warmed, median and tenth percentile; `step` is elapsed time of the whole call on the host, picture included.
Exits with 1 if a check fails, 2 if there is no GPU to run on. Targets are for an H200; they are reported, not enforced.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from emotag import plugins
from emotag.plugins import cuda
from emotag.plugins.cuda import Options, Stages
from emotag.runtime import Avatar
from emotag.runtime.backends import Driver
from emotag.runtime.backends.driver import version_text
from emotag.runtime.errors import BackendError
from emotag.runtime.model import Model

from .gpu_checks import LEAST_DECIBELS, Check, run_checks
from .gpu_crowd import measure_crowd
from .gpu_device import Drawing, Gpu, scene_of
from .gpu_rivals import measure_gsplat, measure_torch_eager

RESULTS = Path(__file__).parent / "results"
TOGETHER = 10  # repetitions of a stage in one graph
AVATARS = (1, 2, 4, 8, 16, 32, 64)
FRAMES_PER_SECOND = 25
BACKENDS = ("cuda", "tensorrt")
PACKAGES = (
    *("emotag", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu13", "tensorrt-rtx-cu13-bindings"),
    *("cuda-python", "cuda-bindings", "torch", "gsplat"),
)
DRIVER_FILE = Path("/proc/driver/nvidia/version")


def environment(gpu: Gpu) -> dict[str, Any]:
    """What the numbers were taken on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    device = gpu.driver.device
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.name,
        "compute_capability": device.sm,
        "memory_bytes": device.memory,
        "driver": driver_version(),
        "driver_cuda": version_text(device.driver),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions,
    }


def driver_version(file: Path = DRIVER_FILE) -> str:
    """The driver's own version, such as "580.95.05", as the kernel module tells it."""
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", file.read_text()) if file.exists() else None
    return found[1] if found else "unknown"


def measure_kernels(gpu: Gpu, scene: plugins.Scene, size: int, runs: int) -> dict[str, Any]:
    """Milliseconds of each stage, of the binding alone, and of a whole picture."""
    drawing = Drawing(gpu, scene, Options(size, size, mouth_moves=True))
    stages = {
        "skin": Stages.SKIN, "mouth": Stages.MOUTH, "project": Stages.PROJECT, "sort": Stages.SORT,
        "blend": Stages.BLEND,
    }  # fmt: skip
    result: dict[str, Any] = {}
    for name, stage in stages.items():
        result[name] = gpu.milliseconds(drawing.work(stage), runs, TOGETHER)
    memory = [gpu.upload(np.zeros((len(scene.gaussians), width), np.float32)) for width in (3, 4, 3)]
    means, quats, scales = (one.pointer for one in memory)
    result["bind"] = gpu.milliseconds(
        lambda stream: drawing.plan.bound(drawing.buffers, means, quats, scales, stream), runs, TOGETHER
    )
    result["render"] = gpu.milliseconds(drawing.work(), runs)
    status = drawing.run()
    return result | {"pairs": status.pairs, "gaussians": len(scene.gaussians), "size": size}


def measure_avatars(gpu: Gpu, scene: plugins.Scene, size: int, runs: int) -> list[dict[str, Any]]:
    """Pictures of 1 to 64 avatars drawn together."""
    rows = []
    for count in AVATARS:
        drawing = Drawing(gpu, scene, Options(size, size, avatars=count, mouth_moves=True))
        times = gpu.milliseconds(drawing.work(), runs)
        rows.append({"avatars": count, "milliseconds": times, "real_time": times["median"] < 1000 / FRAMES_PER_SECOND})
    return rows


def measure_step(bundle: Path, device: str, runs: int) -> dict[str, Any]:
    """`Avatar.step` and its networks on a backend, and its pictures against the CPU's."""
    if not bundle.exists():
        return {"skipped": f"{bundle} is missing: run make demo, or pass --bundle"}
    try:
        avatar = Avatar(bundle, device=device)
    except BackendError as error:
        return {"skipped": str(error)}
    on_cpu = Avatar(bundle, device="cpu")
    random = np.random.default_rng(0)
    times, least = [], np.inf
    for frame in range(runs + 30):
        samples = random.normal(0, 0.05, 640).astype(np.float32)
        start = time.perf_counter()
        picture = avatar.step(samples).rgb
        if frame >= 30:
            times.append(1000 * (time.perf_counter() - start))
        if frame < 40:
            error = np.square(picture.astype(float) - on_cpu.step(samples).rgb).mean()
            least = min(least, 200.0 if error == 0 else float(10 * np.log10(255**2 / error)))
    return {
        "backend": avatar.backend.describe(),
        "step": {"median": float(np.median(times)), "p10": float(np.percentile(times, 10))},
        "least_decibels_from_cpu": least,
    }


def measure_networks(gpu: Gpu, bundle: Path, device: str, runs: int) -> dict[str, Any]:
    """Device milliseconds of the audio encoder and of GRMN, by CUDA events, where the backend can be recorded."""
    if not bundle.exists():
        return {"skipped": f"{bundle} is missing: run make demo, or pass --bundle"}
    try:
        model = Model.load(bundle, device)
    except BackendError as error:
        return {"skipped": str(error)}
    network = model.motion_network()
    bounds = {"grmn": network.bound}
    encoder = model.speech(network).encoder
    if encoder is not None:
        bounds["audio"] = encoder.bound
    result: dict[str, Any] = {"backend": model.backend.describe()}
    for name, bound in bounds.items():
        if getattr(bound, "capturable", False):
            result[name] = gpu.milliseconds(bound.enqueue, runs)
        else:  # ONNX Runtime records its own graphs: time whole calls on the host
            result[name] = host_milliseconds(bound.run, runs) | {"clock": "host"}
    return result


def host_milliseconds(work: Any, runs: int) -> dict[str, float]:
    """Median and tenth percentile of elapsed milliseconds on the host, warmed."""
    times = []
    for run in range(runs + 20):
        start = time.perf_counter()
        work()
        if run >= 20:
            times.append(1000 * (time.perf_counter() - start))
    return {"median": float(np.median(times)), "p10": float(np.percentile(times, 10))}


def measure_all(gpu: Gpu, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it goes into the results file."""
    scene = scene_of(options.gaussians)
    checks = run_checks(gpu, scene, options.size)
    result: dict[str, Any] = {
        "environment": environment(gpu),
        "checks": [check.as_json() for check in checks],
        "kernels": measure_kernels(gpu, scene, options.size, options.runs),
        "avatars": measure_avatars(gpu, scene, options.size, options.runs),
        "gsplat": measure_gsplat(gpu, scene, options.size, options.runs),
        "pytorch_eager": measure_torch_eager(options.checkpoint, options.runs),
    }
    for name in BACKENDS:
        device = f"{name}:{options.device}"
        result[name] = measure_networks(gpu, options.bundle, device, options.runs)
        result[name] |= measure_step(options.bundle, device, options.runs)
        result[name]["crowd"] = measure_crowd(options.bundle, device, AVATARS, options.runs)
        result["checks"] += [check.as_json() for check in step_checks(name, result[name])]
    return result | {"targets": targets(result)}


def step_checks(name: str, measured: dict[str, Any]) -> Iterator[Check]:
    """Whole steps of a backend against the CPU's."""
    if "least_decibels_from_cpu" in measured:
        value = measured["least_decibels_from_cpu"]
        yield Check(f"step on {name}: least dB against the CPU", value, LEAST_DECIBELS, more=True)


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets of an H200-class card, each with what was measured; None where it was not."""
    step = result["tensorrt"].get("step", {}).get("median")
    crowd = {row["avatars"]: row["milliseconds"]["p95"] for row in result["tensorrt"]["crowd"] if "milliseconds" in row}
    rival = result["gsplat"].get("milliseconds", {}).get("median")
    render = result["kernels"]["render"]["median"]
    rows = [("render, ms", render, 0.5), ("render against gsplat's forward, ms", render, rival)]
    rows += [("step with TensorRT, ms", step, 1.0), ("64 avatars, ms of the 40 of a frame", crowd.get(64), 40.0)]
    return [
        {"name": name, "value": value, "target": target, "met": None if None in (value, target) else value <= target}
        for name, value, target in rows
    ]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=int, default=0, help="number of the GPU")
    parser.add_argument("--bundle", type=Path, default=Path("demo.emotag"))
    parser.add_argument("--checkpoint", type=Path, default=Path("training/assets/demo.pt"))
    parser.add_argument("--gaussians", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=300, help="measured repetitions of everything")
    parser.add_argument("--out", type=Path, default=None, help="default: benchmarks/results/gpu_<device>.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    options = parser.parse_args(arguments)
    options.runs = max(options.runs // 10, 1) if options.quick else options.runs
    return options


def open_gpu(index: int) -> Gpu:
    """The GPU with its kernels. Raises BackendError if there is none to measure on."""
    return Gpu(Driver(index), cuda.load())


def report(result: dict[str, Any], out: Path) -> bool:
    """Writes the file, prints what matters; true if all checks passed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    for check in result["checks"]:
        print(f"{'ok' if check['passed'] else 'FAILED':6} {check['name']}: {check['value']:.4g} (bar {check['bar']:g})")
    for name, value in result["kernels"].items():
        if isinstance(value, dict):
            print(f"{name:8} {value['median']:.4f} ms ({value['p10']:.4f})")
    for row in result["avatars"]:
        print(f"{row['avatars']:3d} avatars {row['milliseconds']['median']:.3f} ms")
    for name in ("gsplat", "pytorch_eager", *BACKENDS):
        print(f"{name}: {json.dumps(result[name])}")
    for target in result["targets"]:
        met = {True: "met", False: "MISSED", None: "not measured"}[target["met"]]
        print(f"target {met}: {target['name']} {target['value']} (at most {target['target']})")
    print(f"written to {out}")
    return all(check["passed"] for check in result["checks"])


def _sentence(error: BackendError) -> str:
    """Without the advice to use the CPU, which is none here."""
    return str(error).removesuffix(", or use device='cpu'").removesuffix(', or use device="cpu"')


def main(arguments: list[str] | None = None) -> int:
    """Runs everything; returns the exit code."""
    options = parse(arguments)
    try:
        gpu = open_gpu(options.device)
    except BackendError as error:
        print(f"benchmarks.gpu needs an NVIDIA GPU and the CUDA kernels: {_sentence(error)}", file=sys.stderr)
        return 2
    result = measure_all(gpu, options)
    name = gpu.driver.device.name.lower().replace(" ", "_")
    return 0 if report(result, options.out or RESULTS / f"gpu_{name}.json") else 1


if __name__ == "__main__":
    sys.exit(main())
