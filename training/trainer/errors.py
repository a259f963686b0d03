"""Why a training run stopped."""

from __future__ import annotations

from ...runtime.errors import EmotagError

__all__ = ["TrainingError"]


class TrainingError(EmotagError):
    """A loss that is not finite, a frame without a face, or a clip too short. Says where and what to do."""
