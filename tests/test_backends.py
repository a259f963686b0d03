"""The GPU backends on a GPU that is none: what they enqueue, in which order, and what comes of it."""

from __future__ import annotations

import gc
import shutil
import warnings
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_fake import Code, Cudart, Kernels, Onnx, TensorRT, machine, view
from synthetic_bundle import Shape, write_bundle

from emotag.plugins import cuda
from emotag.runtime import Avatar, BackendError, ControlError, Frame, Model
from emotag.runtime.backends import BackendWarning, Driver, Machine, OutOfDeviceMemory, choice
from emotag.runtime.backends.driver import load_cuda_python

SHAPE = Shape(size=24, gaussians=60)
FRAMES = 14


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("gpu") / "a.emotag", SHAPE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOTAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(found: Machine) -> None:
        monkeypatch.setattr(choice, "MACHINE", found)

    return put


def speech(frames: int = FRAMES, seed: int = 0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).standard_normal((frames, 640)) * 0.1).astype(np.float32)


def agree(a: Frame, b: Frame) -> None:
    """Equal motion, and pictures that differ by rounding of the camera to float32 at most."""
    assert a.index == b.index and np.array_equal(a.audio, b.audio)
    for name in vars(a.motion):
        assert np.array_equal(getattr(a.motion, name), getattr(b.motion, name)), name
    assert a.rgb.shape == b.rgb.shape
    assert np.abs(a.rgb.astype(int) - b.rgb).max() <= 1
    assert (a.alpha is None) == (b.alpha is None)


# What comes of it


@pytest.mark.parametrize("device", ["tensorrt", "cuda"])
def test_a_gpu_shows_what_the_cpu_shows(bundle: Path, use: Any, device: str) -> None:
    """Through start, steady state, interruption, other backgrounds, reset, push, flush and render."""
    cudart = Cudart()
    use(machine(cudart, onnx=Onnx(cudart)))
    cpu, gpu = Avatar(bundle, device="cpu", threads=1), Avatar(bundle, device=device)
    assert gpu.backend == device and gpu.backend.device == "Fake GPU (cuda:0)"
    image = np.random.default_rng(3).integers(0, 255, (24, 24, 3), np.uint8)
    for number, samples in enumerate(speech(24)):
        for avatar in (cpu, gpu):
            if number == 9:
                avatar.interrupt()
            if number in (14, 17, 20):
                avatar.background = {14: None, 17: image, 20: (0.2, 0.4, 0.6)}[number]
        agree(cpu.step(samples), gpu.step(samples))
    for a, b in zip(cpu.push(speech(4).ravel()[:2000]), gpu.push(speech(4).ravel()[:2000]), strict=True):
        agree(a, b)
    for a, b in zip(cpu.flush(), gpu.flush(), strict=True):
        agree(a, b)
    rendered = [avatar.render(speech(8).ravel(), progress=False) for avatar in (cpu, gpu)]
    for a, b in zip(*rendered, strict=True):
        agree(a, b)


@pytest.mark.parametrize("chunk", [4, 6])
def test_longer_chunks_go_through_the_host(tmp_path: Path, use: Any, chunk: int) -> None:
    folder = write_bundle(tmp_path / "a.emotag", Shape(chunk=chunk, lookahead=chunk, context=24, size=16, gaussians=20))
    use(machine(Cudart()))
    cpu, gpu = Avatar(folder, device="cpu", threads=1), Avatar(folder, device="tensorrt")
    for samples in speech(18):
        agree(cpu.step(samples), gpu.step(samples))


def test_rings_that_fill_alignments_are_kept_by_one_copy(tmp_path: Path, use: Any) -> None:
    folder = write_bundle(tmp_path / "a.emotag", Shape(lookahead=6, size=16, gaussians=20))
    cudart = Cudart()
    use(machine(cudart))
    cpu, gpu = Avatar(folder, device="cpu", threads=1), Avatar(folder, device="tensorrt")
    for samples in speech():
        with cudart.recording() as log:
            frame = gpu.step(samples)
            last = list(log)
        agree(cpu.step(samples), frame)
    assert [entry for entry in last if entry.startswith("copy rows")] == ["copy rows 4x32"]


