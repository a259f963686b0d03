"""The CUDA kernels compiled for the host: builds the library, keeps it, and draws with it through the real binding."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emotag import plugins
from emotag.plugins import cuda

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ALIGN = 256


def sources() -> list[Path]:
    """What the emulated library is compiled from."""
    kernels = ROOT / "plugins" / "cuda"
    return [*sorted(kernels.glob("*.cu")), *sorted(kernels.glob("*.cpp")), HERE / "fibers.cpp"]


def command(out: Path, files: list[Path], *flags: str) -> list[str]:
    """The compiler's command line."""
    compiler = os.environ.get("CXX", "g++")
    language = ["-std=c++17", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", f"-I{HERE}"]
    return [compiler, *language, *flags, "-x", "c++", *map(str, files), "-o", str(out)]


@cache
def build(*flags: str, kernels: tuple[Path, ...] = ()) -> Path:
    """Compiles the kernels, or others, unless the same sources were compiled before; returns the library's path."""
    flags = flags or ("-O1",)
    files = [*kernels, HERE / "fibers.cpp"] if kernels else sources()
    headers = [file for folder in (HERE, ROOT / "plugins") for end in ("*.h", "*.cuh") for file in folder.rglob(end)]
    digest = hashlib.sha256(" ".join(command(Path(), files, *flags)).encode())
    for file in sorted({*files, *headers}):
        digest.update(file.read_bytes())
    folder = ROOT / "build" / "cuda_host"
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"emotag_cuda_{digest.hexdigest()[:16]}.so"
    if not out.exists():
        partial = out.with_suffix(f".{os.getpid()}")
        done = subprocess.run(command(partial, files, *flags), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the CUDA kernels do not compile for the host:\n{done.stderr}")
        partial.replace(out)
    return out


@cache
def load(path: Path | None = None) -> cuda.Library:
    """The emulated library through the real binding."""
    return cuda.load(path or build())


def hooks(library: cuda.Library) -> ctypes.CDLL:
    """The emulation's own functions: cuda_host_set_seed, cuda_host_set_error, cuda_host_launches."""
    return ctypes.CDLL(str(library.path))


@contextmanager
def schedule(library: cuda.Library, seed: int) -> Iterator[None]:
    """Runs blocks and threads in an order that the seed shuffles."""
    hooks(library).cuda_host_set_seed(seed)
    try:
        yield
    finally:
        hooks(library).cuda_host_set_seed(0)


@contextmanager
def failing(library: cuda.Library, error: int) -> Iterator[None]:
    """Every call of the runtime fails with this cudaError_t."""
    hooks(library).cuda_host_set_error(error)
    try:
        yield
    finally:
        hooks(library).cuda_host_set_error(0)


def memory(size: int, fill: int = 0xEE) -> np.ndarray:
    """Aligned bytes that stand for device memory, filled with rubbish."""
    raw = np.full(size + ALIGN, fill, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + size]


def upload(array: np.ndarray) -> np.ndarray:
    """A copy in aligned memory."""
    flat = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    out = memory(flat.nbytes)
    out[:] = flat
    return out.view(array.dtype).reshape(array.shape)


def address(array: np.ndarray | None) -> int:
    """Its address; 0 for none."""
    return 0 if array is None else array.ctypes.data


@dataclass
class Controls:
    """What one avatar is drawn with; as `plugins.Renderer.draw`."""

    expression: np.ndarray
    pose: np.ndarray
    translation: np.ndarray
    camera: plugins.Camera
    colour: Any = (1.0, 1.0, 1.0)
    jaw: np.ndarray | None = None
    audio: np.ndarray | None = None


class Drawing:
    """A plan with its memory, and the buffers of a frame: what a caller on a GPU does, on the host."""

    def __init__(
        self, scene: plugins.Scene, avatars: list[Controls], options: cuda.Options, image: np.ndarray | None = None
    ) -> None:
        self.library = load()
        first = avatars[0]
        options = replace(options, width=first.camera.width, height=first.camera.height, avatars=len(avatars))
        packed = self.library.pack(scene)
        self.blob = upload(packed)
        self.plan = self.library.plan(packed, options)
        self.scene = scene
        self.give_workspace()
        self.controls = upload(np.stack([cuda.controls(a.camera, a.pose, a.translation, a.colour) for a in avatars]))
        self.expression = upload(np.stack([np.asarray(a.expression, np.float32) for a in avatars]))
        self.jaw = None if first.jaw is None else upload(np.stack([a.jaw for a in avatars]))
        self.audio = None if first.audio is None else upload(np.stack([a.audio for a in avatars]))
        self.image = None if image is None else upload(image)
        kind = np.float32 if options.pixels == "rgba32f" else np.uint8
        self.picture = memory(options.picture_bytes).view(kind).reshape(options.picture_shape)
        self.status = memory(cuda.STATUS_BYTES)
        self.vertices: np.ndarray | None = None

    def give_workspace(self) -> None:
        """Fresh memory, full of rubbish, for the plan."""
        self.workspace = memory(self.plan.workspace_bytes)
        self.plan.bind(address(self.blob), address(self.workspace), self.workspace.nbytes)

    def buffers(self) -> cuda.Buffers:
        """The addresses of a frame."""
        stride = 0 if self.image is None or self.image.ndim == 3 else self.image[0].nbytes
        return cuda.Buffers(
            controls=address(self.controls),
            picture=address(self.picture),
            status=address(self.status),
            expression=address(self.expression),
            jaw=address(self.jaw),
            encoded_audio=address(self.audio),
            background=address(self.image),
            background_stride=stride,
            vertices=address(self.vertices),
        )

    def run(self, stages: cuda.Stages = cuda.Stages.ALL) -> cuda.Status:
        """Draws; the picture is in `picture`."""
        self.plan.run(self.buffers(), 0, stages)
        return cuda.Status.read(self.status)

    def array(self, which: cuda.Array, kind: Any) -> np.ndarray:
        """An array of the workspace, flat."""
        offset, size = self.plan.array(which)
        return self.workspace[offset : offset + size].view(kind)


def picture(scene: plugins.Scene, controls: Controls, image: np.ndarray | None = None, **options: Any) -> np.ndarray:
    """One avatar's picture (H, W, channels)."""
    options = {"width": 0, "height": 0, "mouth_moves": controls.audio is not None, **options}
    drawing = Drawing(scene, [controls], cuda.Options(**options), image)
    assert not drawing.run().overflow
    return drawing.picture[0]


if __name__ == "__main__":
    print(build(*sys.argv[1:]))
