"""Memory of a GPU: blocks with page-locked mirrors, arrays that others can read, and theirs that we write to."""

from __future__ import annotations

import ctypes
import weakref
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, ControlError
from ..graphs import Float, Shapes
from .driver import Driver

ALIGNMENT = 256  # what TensorRT and the kernels ask of an address


class Allocation:
    """Bytes on a GPU, given back when this object goes."""

    def __init__(self, driver: Driver, size: int) -> None:
        self.size = size
        self.pointer = driver.allocate(max(size, 1))
        self._finalizer = weakref.finalize(self, driver.free, self.pointer)
        self._finalizer.atexit = False  # the process's end gives all of it back, after the driver has gone

    def close(self) -> None:
        self._finalizer()


class Block:
    """Named float32 tensors in one piece of device memory, each at an aligned address.

    With a mirror, `host` holds arrays of the same names in page-locked memory, and the whole block is copied at once.
    """

    def __init__(self, driver: Driver, shapes: Shapes, mirrored: bool = False) -> None:
        self._driver = driver
        self.offsets, size = {}, 0
        for name, shape in shapes.items():
            self.offsets[name] = size
            size += -(-4 * prod(shape) // ALIGNMENT) * ALIGNMENT
        self.size = size
        self._memory = Allocation(driver, size)
        self.pointers = {name: self._memory.pointer + offset for name, offset in self.offsets.items()}
        self.host: dict[str, Float] = {}
        self._mirror: NDArray[np.uint8] | None = None
        if mirrored and size:
            self._mirror = mirror = driver.allocate_host(size)
            mirror[:] = 0
            self.host = {
                name: mirror[at : at + 4 * prod(shapes[name])].view(np.float32).reshape(shapes[name])
                for name, at in self.offsets.items()
            }

    def upload(self, stream: int) -> None:
        """Host to device, all of it."""
        if self._mirror is not None:
            self._driver.upload(self._memory.pointer, self._mirror, stream)

    def download(self, stream: int) -> None:
        """Device to host, all of it."""
        if self._mirror is not None:
            self._driver.download(self._mirror, self._memory.pointer, stream)

    def copy_from(self, other: Block, stream: int) -> None:
        """All of a block of the same shapes, within the device."""
        if self.size:
            self._driver.copy(self._memory.pointer, other._memory.pointer, self.size, stream)

    def clear(self, stream: int) -> None:
        if self.size:
            self._driver.fill(self._memory.pointer, 0, self.size, stream)


class DeviceArray:
    """A picture on the GPU, without a copy to the host. CuPy, PyTorch, pycuda and JAX take it as it is.

    It is the avatar's own memory: the avatar's next frame overwrites it, unless it was drawn into the caller's buffer.
    """

    def __init__(self, pointer: int, shape: tuple[int, ...], device: int, owner: object) -> None:
        self.pointer, self.shape, self.device = pointer, shape, device
        self._owner = owner  # keeps the memory alive

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # stream None: the work is finished when a frame is handed out.
        return {"shape": self.shape, "typestr": "|u1", "data": (self.pointer, False), "version": 3, "stream": None}

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DL_CUDA, self.device

    def __dlpack__(self, *, stream: Any = None, **unused: Any) -> object:
        """A DLPack capsule (unversioned) of uint8. The frame is finished: nothing for `stream` to wait for."""
        return _make_capsule(self)


def device_buffer(value: Any, shape: tuple[int, ...], device: int) -> int:
    """Address of the caller's GPU buffer: an object with `__cuda_array_interface__` or `__dlpack__`.

    Raises ControlError unless it is uint8, contiguous, writeable, of this shape and on this GPU.
    """
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        pointer, read_only = interface["data"]
        found = tuple(interface["shape"]), interface["typestr"].lstrip("|<>="), interface.get("strides")
    elif hasattr(value, "__dlpack_device__"):
        kind, index = value.__dlpack_device__()
        if (int(kind), int(index)) != (_DL_CUDA, device):
            raise ControlError(f"out is on device {(int(kind), int(index))}, the avatar on GPU {device}: move it there")
        pointer, found, read_only = *_read_capsule(value.__dlpack__()), False
    else:
        raise ControlError(f"out is {type(value).__name__}: pass an object with __cuda_array_interface__ or __dlpack__")
    if found[:2] != (shape, "u1") or not _contiguous(found[2], shape) or read_only or not pointer:
        raise ControlError(f"out is not a writeable, contiguous uint8 buffer of shape {shape} on the GPU: make one")
    return int(pointer)


def is_device_buffer(value: Any) -> bool:
    """Whether `value` offers memory of a GPU; numpy arrays offer DLPack too, of the CPU."""
    return not isinstance(value, np.ndarray) and (
        hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack_device__")
    )


def _contiguous(strides: Any, shape: tuple[int, ...]) -> bool:
    expected = [prod(shape[i + 1 :]) for i in range(len(shape))]
    return strides is None or list(strides) == expected


# DLPack: the C structures of dlpack.h, version 0.8 (unversioned capsules, which every library takes)

_DL_CUDA = 2
_DL_UINT = 1


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _DLManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_DLManagedTensor))
_DLManagedTensor._fields_ = [("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]
_CapsuleEnd = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, _CapsuleEnd]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_raw_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", ctypes.pythonapi))

_exported: dict[int, tuple[object, ...]] = {}  # what lives until its consumer calls the deleter


def _delete(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


def _end_capsule(capsule: int) -> None:
    """A capsule that nobody took; a consumer renames the one it takes."""
    if _raw_name(capsule) == b"dltensor":
        _exported.pop(_raw_pointer(capsule, b"dltensor"), None)


_deleter, _capsule_end = _Deleter(_delete), _CapsuleEnd(_end_capsule)


def _make_capsule(array: DeviceArray) -> object:
    count = len(array.shape)
    shape = (ctypes.c_int64 * count)(*array.shape)
    managed = _DLManagedTensor()
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.device_id = array.pointer, _DL_CUDA, array.device
    tensor.ndim, tensor.code, tensor.bits, tensor.lanes = count, _DL_UINT, 8, 1
    tensor.shape, tensor.byte_offset = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)), 0
    managed.deleter = _deleter
    _exported[ctypes.addressof(managed)] = managed, shape, array
    capsule: object = _new_capsule(ctypes.addressof(managed), b"dltensor", _capsule_end)
    return capsule


def _read_capsule(capsule: object) -> tuple[int, tuple[tuple[int, ...], str, list[int] | None]]:
    """Address, and (shape, type, strides); the caller's object keeps the memory alive, not the capsule."""
    try:
        address = _capsule_pointer(capsule, b"dltensor")
    except ValueError:
        raise BackendError("out gives a DLPack capsule that was used already: pass a fresh array") from None
    tensor = ctypes.cast(address, ctypes.POINTER(_DLManagedTensor)).contents.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = [tensor.strides[i] for i in range(tensor.ndim)] if tensor.strides else None
    kind = "u1" if (tensor.code, tensor.bits, tensor.lanes) == (_DL_UINT, 8, 1) else "other"
    return int(tensor.data or 0) + int(tensor.byte_offset), (shape, kind, strides)
