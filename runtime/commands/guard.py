"""Runs a command so that whatever goes wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..errors import EmotagError

INTERRUPTED = 130  # what shells report for Ctrl-C


def guarded(command: Callable[[], int]) -> int:
    """The command's exit code; 1 with one line for an expected error, 130 for Ctrl-C."""
    try:
        return command()
    except (EmotagError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted, nothing is half-written", file=sys.stderr)
        return INTERRUPTED
