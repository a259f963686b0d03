"""Streaming avatar runtime: numpy, ONNX Runtime and the kernels; never torch."""

from .avatar import Avatar
from .errors import (
    AudioError,
    BackendError,
    BundleError,
    CheckpointError,
    ControlError,
    EmotagError,
    ExportError,
    OutputError,
)
from .frame import Frame
from .model import Model
from .motion import Motion
from .output import write_video
from .stats import StageStats, Stats

__all__ = [
    "AudioError",
    "Avatar",
    "BackendError",
    "BundleError",
    "CheckpointError",
    "ControlError",
    "EmotagError",
    "ExportError",
    "Frame",
    "Model",
    "Motion",
    "OutputError",
    "StageStats",
    "Stats",
    "write_video",
]
