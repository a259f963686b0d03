"""A process that keeps a core busy and presses on the cache that all of them share."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

_SETTLED = 1.0  # seconds until it has started
# Walks through more memory than a core's share of any cache, until whoever started it is gone.
_PRESS = """
import os
import numpy
parent, memory = os.getppid(), numpy.zeros(64 << 20, numpy.uint8)
while os.getppid() == parent:
    memory += 1
"""


@contextlib.contextmanager
def pressing_neighbour() -> Iterator[None]:
    """Runs it until the end of the block."""
    process = subprocess.Popen([sys.executable, "-c", _PRESS])
    try:
        time.sleep(_SETTLED)
        yield
    finally:
        process.kill()
        process.wait()
