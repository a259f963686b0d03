"""Where an avatar runs: `cpu`, `cuda` (ONNX Runtime) or `tensorrt`, chosen by name with a reason.

Importing this loads neither cuda-python nor TensorRT.
"""

from .bound import DeviceBound, DeviceGraph
from .canvas import DeviceRenderer
from .choice import BackendWarning, Machine, open_backend
from .device import DeviceBackend, whole_frame
from .driver import Device, Driver, OutOfDeviceMemory
from .frame import WholeFrame
from .memory import DeviceArray, is_device_buffer
from .protocol import Backend, BackendInfo, CpuBackend, Drawing

__all__ = [
    "Backend",
    "BackendInfo",
    "BackendWarning",
    "CpuBackend",
    "Device",
    "DeviceArray",
    "DeviceBackend",
    "DeviceBound",
    "DeviceGraph",
    "DeviceRenderer",
    "Drawing",
    "Driver",
    "Machine",
    "OutOfDeviceMemory",
    "WholeFrame",
    "is_device_buffer",
    "open_backend",
    "whole_frame",
]
