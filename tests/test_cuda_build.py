"""The kernels as nvcc sees them, where it is installed. Needs no GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parent.parent / "plugins" / "cuda"
NVCC = shutil.which("nvcc")


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("name", ["skin", "mouth", "project", "blend"])
def test_kernels_compile_without_spilling(name: str, tmp_path: Path) -> None:
    """For the oldest architecture; sort.cu, most of it CUB, takes ten times as long and is left to the build."""
    command = [str(NVCC), "-std=c++17", "-O3", "-arch=sm_80", "--expt-relaxed-constexpr", "-Werror", "all-warnings"]
    done = subprocess.run(
        [*command, "-Xptxas", "-v", "-cubin", str(KERNELS / f"{name}.cu"), "-o", str(tmp_path / "kernel.cubin")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    spilled = [int(size) for size in re.findall(r"(\d+) bytes spill", done.stderr)]
    assert spilled and not any(spilled), done.stderr
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
    assert max(registers) <= 64  # four blocks of 256 threads on a multiprocessor
