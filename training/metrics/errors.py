"""Why a metric has no value."""

from __future__ import annotations

from ...runtime.errors import EmotagError

__all__ = ["MetricError"]


class MetricError(EmotagError):
    """A metric that cannot be computed: weights, tracks or pictures are missing or do not fit. Says what to give."""
