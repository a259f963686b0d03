"""Every error of the SDK, as customers catch them: `runtime.EmotagError` and its subclasses.

They are defined beside the kernels, the lowest layer, which raise some of them.
"""

from __future__ import annotations

from ..plugins.errors import (
    AudioError,
    BackendError,
    BundleError,
    CheckpointError,
    ControlError,
    EmotagError,
    ExportError,
    OutputError,
)

__all__ = [
    "AudioError",
    "BackendError",
    "BundleError",
    "CheckpointError",
    "ControlError",
    "EmotagError",
    "ExportError",
    "OutputError",
]
