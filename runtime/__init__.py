"""Streaming avatar runtime: numpy, ONNX Runtime and the kernels; never torch."""

from .avatar import Avatar
from .emotion import Emotion
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
from .feeling import FrameEmotion
from .frame import Frame
from .head import HeadPose
from .hearing import Hearing
from .idle import Idle
from .model import Model
from .motion import Motion
from .output import write_video
from .stats import StageStats, Stats
from .view import View

__all__ = [
    "AudioError",
    "Avatar",
    "BackendError",
    "BundleError",
    "CheckpointError",
    "ControlError",
    "EmotagError",
    "Emotion",
    "ExportError",
    "Frame",
    "FrameEmotion",
    "HeadPose",
    "Hearing",
    "Idle",
    "Model",
    "Motion",
    "OutputError",
    "StageStats",
    "Stats",
    "View",
    "write_video",
]
