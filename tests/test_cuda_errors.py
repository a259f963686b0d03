"""What can go wrong with the CUDA kernels, each with its error; and what the emulation itself finds."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import egg
import numpy as np
import pytest

from emotag import plugins
from emotag.plugins import cuda
from emotag.plugins.cuda import binding
from emotag.plugins.errors import BackendError, ControlError

HOST = Path(__file__).parent / "cuda_host"
sys.path.append(str(HOST))
import emulated  # noqa: E402


@pytest.fixture(scope="module")
def scene() -> plugins.Scene:
    head = egg.head(8, 8, 3)
    return plugins.Scene(head, egg.gaussians(head, 100))


@pytest.fixture()
def drawing(scene: plugins.Scene) -> emulated.Drawing:
    return emulated.Drawing(scene, [emulated.Controls(*egg.controls(scene.head), egg.camera(32, 32))], SMALL)


SMALL = cuda.Options(32, 32)


def test_a_library_that_was_not_built_says_how(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="EMOTAG_CUDA=ON"):
        cuda.load(tmp_path / "libemotag_cuda.so")


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    broken = tmp_path / "libemotag_cuda.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(BackendError, match="does not load"):
        cuda.load(broken)
    with pytest.raises(BackendError, match="does not load"):  # a library, but another one
        cuda.load(Path(plugins._kernels.__file__))


def test_a_library_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "INTERFACE", 99)
    with pytest.raises(BackendError, match="interface 1, this package needs 99"):
        cuda.load(emulated.build())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be an integer from 1 to 4096"),
        ({"height": 5000}, "height must be"),
        ({"avatars": True}, "avatars must be"),
        ({"avatars": 2000}, "1 to 1024"),
        ({"pixels": "bgr"}, "pixels must be one of"),
        ({"background": "red"}, "background must be None"),
        ({"background": None}, "RGB8 has no alpha"),
        ({"mouth_moves": True}, "no mouth to move"),
        ({"pairs": 2**31}, "draw fewer avatars at once"),
    ],
)
def test_options_that_cannot_be(scene: plugins.Scene, change: dict[str, object], message: str) -> None:
    library = emulated.load()
    with pytest.raises(ControlError, match=message):
        library.plan(library.pack(scene), replace(SMALL, **change))  # type: ignore[arg-type]


def test_blobs_that_cannot_be(scene: plugins.Scene) -> None:
    library = emulated.load()
    packed = library.pack(scene)
    for blob, message in ((packed[:100], "longer than 100"), (packed[:-1], "cut short"), (packed[::-1], "no packed")):
        with pytest.raises(ControlError, match=message):
            library.plan(blob, SMALL)


def test_memory_that_cannot_be(scene: plugins.Scene, drawing: emulated.Drawing) -> None:
    plan = drawing.library.plan(drawing.library.pack(scene), SMALL)
    with pytest.raises(ControlError, match="bind it first"):
        plan.run(drawing.buffers())
    blob, room = emulated.address(drawing.blob), emulated.address(drawing.workspace)
    for arguments, message in (
        ((0, room, plan.workspace_bytes), "256-byte aligned"),
        ((blob, room + 8, plan.workspace_bytes), "256-byte aligned"),
        ((blob, room, plan.workspace_bytes - 1), "needs .* bytes"),
    ):
        with pytest.raises(ControlError, match=message):
            plan.bind(*arguments)


@pytest.mark.parametrize("name", ["controls", "expression", "picture", "status"])
def test_buffers_that_are_missing(drawing: emulated.Drawing, name: str) -> None:
    with pytest.raises(ControlError, match=f"no {name} on the device"):
        drawing.plan.run(replace(drawing.buffers(), **{name: 0}))


def test_buffers_that_plans_ask_for(scene: plugins.Scene) -> None:
    one = emulated.Controls(*egg.controls(scene.head), egg.camera(32, 32))
    with pytest.raises(ControlError, match="no background on the device"):
        emulated.Drawing(scene, [one], replace(SMALL, background="image_u8")).run()
    speaking = plugins.Scene(scene.head, scene.gaussians, egg.mouth(scene.gaussians, 5))
    with pytest.raises(ControlError, match="no encoded_audio on the device"):
        emulated.Drawing(speaking, [one], replace(SMALL, mouth_moves=True)).run()
    drawing = emulated.Drawing(scene, [one], SMALL)
    with pytest.raises(ControlError, match="aligned"):
        drawing.plan.run(replace(drawing.buffers(), picture=drawing.buffers().picture + 4))
    with pytest.raises(ControlError, match="stages 64"):
        drawing.plan.run(drawing.buffers(), 0, 64)  # type: ignore[arg-type]


def test_a_closed_plan(drawing: emulated.Drawing) -> None:
    with drawing.plan as plan:
        plan.run(drawing.buffers())
    plan.close()
    with pytest.raises(ControlError, match="was closed"):
        plan.run(drawing.buffers())


@pytest.mark.parametrize(
    ("error", "message"), [(100, "nvidia-smi"), (35, "driver is missing or too old"), (209, "CMAKE_CUDA_ARCHITECTURES")]
)
def test_machines_without_a_gpu_to_use(
    scene: plugins.Scene, drawing: emulated.Drawing, error: int, message: str
) -> None:
    with emulated.failing(drawing.library, error):
        with pytest.raises(BackendError, match=message):
            drawing.library.plan(drawing.library.pack(scene), SMALL)
        with pytest.raises(BackendError, match=message):
            drawing.run()
    assert not drawing.run().overflow


def test_a_launch_that_fails_names_the_stage(drawing: emulated.Drawing) -> None:
    with emulated.failing(drawing.library, 701), pytest.raises(BackendError, match="blending"):
        drawing.run(cuda.Stages.BLEND)


def test_controls_are_checked() -> None:
    camera = egg.camera(32, 32)
    packed = cuda.controls(camera, np.zeros((5, 3)), [1, 2, 3], (0.1, 0.2, 0.3))
    assert packed.shape == (40,) and (packed[31:34] == [1, 2, 3]).all()
    assert cuda.controls(camera, np.zeros((5, 3)), [0, 0, 0], out=packed) is packed and packed[31] == 0
    with pytest.raises(ControlError, match="pose"):
        cuda.controls(camera, np.zeros((4, 3)), [0, 0, 0])
    with pytest.raises(ControlError, match="translation"):
        cuda.controls(camera, np.zeros((5, 3)), [np.nan, 0, 0])
    with pytest.raises(ControlError, match="out must be"):
        cuda.controls(camera, np.zeros((5, 3)), [0, 0, 0], out=np.zeros(3, np.float32))


@pytest.fixture(scope="module")
def broken() -> ctypes.CDLL:
    return ctypes.CDLL(str(emulated.build(kernels=(HOST / "broken.cu",))))


def test_emulated_warps_shuffle_and_add(broken: ctypes.CDLL) -> None:
    numbers, out = np.arange(64, dtype=np.float32), np.zeros(65, np.float32)
    assert broken.run_warp_sum(numbers.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p)) == 0
    assert out[64] == numbers.sum()
    assert (out[:32] == np.cumsum(numbers[:32])).all() and (out[32:64] == np.cumsum(numbers[32:])).all()
    assert broken.run_too_many(out.ctypes.data_as(ctypes.c_void_p)) == 1


def test_emulation_finds_a_missing_barrier(broken: ctypes.CDLL) -> None:
    numbers, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    pointers = numbers.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p)
    broken.run_reverse(*pointers, 1)
    assert (out == numbers[::-1]).all()
    broken.run_reverse(*pointers, 0)
    assert not (out == numbers[::-1]).all()


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("split_barrier", "wait at different places"),
        ("leave_early", "left while others wait"),
        ("vote_apart", "left while others wait"),
    ],
)
def test_emulation_finds_threads_that_part(broken: ctypes.CDLL, kernel: str, message: str) -> None:
    code = f"import ctypes; ctypes.CDLL({broken._name!r}).run_{kernel}((ctypes.c_float * 64)())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr


ASAN_FRAME = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {host!r}]
import egg, emulated
import numpy as np
from emotag import plugins
emulated.load = lambda: loaded
loaded = emulated.cuda.load(Path({library!r}))
head = egg.head(9, 9, 3)
gaussians = egg.gaussians(head, 300)
scene = plugins.Scene(head, gaussians, egg.mouth(gaussians, 20))
one = emulated.Controls(*egg.controls(head), egg.camera(37, 29), audio=np.ones(256, np.float32))
for pixels in ("rgb8", "rgba8", "rgba32f"):
    drawing = emulated.Drawing(scene, [one, one], emulated.cuda.Options(0, 0, pixels=pixels, mouth_moves=True))
    assert not drawing.run().overflow
    tight = emulated.Drawing(scene, [one], emulated.cuda.Options(0, 0, pixels=pixels, mouth_moves=True, pairs=50))
    assert tight.run().overflow
print("clean")
"""


def test_address_sanitizer_finds_nothing() -> None:
    """Every memory access of a frame, its shared and its device memory included, in a process of its own."""
    library = emulated.build("-O1", "-g1", "-fsanitize=address")
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    code = ASAN_FRAME.format(tests=str(HOST.parent), host=str(HOST), library=str(library))
    options = "detect_leaks=0:detect_stack_use_after_return=0:verify_asan_link_order=0"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": options},
    )
    assert done.returncode == 0 and done.stdout.strip() == "clean", done.stderr[-3000:]
