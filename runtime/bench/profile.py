"""Everything that `emotag-bench BUNDLE` shows: start-up, memory, a step, its stages, a file, sizes, several avatars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Any

import numpy as np

from ..avatar import Avatar
from ..manifest import FRAME_RATE, FRAME_SAMPLES
from ..model import Model
from .fresh import measure_fresh
from .machine import Machine
from .overhead import StepOverhead
from .probe import APPEARANCE, KERNELS, STAGES, Probe, babble

SIZES = (256, 512, 1024)
AVATARS = (1, 2, 4, 8)
_WARM_UP = 12

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Spread:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float

    @staticmethod
    def of(times: Iterable[float]) -> Spread:
        p50, p95, p99 = np.percentile(np.fromiter(times, np.float64), (50, 95, 99))
        return Spread(float(p50), float(p95), float(p99))


@dataclass(frozen=True)
class Profile:
    """What one bundle costs on one machine.

    step and pipelined_step: wall time. stages, kernels, overhead, sizes (drawing, by side of the picture): processor
    time of one thread, medians. render_fps: of a whole sound, by wall time. avatars_fps: frames a second that N avatars
    of one model make together, each on a thread of its own with one drawing thread. Steps and files are absent for a
    bundle without encoder.
    """

    machine: Machine
    bundle: Mapping[str, Any]
    threads: int
    fresh: Mapping[str, float]
    stages: Mapping[str, float]
    kernels: Mapping[str, float]
    sizes: Mapping[int, float]
    step: Spread | None = None
    pipelined_step: Spread | None = None
    overhead: Spread | None = None
    render_fps: float | None = None
    avatars_fps: Mapping[int, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` writes them."""
        return asdict(self)


def profile(model: Model, seconds: float = 8.0, progress: Progress = lambda what: None) -> Profile:
    """Measures the loaded bundle. seconds: of speech for each part. Raises BundleError if it cannot be started anew."""
    frames = max(25, round(seconds * FRAME_RATE))
    progress("start-up and memory")
    fresh = measure_fresh(model.bundle.path, model.threads)
    progress("stages")
    alone = model if model.threads == 1 else Model.load(model.bundle.path, "cpu", threads=1)
    stages, kernels = _stages(alone, frames)
    progress("sizes")
    sizes = {side: _drawing(alone, side, max(25, frames // 4)) for side in SIZES}
    progress("overhead")
    overhead = None if model.manifest.audio is None else _overhead(alone, frames)
    about = {
        "name": model.manifest.name,
        "kind": model.manifest.checkpoint.get("kind", ""),
        "precision": dict(model.manifest.precision),
        "gaussians": len(model.scene.gaussians),
        "size": [model.manifest.width, model.manifest.height],
        "latency_ms": model.latency_ms,
    }
    speaks = {} if model.manifest.audio is None else _speaking(model, frames, progress)
    return Profile(Machine.here(), about, model.threads, fresh, stages, kernels, sizes, overhead=overhead, **speaks)


def _stages(model: Model, frames: int) -> tuple[dict[str, float], dict[str, float]]:
    probe = Probe(model)
    costs = [probe.frame() for _ in range(frames + _WARM_UP)][_WARM_UP:]
    has = [name for name in STAGES if name != APPEARANCE or model.appearance is not None]
    stages = {name: float(np.median([getattr(cost, name) for cost in costs])) for name in has}
    kernels = np.median([cost.kernels for cost in costs], axis=0)
    return stages, dict(zip(KERNELS, map(float, kernels), strict=True))


def _drawing(model: Model, side: int, frames: int) -> float:
    probe = Probe(model, (side, side))
    return float(np.median([probe.frame().draw for _ in range(frames + 3)][3:]))


def _speaking(model: Model, frames: int, progress: Progress) -> dict[str, Any]:
    sound = babble(frames / FRAME_RATE)
    progress("steps")
    result: dict[str, Any] = {"step": _steps(Avatar(model), sound)}
    result["pipelined_step"] = _steps(Avatar(model, pipelined=True), sound)
    progress("a whole sound")
    start = time.perf_counter()
    count = sum(1 for _ in Avatar(model).render(sound, progress=False))
    result["render_fps"] = count / (time.perf_counter() - start)
    progress("several avatars")
    result["avatars_fps"] = {count: together(model, count, max(12, frames // 8)) for count in AVATARS}
    return result


def _overhead(model: Model, frames: int) -> Spread:
    step = StepOverhead(Avatar(model))
    return Spread.of([step.step()[0] for _ in range(frames)][_WARM_UP:])


def _steps(avatar: Avatar, sound: np.ndarray[Any, np.dtype[np.float32]]) -> Spread:
    times = []
    for block in sound.reshape(-1, FRAME_SAMPLES):
        start = time.perf_counter()
        avatar.step(block)
        times.append(1e3 * (time.perf_counter() - start))
    return Spread.of(times[_WARM_UP:])


def together(model: Model, count: int, frames: int) -> float:
    probes = [Probe(model) for _ in range(count)]
    threads = [Thread(target=lambda probe=probe: [probe.frame() for _ in range(frames)]) for probe in probes]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * frames / (time.perf_counter() - start)


def lines(found: Profile) -> list[str]:
    """The profile as a table for people."""
    about, fresh, ms = found.bundle, found.fresh, found.stages
    first, second = about["size"]
    text = [
        f"{about['name']} ({about['kind']}; {', '.join(f'{k} {v}' for k, v in about['precision'].items())}), "
        f"{about['gaussians']} Gaussians, {first}x{second}",
        f"machine      {found.machine.line()}",
        f"start-up     {fresh['startup_s']:.2f} s to the first frame, of it imports {fresh['import_s']:.2f} s; "
        f"{fresh['startup_cpu_s']:.2f} s of processor time",
        f"memory       {fresh['peak_mb']:.0f} MB at most"
        + (f", {fresh['mb_each_further_avatar']:.1f} MB each further avatar" if found.step else ""),
        "",
        "processor time of one thread, ms a frame",
        *(f"  {name:<10}{ms[name]:>8.2f}" for name in STAGES if ms.get(name)),
        *(f"    {name:<8}{value:>8.2f}" for name, value in found.kernels.items()),
    ]
    if found.overhead is not None:
        text.append(f"  {'overhead':<10}{found.overhead.p50:>8.2f}  (step outside these)")
    motion = ms["motion"] + found.kernels["mouth"]
    text.append(f"  motion with the mouth {motion:.2f}, drawing without it {ms['draw'] - found.kernels['mouth']:.2f}")
    text.append("  drawing by size " + ", ".join(f"{side}²: {value:.2f}" for side, value in found.sizes.items()))
    if found.step is None or found.pipelined_step is None or found.avatars_fps is None:
        return text
    return [
        *text,
        "",
        "elapsed time",
        f"  {'':<18}{'p50':>8}{'p95':>8}{'p99':>8}  ms",
        *(_spread_line(name, s) for name, s in (("step", found.step), ("step, pipelined", found.pipelined_step))),
        f"  render of a sound {found.render_fps:.1f} FPS (video encoding apart)",
        "  avatars side by side: " + ", ".join(f"{n}: {fps:.0f} FPS" for n, fps in found.avatars_fps.items()),
    ]


def _spread_line(name: str, spread: Spread) -> str:
    return f"  {name:<18}{spread.p50:>8.2f}{spread.p95:>8.2f}{spread.p99:>8.2f}"
