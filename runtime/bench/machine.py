"""What a benchmark ran on, and how busy that was."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from ...plugins import _kernels, supported_isas

_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


@dataclass(frozen=True)
class Machine:
    """cpu: model name; features: those that the kernels and ONNX Runtime choose their code by; load: that of the last
    minute per core, 1 being all cores busy."""

    cpu: str
    features: tuple[str, ...]
    isa: str
    cores: int
    load: float
    versions: dict[str, str]

    @staticmethod
    def here() -> Machine:
        """This machine, now."""
        cpu, flags = _cpu()
        cores = len(os.sched_getaffinity(0))
        return Machine(
            cpu=cpu,
            features=tuple(flag for flag in _FLAGS if flag in flags),
            isa=supported_isas()[0],
            cores=cores,
            load=round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
            versions={
                "python": platform.python_version(),
                "numpy": np.__version__,
                "onnxruntime": onnxruntime.__version__,
                "compiler": _kernels.compiler,
            },
        )

    @property
    def key(self) -> str:
        """Machines with one key run the same code at comparable ratios: a baseline is for one key. The compiler is
        part of it, because the kernels and the yardstick of memory gain by another one to different degrees."""
        compiler = self.versions["compiler"].partition(".")[0]
        return " ".join([self.cpu, self.isa, *self.features, compiler])

    def line(self) -> str:
        """For the head of a table. A load above 0.5 a core says that wall times are not those of a quiet machine."""
        busy = ", busy: wall times say little" if self.load > 0.5 else ""
        extras = [flag for flag in self.features if flag != self.isa]
        code = f"{' '.join([self.isa, *extras])}, {self.versions['compiler']}"
        return f"{self.cpu}, {self.cores} cores, {code}; load {self.load:g} a core{busy}"


def _cpu() -> tuple[str, set[str]]:
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine(), set()
    model = [fields.get("model name") or platform.machine()]
    if "cpu family" in fields:
        model.append(f"family {fields['cpu family']} model {fields.get('model', '?')}")
    return " ".join(model), set(fields.get("flags", "").split())
