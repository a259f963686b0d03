"""Every error of the SDK. Each names the thing that is wrong and says what to do about it."""

from __future__ import annotations


class EmotagError(Exception):
    """Base of every error that EmoTaG raises on purpose."""


class AudioError(EmotagError):
    """Audio that cannot be used: wrong length, type, rate or channels, or values that are not finite."""


class BundleError(EmotagError):
    """A bundle that is missing something, was changed, is truncated, or has a newer schema."""


class CheckpointError(EmotagError):
    """A checkpoint, scene or head file that is not what it should be."""


class ExportError(EmotagError):
    """An export that was refused, such as one that misses its parity bound."""


class BackendError(EmotagError):
    """A device or execution backend that was asked for and is not available."""


class OutputError(EmotagError):
    """A place that cannot be written to."""


class ControlError(EmotagError):
    """A control (emotion, camera, background, thread count, …) that was given a value it cannot take."""
