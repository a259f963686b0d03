"""Where an avatar runs: `cpu`, `cuda` (ONNX Runtime) or `tensorrt`, chosen by name with a reason.

Importing this loads neither cuda-python nor TensorRT.
"""

from .bound import DeviceBound, DeviceGraph
from .choice import BackendWarning, Machine, open_backend
from .device import DeviceBackend, whole_frame
from .driver import Device, Driver, OutOfDeviceMemory
from .memory import DeviceArray
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
    "Drawing",
    "Driver",
    "Machine",
    "OutOfDeviceMemory",
    "open_backend",
    "whole_frame",
]
