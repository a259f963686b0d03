"""Cost of a training iteration's kernels, and of whole steps of an adaptation.

    python -m benchmarks.bench_training [--bundle demo.emotag] [--rounds 40] [--isa avx2]
        [--scene DIR [--start training/assets/demo.pt] [--steps 60]]

Milliseconds of one thread's processor time: medians, the quietest tenth in brackets. The bundle's Gaussians are drawn
as the avatar's whole picture and as the box around the head that an adaptation draws, with and without depth and
normals; the synthetic dense scene is that of `bench_render`. All pictures take turns, so that all see the same weather.
--scene also adapts to a scene (such as `emotag-train synth` writes) at full size and prints what its steps cost.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_render import egg, scene_of
from emotag import plugins
from emotag.runtime import Avatar

BAR = 25.0
"""ms, of blending colours and its way back at 512x512 with 60,000 Gaussians"""
_SIDE = 512
_MARGIN = 0.03  # of the picture's side, around the head, as training.subject_frames
_TILE = 16  # a box is rounded to it
_WARM = 3

Samples = dict[str, list[float]]


class Subject(NamedTuple):
    """Gaussians in the world and who looks at them."""

    name: str
    bound: plugins.Bound
    gaussians: plugins.Gaussians
    camera: plugins.Camera
    features: NDArray[np.float32] | None


def subjects_of(bundle: Path) -> list[Subject]:
    """What is measured: the avatar's picture and its head's box, colours alone and with geometry; the dense scene."""
    avatar = Avatar(bundle)
    scene = avatar.model.scene
    rest = (np.zeros(scene.head.expressions), np.zeros((plugins.constants.JOINTS, 3)), np.zeros(3))
    vertices = plugins.skin(scene.head, *rest)
    bound = plugins.bind(vertices, scene.head.faces, scene.gaussians)
    whole = avatar.camera_at(0)
    scale = _SIDE / max(whole.width, whole.height)
    size = round(whole.width * scale), round(whole.height * scale)
    whole = plugins.Camera(whole.view, *(scale * value for value in (whole.fx, whole.fy, whole.cx, whole.cy)), *size)
    box = head_box(whole, vertices)
    random = np.random.default_rng(0)
    features = random.normal(size=(len(scene.gaussians), plugins.tracing.FEATURES)).astype(np.float32)
    found = []
    for name, camera in (("whole picture", whole), ("head's box", box)):
        label = f"{name} {camera.width}x{camera.height}"
        found.append(Subject(label, bound, scene.gaussians, camera, None))
        found.append(Subject(f"{label}, geometry", bound, scene.gaussians, camera, features))
    dense = scene_of(60_000)
    skinned = plugins.skin(dense.head, *egg.controls(dense.head))
    there = plugins.bind(skinned, dense.head.faces, dense.gaussians)
    return [*found, Subject("dense, SH degree 3", there, dense.gaussians, egg.camera(_SIDE, _SIDE), None)]


def head_box(camera: plugins.Camera, vertices: NDArray[np.float32]) -> plugins.Camera:
    """The camera of the box around the mesh, in whole tiles."""
    there = vertices @ camera.view[:3, :3].T + camera.view[:3, 3]
    places = there[:, :2] / there[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    sides = np.array([camera.width, camera.height])
    margin = _MARGIN * sides.max()
    low = np.floor(np.maximum(places.min(0) - margin, 0) / _TILE).astype(int) * _TILE
    high = np.minimum(np.ceil((places.max(0) + margin) / _TILE).astype(int) * _TILE, sides)
    centre = camera.cx - int(low[0]), camera.cy - int(low[1])
    return plugins.Camera(camera.view, camera.fx, camera.fy, *centre, *(int(side) for side in high - low))


def measure(subjects: list[Subject], rounds: int, isa: str) -> dict[str, Samples]:
    """Milliseconds of every kernel, by the subject's name and the kernel's."""
    tracer = plugins.Tracer(1, isa)
    random = np.random.default_rng(1)
    found: dict[str, Samples] = {subject.name: defaultdict(list) for subject in subjects}
    for number in range(rounds + _WARM):
        for subject in subjects:
            g, camera = subject.gaussians, subject.camera
            inputs = (g.activated_opacities(), g.sh, g.active_sh_degree, camera, subject.features)
            traced = tracer.forward(subject.bound, *inputs)
            loss = random.normal(0, 1e-3, traced.picture.shape).astype(np.float32)
            tracer.backward(traced, loss, loss[0])
            if number < _WARM:
                continue
            times = tracer.cpu_timings
            for name, value in times.items():
                found[subject.name][name].append(value)
            found[subject.name]["blend + backward"].append(times["blend"] + times["blend_backward"])
    return found


def quartiles(samples: Samples) -> str:
    """One line: each name with its median and tenth percentile."""
    parts = (f"{name} {np.median(v):.2f} ({np.percentile(v, 10):.2f})" for name, v in samples.items())
    return "  ".join(parts)


def adaptation(scene: Path, start: Path, steps: int) -> dict[str, Samples]:
    """Milliseconds of whole steps and of their kernels, of an adaptation at full size; with and without geometry."""
    import torch

    from emotag.training.trainer.config import TrainConfig
    from emotag.training.trainer.job import Job, prepare
    from emotag.training.trainer.processes import launch

    torch.set_num_threads(1)
    config = replace(TrainConfig.adaptation(), steps=max(steps, 8), warmup=steps // 4, half_size=0.0)
    run = launch(prepare, 1, "cpu", Job(config, (scene,), scene / "unwritten.pt", start=start))
    found: dict[str, Samples] = {name: defaultdict(list) for name in ("colours", "geometry")}
    backward, traced = plugins.Tracer.backward, []

    def noted(self: plugins.Tracer, *arguments: Any) -> plugins.tracing.TraceGradients:
        gradients = backward(self, *arguments)
        traced.append((len(gradients.features[0]) > 0, self.cpu_timings))
        return gradients

    plugins.Tracer.backward = noted  # type: ignore[method-assign]
    try:
        for number in range(steps):
            traced.clear()
            began = time.thread_time()
            done = run.advance()
            spent = 1000 * (time.thread_time() - began)
            if number < _WARM:
                continue
            geometry, times = traced[-1]
            samples = found["geometry" if geometry else "colours"]
            kernels = sum(times.values())
            samples[done.stage].append(spent)
            samples["blend + backward"].append(times["blend"] + times["blend_backward"])
            samples["other kernels"].append(kernels - samples["blend + backward"][-1])
            samples["the rest"].append(spent - kernels)
    finally:
        plugins.Tracer.backward = backward  # type: ignore[method-assign]
    return found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("demo.emotag"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--isa", default="auto", help="auto, plain, avx2 or avx512")
    parser.add_argument("--scene", type=Path, metavar="DIR")
    parser.add_argument("--start", type=Path, default=Path("training/assets/demo.pt"), metavar="FILE")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    for name, samples in measure(subjects_of(options.bundle), options.rounds, options.isa).items():
        both = float(np.median(samples["blend + backward"]))
        print(f"{name}: {quartiles(samples)}  {'within' if both <= BAR else 'over'} {BAR:g}")
    if options.scene is not None:
        for name, samples in adaptation(options.scene, options.start, options.steps).items():
            if samples:
                print(f"a step with {name}: {quartiles(samples)}")


if __name__ == "__main__":
    main()
