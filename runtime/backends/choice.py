"""Which backend a device name means here, and why. What was demanded and cannot be had is an error."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import onnxruntime

from ...plugins import cuda
from ..errors import BackendError
from .canvas import Kernels
from .driver import Driver
from .engine_build import EngineLibrary, load_library
from .onnx_cuda import OnnxCudaBackend
from .protocol import Backend, CpuBackend
from .tensorrt import TensorRTBackend

_T = TypeVar("_T")
_DEVICES = "'auto', 'cpu', 'cuda', 'cuda:N', 'tensorrt' or 'tensorrt:N' (N is the number of the GPU)"


class BackendWarning(UserWarning):
    """A GPU is there and the avatar runs elsewhere, or with less than was hoped for."""


def _kernels() -> Kernels:
    return cuda.load()


def _engine_library() -> EngineLibrary:
    """Full TensorRT where it is installed, which knows every GPU; else TensorRT for RTX. Raises BackendError."""
    problems = []
    for name in ("tensorrt", "tensorrt-rtx"):
        try:
            return load_library(name)
        except BackendError as error:
            problems.append(str(error))
    raise BackendError("; ".join(problems))


@dataclass(frozen=True)
class Machine:
    """Where drivers and libraries come from; tests put stand-ins here."""

    driver: Callable[[int], Driver] = Driver
    kernels: Callable[[], Kernels] = _kernels
    engines: Callable[[], EngineLibrary] = _engine_library
    onnx: Any = onnxruntime


MACHINE = Machine()


def parse_device(device: Any) -> tuple[str, int]:
    """("tensorrt", 1) of "tensorrt:1". Raises BackendError for a name that is none of a device."""
    match = re.fullmatch(r"(auto|cpu)|(cuda|tensorrt)(?::(\d{1,3}))?", device) if isinstance(device, str) else None
    if match is None:
        raise BackendError(f"device {device!r} is unknown: use {_DEVICES}")
    return match[1] or match[2], int(match[3] or 0)


def open_backend(device: Any, use: Callable[[Backend], _T], machine: Machine | None = None) -> tuple[Backend, _T]:
    """The backend for a device name, and what `use` makes of it, such as loaded graphs.

    "auto" takes the first of tensorrt, cuda and cpu that works, `use` included; the reasons of those that do not are
    in `info.reason`, and a BackendWarning tells them if there is a GPU. Raises BackendError if a demanded backend
    does not work; what else `use` raises goes through.
    """
    name, index = parse_device(device)
    machine = MACHINE if machine is None else machine
    if name == "cpu":
        backend: Backend = CpuBackend("device='cpu' was asked for")
        return backend, use(backend)
    if name != "auto":
        backend = _open(machine, name, machine.driver(index), f"device={device!r} was asked for")
        return backend, use(backend)
    return _automatic(machine, use)


def _automatic(machine: Machine, use: Callable[[Backend], _T]) -> tuple[Backend, _T]:
    try:
        driver = machine.driver(0)
    except BackendError as error:
        backend: Backend = CpuBackend(_sentence(error))
        return backend, use(backend)
    problems: list[str] = []
    for name, reason in _candidates(problems):
        try:
            backend = _open(machine, name, driver, reason)
            made = use(backend)
        except BackendError as error:
            problems.append(f"{name}: {_sentence(error)}")
            continue
        if problems:
            warnings.warn(f"this avatar runs on {backend}; {'; '.join(problems)}", BackendWarning, stacklevel=4)
        return backend, made
    backend = CpuBackend(f"{driver.device.name} is not used: {'; '.join(problems)}")
    warnings.warn(f"this avatar runs on the CPU; {backend.info.reason}", BackendWarning, stacklevel=4)
    return backend, use(backend)


def _candidates(problems: list[str]) -> Iterator[tuple[str, str]]:
    yield "tensorrt", "a GPU, the CUDA kernels and TensorRT were found"
    yield "cuda", "; ".join(problems)


def _open(machine: Machine, name: str, driver: Driver, reason: str) -> Backend:
    if name == "tensorrt":
        return TensorRTBackend(machine.engines(), driver, machine.kernels(), reason)
    return OnnxCudaBackend(machine.onnx, driver, machine.kernels(), reason)


def _sentence(error: BackendError) -> str:
    return str(error).removesuffix(", or use device='cpu'")
