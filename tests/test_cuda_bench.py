"""The GPU benchmark: without a GPU it says so; with a stand-in for one, its checks and tables come out."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import gpu_fake
import pytest
from synthetic_bundle import Shape, write_bundle

from emotag.runtime.backends import Driver, choice
from emotag.runtime.errors import BackendError

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "cuda_host")]
import emulated  # noqa: E402

from benchmarks import gpu as bench  # noqa: E402
from benchmarks import gpu_checks, gpu_device  # noqa: E402


class Cudart(gpu_fake.Cudart):
    """The runtime's stand-in, with events: each recording comes a millisecond after the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def cudaEventCreate(self) -> Any:
        return gpu_fake.SUCCESS, [0.0]

    def cudaEventRecord(self, event: list[float], stream: int) -> Any:
        self.now += 1.0
        event[0] = self.now
        return (gpu_fake.SUCCESS,)

    def cudaEventElapsedTime(self, start: list[float], end: list[float]) -> Any:
        return gpu_fake.SUCCESS, end[0] - start[0]


@pytest.fixture()
def gpu() -> gpu_device.Gpu:
    cudart = Cudart()
    return gpu_device.Gpu(Driver(0, cudart), emulated.load(), cudart)


def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 2:
        pytest.skip("this machine has a GPU")
    assert done.stderr.startswith("benchmarks.gpu needs an NVIDIA GPU and the CUDA kernels: ")
    assert len(done.stderr.splitlines()) == 1 and "device='cpu'" not in done.stderr


def test_missing_kernels_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(index: int) -> Any:
        raise BackendError("the CUDA kernels are not installed")

    monkeypatch.setattr(bench, "open_gpu", missing)
    assert bench.main([]) == 2
    assert "the CUDA kernels are not installed" in capsys.readouterr().err


def test_everything_on_a_stand_in(
    gpu: gpu_device.Gpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernels run on the host: every check passes, and the file holds what the docs say it does."""
    monkeypatch.setattr(bench, "AVATARS", (1, 2))
    monkeypatch.setattr(bench, "TOGETHER", 2)
    monkeypatch.setattr(bench, "scene_of", lambda count: SMALL)
    monkeypatch.setenv("EMOTAG_CACHE", str(tmp_path / "cache"))
    cudart = gpu.driver._cudart
    monkeypatch.setattr(choice, "MACHINE", gpu_fake.machine(cudart, onnx=gpu_fake.Onnx(cudart)))
    bundle = write_bundle(tmp_path / "a.emotag", Shape(size=16, gaussians=20))
    options = Namespace(gaussians=400, size=32, runs=2, device=0, bundle=bundle, checkpoint=tmp_path / "nowhere")
    result = bench.measure_all(gpu, options)
    assert bench.report(result, tmp_path / "out" / "gpu.json")
    written = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert written["environment"]["device"] == "Fake GPU" and written["environment"]["compute_capability"] == "sm_89"
    assert written["environment"]["driver"] and written["environment"]["driver_cuda"] == "13.4"
    assert len(written["checks"]) > 20 and all(check["passed"] for check in written["checks"])
    names = " ".join(check["name"] for check in written["checks"])
    for part in ("skin", "bind", "mouth", "projection", "sort", "frame", "step on cuda", "step on tensorrt"):
        assert part in names
    assert set(written["kernels"]) >= {"skin", "mouth", "project", "sort", "blend", "bind", "render"}
    assert written["kernels"]["skin"]["median"] == pytest.approx(0.5)  # two in one recording, a millisecond apart
    assert [row["avatars"] for row in written["avatars"]] == [1, 2]
    for name in ("gsplat", "pytorch_eager"):
        assert written[name]["skipped"]
    for name in ("cuda", "tensorrt"):
        assert written[name]["step"]["median"] > 0 and {"grmn", "audio"} <= set(written[name])
        assert [row["avatars"] for row in written[name]["crowd"]] == [1, 2]
    met = {target["name"]: target["met"] for target in written["targets"]}
    assert set(met.values()) <= {True, False, None} and met["render against gsplat's forward, ms"] is None
    assert met["64 avatars, ms of the 40 of a frame"] is None, "64 were not measured"
    assert "ok     skin" in capsys.readouterr().out


def test_the_drivers_version_is_read(tmp_path: Path) -> None:
    told = tmp_path / "version"
    told.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    assert bench.driver_version(told) == "580.95.05" and bench.driver_version(tmp_path / "none") == "unknown"


def test_a_wrong_kernel_fails_a_check(gpu: gpu_device.Gpu) -> None:
    drawing = gpu_device.Drawing(gpu, SMALL, gpu_checks.Options(32, 32))
    drawing.work()
    picture = drawing.pictures()[0]
    picture[:8] = 0
    value = gpu_checks.decibels(picture, drawing.on_cpu(drawing.colour(0))[0])
    assert not gpu_checks.Check("broken", value, gpu_checks.LEAST_DECIBELS, more=True).passed


SMALL = gpu_device.plugins.Scene(
    gpu_device.egg.head(10, 12, 5), gpu_device.egg.gaussians(gpu_device.egg.head(10, 12, 5), 400, size=0.4),
)  # fmt: skip
SMALL = gpu_device.plugins.Scene(SMALL.head, SMALL.gaussians, gpu_device.egg.mouth(SMALL.gaussians, 20))
