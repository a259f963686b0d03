"""What can go wrong with a speech synthesizer."""

from __future__ import annotations

from ...runtime.errors import EmotagError


class MissingProgramError(EmotagError):
    """A speech synthesizer, or one of its voices, that is not installed."""


class SpeechError(EmotagError):
    """A synthesizer that failed, or a voice that it does not have."""