def test_two_avatars_share_engines_and_nothing_else(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    use(machine(cudart))
    model = Model.load(bundle, "tensorrt")
    first, second, alone = Avatar(model), Avatar(model), Avatar(bundle, device="cpu", threads=1)
    for samples, other in zip(speech(), speech(seed=1), strict=True):
        second.step(other)
        agree(alone.step(samples), first.step(samples))


def test_avatars_on_threads_of_their_own(bundle: Path, use: Any) -> None:
    """Engines, kernels and GPU are shared; states, streams and recordings are not."""
    from concurrent.futures import ThreadPoolExecutor

    use(machine(Cudart()))
    model = Model.load(bundle, "tensorrt")
    crowd = [Avatar(model) for _ in range(6)]
    alone = [Avatar(bundle, device="cpu", threads=1) for _ in crowd]
    heard = [speech(seed=number) for number in range(len(crowd))]
    with ThreadPoolExecutor(4) as pool:
        for frame in range(FRAMES):
            made = list(pool.map(lambda avatar, samples: avatar.step(samples), crowd, [s[frame] for s in heard]))
            for avatar, samples, found in zip(alone, heard, made, strict=True):
                agree(avatar.step(samples[frame]), found)


def test_a_pipelined_avatar_is_the_same(bundle: Path, use: Any) -> None:
    use(machine(Cudart()))
    cpu = Avatar(bundle, device="cpu", threads=1, pipelined=True)
    gpu = Avatar(bundle, device="tensorrt", pipelined=True)
    for samples in speech():
        agree(cpu.step(samples), gpu.step(samples))


# In which order


def steady(bundle: Path, cudart: Cudart) -> Avatar:
    """An avatar whose frames are launched as one graph."""
    avatar = Avatar(bundle, device="tensorrt")
    for samples in speech(SHAPE.lookahead_frames + 2):
        avatar.step(samples)
    return avatar


def test_a_frame_is_one_graph_and_one_picture(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    use(machine(cudart))
    avatar = steady(bundle, cudart)
    with cudart.recording() as log:
        avatar.step(speech(1)[0])
    picture = 24 * 24 * 3
    assert log == [
        "launch 12",
        "wait",
        "copy rows 2x32",  # a ring's new rows
        "copy rows 2x32",
        f"download {picture}",
        "wait",
    ]


def test_what_the_graph_of_a_frame_holds(bundle: Path, use: Any) -> None:
    """Run once, recorded once, launched ever after; the order is that of `WholeFrame`."""
    cudart = Cudart()
    use(machine(cudart))
    avatar = Avatar(bundle, device="tensorrt")
    logs = []
    for samples in speech(SHAPE.lookahead_frames + 3):
        with cudart.recording() as log:
            avatar.step(samples)
            logs.append(list(log))
    direct, recorded, launched = logs[-3:]
    work = direct[: direct.index("wait")]
    kinds = [entry.split()[0] for entry in work]
    assert kinds == [
        *("upload", "upload", "audio", "copy", "copy", "motion", "copy"),
        *("upload", "draw", "download", "download", "download"),
    ]
    begin, end = recorded.index("begin"), recorded.index("end")
    assert recorded[begin + 1 : end] == [f"record {entry}" for entry in work]
    assert recorded[end + 1] == launched[0] == f"launch {len(work)}"
    assert not any(entry.startswith(("begin", "record", "allocate")) for entry in launched)


def test_memory_is_allocated_and_bound_before_the_first_frame(bundle: Path, use: Any) -> None:
    """Scene, pictures and controls; then each graph: its blocks, an address for every tensor, its initial state."""
    cudart = Cudart()
    use(machine(cudart))
    model = Model.load(bundle, "tensorrt")
    with cudart.recording() as log:
        avatar = Avatar(model)
        made = [(kind, len(list(run))) for kind, run in groupby(log, lambda entry: entry.split()[0])]
        bound = [entry.removeprefix("address ") for entry in log if entry.startswith("address")]
    initial = [("upload", 1), ("copy", 1)]
    assert made == [
        *[("allocate", 1), ("upload", 1), ("wait", 1)],  # the packed scene
        *[("allocate", 18), ("address", 13), *initial, ("wait", 1)],  # controls, pictures and GRMN's tensors
        *[("allocate", 10), ("address", 9), *initial, ("fill", 1), ("wait", 1)],  # the encoder's, its rings empty
        *[*initial, ("fill", 1), ("wait", 1)],  # reset
    ]
    motion, audio = model._motion, model._audio
    assert audio is not None
    assert set(bound[:13]) == {*motion.inputs, *motion.outputs} and set(bound[13:]) == {*audio.inputs, *audio.outputs}
    with cudart.recording() as log:
        avatar.step(speech(1)[0])
    assert log.index("allocate") < log.index("bind workspace") < log.index("draw"), "the workspace is sized by the plan"
    assert log.count("allocate") == 1


def test_a_frame_allocates_nothing(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    use(machine(cudart))
    avatar = steady(bundle, cudart)
    with cudart.recording() as log:
        for samples in speech(20):
            avatar.step(samples)
    assert not [entry for entry in log if entry.startswith(("allocate", "begin", "destroy"))]


def test_memory_is_given_back(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    use(machine(cudart))
    steady(bundle, cudart)
    gc.collect()
    assert not cudart.blocks


def test_onnx_runtime_records_its_own_sessions(bundle: Path, use: Any) -> None:
    """One graph for each session, and ours for the drawing: sessions are never inside our recording."""
    cudart = Cudart()
    onnx = Onnx(cudart)
    use(machine(cudart, trt=BackendError("tensorrt is not installed"), onnx=onnx))
    avatar = Avatar(bundle, device="cuda")
    for samples in speech(FRAMES):
        with cudart.recording() as log:
            avatar.step(samples)
            last = list(log)
    assert "audio" in last and "motion" in last and "launch 4" in last
    assert not any(entry.startswith("record") for entry in last)
    options = [provider[1] for provider in onnx.provider_options]
    assert all(option["enable_cuda_graph"] == "1" for option in options)
    assert len({option["user_compute_stream"] for option in options}) == 1


def test_too_many_pairs_are_drawn_again_with_more_room(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    kernels = Kernels(cudart, room=1000)
    use(machine(cudart, kernels))
    cpu, gpu = Avatar(bundle, device="cpu", threads=1), Avatar(bundle, device="tensorrt")
    for number, samples in enumerate(speech()):
        agree(cpu.step(samples), gpu.step(samples))
        if number == 8:
            kernels.room = 1000  # a new background makes a new plan, which keeps the room that was needed
            cpu.background = gpu.background = (0.0, 0.0, 0.0)
    assert [options.pairs for options in kernels.plans if options.pairs] == [] or kernels.plans[-1].pairs == 6000


# Pictures that stay on the GPU


class GpuBuffer:
    """What CuPy, pycuda or torch hand over."""

    def __init__(self, shape: tuple[int, ...], **changes: Any) -> None:
        self.memory = np.zeros(shape, np.uint8)
        data = {"shape": shape, "typestr": "|u1", "data": (self.memory.ctypes.data, False), "version": 3}
        self.__cuda_array_interface__ = data | changes


def test_the_picture_can_stay_on_the_gpu(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    use(machine(cudart))
    avatar, twin = steady(bundle, cudart), steady(bundle, cudart)
    buffer = GpuBuffer((24, 24, 3))
    with cudart.recording() as log:
        frame = avatar.step(speech(1)[0], out=buffer)
    assert not any(entry.startswith("download") for entry in log)
    expected = twin.step(speech(1)[0])
    assert np.array_equal(buffer.memory, expected.rgb)
    assert np.array_equal(frame.rgb, expected.rgb) and frame.alpha is None
    assert frame.device_rgb is not None
    interface = frame.device_rgb.__cuda_array_interface__
    assert np.array_equal(view(interface["data"][0], interface["shape"], np.uint8), expected.rgb)
    later = avatar.step(speech(1)[0], out=buffer)
    avatar.step(speech(1)[0])
    with pytest.raises(ControlError, match="overwritten"):
        _ = later.rgb


def test_device_rgb_speaks_dlpack(bundle: Path, use: Any) -> None:
    """A capsule of ours, read as a consumer reads it, and taken as `out` of another avatar."""
    use(machine(Cudart()))
    avatar = steady(bundle, Cudart())
    on_device = avatar.step(speech(1)[0]).device_rgb
    assert on_device is not None and on_device.__dlpack_device__() == (2, 0)

    class Exporter:  # DLPack only
        __dlpack__, __dlpack_device__ = on_device.__dlpack__, on_device.__dlpack_device__

    other = steady(bundle, Cudart())
    expected = other.step(speech(1, seed=5)[0], out=Exporter())
    interface = on_device.__cuda_array_interface__
    assert np.array_equal(view(interface["data"][0], (24, 24, 3), np.uint8), expected.rgb)
    from emotag.runtime.backends import memory

    gc.collect()
    assert not memory._exported, "capsules that were not taken release what they hold"


@pytest.mark.parametrize(
    "buffer, message",
    [
        (GpuBuffer((24, 24, 4)), "shape"),
        (GpuBuffer((24, 24, 3), typestr="<f4"), "uint8"),
        (GpuBuffer((24, 24, 3), strides=(80, 3, 1)), "contiguous"),
        (GpuBuffer((24, 24, 3), data=(0, False)), "uint8"),
        (np.zeros((24, 24, 4), np.uint8), "shape"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(bundle: Path, use: Any, buffer: Any, message: str) -> None:
    use(machine(Cudart()))
    avatar = steady(bundle, Cudart())
    index = avatar.step(speech(1)[0]).index
    with pytest.raises(ControlError, match=message):
        avatar.step(speech(1)[0], out=buffer)
    assert avatar.step(speech(1)[0]).index == index + 1


def test_gpu_memory_is_no_place_for_the_cpu(bundle: Path) -> None:
    with pytest.raises(ControlError, match="out is not"):
        Avatar(bundle, device="cpu", threads=1).step(speech(1)[0], out=GpuBuffer((24, 24, 3)))  # type: ignore[arg-type]


# Which backend, and why


def test_auto_takes_the_gpu_and_says_so(bundle: Path, use: Any) -> None:
    use(machine(Cudart()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = Avatar(bundle).backend
    assert backend == "tensorrt" and "TensorRT were found" in backend.reason
    assert backend.precision == "fp32" and backend.describe().startswith("tensorrt on Fake GPU (cuda:0), fp32: ")


def test_auto_without_a_gpu_is_the_cpu_without_a_warning(bundle: Path, use: Any) -> None:
    use(machine(Cudart(driver=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = Avatar(bundle, threads=1).backend
    assert backend == "cpu" and backend.reason == "no NVIDIA driver was found: install one"


def test_auto_falls_back_loudly(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    trt = TensorRT(cudart)
    trt.cannot_build = True
    use(machine(cudart, trt=trt, onnx=Onnx(cudart)))
    with pytest.warns(BackendWarning, match="no implementation for node mm"):
        backend = Avatar(bundle).backend
    assert backend == "cuda" and "no implementation for node mm" in backend.reason
    use(machine(cudart, trt=trt))
    with pytest.warns(BackendWarning, match="runs on the CPU"):
        backend = Avatar(bundle, threads=1).backend
    assert backend == "cpu"
    assert "tensorrt: " in backend.reason and "cuda: this ONNX Runtime has no CUDA provider" in backend.reason


@pytest.mark.parametrize(
    "device, cudart, message",
    [
        ("tensorrt", Cudart(driver=0), "no NVIDIA driver was found: install one, or use device='cpu'"),
        ("cuda", Cudart(driver=12020), "too old: it knows CUDA 12.2, 13.0 is needed: install driver 580"),
        ("cuda:3", Cudart(), "no GPU 3: this machine has 1 GPU, numbered from 0"),
        ("tensorrt:1", Cudart(devices=0), "no GPU 1: this machine has 0 GPUs"),
        ("tensorrt", Cudart(memory=1000), "out of memory"),
        ("cuda", Cudart(), "no CUDA provider: pip install onnxruntime-gpu"),
        ("gpu", Cudart(), "device 'gpu' is unknown: use 'auto', 'cpu'"),
        ("cuda:-1", Cudart(), "is unknown"),
        (0, Cudart(), "is unknown"),
    ],
)
def test_a_demanded_device_is_had_or_refused(bundle: Path, use: Any, device: Any, cudart: Cudart, message: str) -> None:
    use(machine(cudart))
    with pytest.raises(BackendError, match=message):
        Avatar(bundle, device=device)


def test_errors_of_the_driver_have_names(use: Any) -> None:
    with pytest.raises(OutOfDeviceMemory, match="cudaMalloc: the GPU is out of memory .cudaErrorMemoryAllocation"):
        Driver(0, Cudart(memory=10)).allocate(100)
    cudart = Cudart()
    cudart.fail["cudaStreamSynchronize"] = Code(700, "cudaErrorIllegalAddress")
    with pytest.raises(BackendError, match="cudaStreamSynchronize failed with cudaErrorIllegalAddress"):
        Driver(0, cudart).synchronize(1)


def test_a_recording_that_fails_leaves_the_stream_usable(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    use(machine(cudart))
    avatar = Avatar(bundle, device="tensorrt")
    avatar.step(speech(1)[0])
    cudart.fail["cudaGraphInstantiate"] = Code(900, "cudaErrorStreamCaptureUnsupported")
    with pytest.raises(BackendError, match="cudaGraphInstantiate failed"):
        avatar.step(speech(1)[0])
    assert not cudart.capturing


def test_missing_cuda_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"cuda-python is not installed .*pip install 'emotag\[gpu\]'"):
        load_cuda_python()


def test_missing_kernels_are_named(bundle: Path, use: Any, tmp_path: Path) -> None:
    def broken() -> Any:
        return cuda.load(tmp_path / "libemotag_cuda.so")

    (tmp_path / "libemotag_cuda.so").write_bytes(b"not a library")
    cudart = Cudart()
    whole = machine(cudart)
    use(Machine(whole.driver, broken, whole.engines))
    with pytest.raises(BackendError, match="does not load as EmoTaG's CUDA kernels"):
        Avatar(bundle, device="tensorrt")
    with pytest.warns(BackendWarning, match="does not load"):
        assert Avatar(bundle, threads=1).backend == "cpu"


# Engines


def test_engines_are_built_once(bundle: Path, use: Any, cache: Path) -> None:
    cudart = Cudart()
    trt = TensorRT(cudart)
    use(machine(cudart, trt=trt))
    first = Model.load(bundle, "tensorrt")
    again = Model.load(bundle, "tensorrt")
    assert trt.builds == 2 and len(list(cache.glob("*.engine"))) == 2
    assert first._backend.origins == dict.fromkeys(("audio", "motion"), "built")  # type: ignore[attr-defined]
    assert again._backend.origins == dict.fromkeys(("audio", "motion"), "cached")  # type: ignore[attr-defined]
    trt.__version__ = "1.8.0.1"
    Model.load(bundle, "tensorrt")
    assert trt.builds == 4


def test_a_damaged_cache_is_rebuilt(bundle: Path, use: Any, cache: Path) -> None:
    cudart = Cudart()
    trt = TensorRT(cudart)
    use(machine(cudart, trt=trt))
    Model.load(bundle, "tensorrt")
    for path in cache.glob("*.engine"):
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    model = Model.load(bundle, "tensorrt")
    assert trt.builds == 4
    assert all("SHA-256 differs" in how for how in model._backend.origins.values())  # type: ignore[attr-defined]


def test_engines_that_do_not_load_are_an_error(bundle: Path, use: Any) -> None:
    cudart = Cudart()
    trt = TensorRT(cudart)
    trt.broken = True
    use(machine(cudart, trt=trt))
    with pytest.raises(BackendError, match="does not load .the engine plan file is not compatible"):
        Model.load(bundle, "tensorrt")


def test_a_graph_for_the_processor_makes_no_engine(bundle: Path, use: Any, tmp_path: Path) -> None:
    from synthetic_bundle import edit_manifest

    folder = tmp_path / "int8.emotag"
    shutil.copytree(bundle, folder)
    edit_manifest(folder, precision={"audio": "int8", "motion": "fp32"})
    use(machine(Cudart()))
    with pytest.raises(BackendError, match="audio.onnx is quantised for the processor .*--engine tensorrt"):
        Model.load(folder, "tensorrt")
