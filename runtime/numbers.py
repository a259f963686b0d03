"""Numbers that a caller gave, as Python's own: few of them are faster than as arrays, and each is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def as_number(value: Any) -> float | None:
    """A real number of Python's or numpy's; None for anything else: text, truth values, what no float can hold."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def as_numbers(value: Any) -> tuple[float, ...] | None:
    """The real numbers of a list, a tuple, another sequence or an array [n]; None for anything else."""
    if isinstance(value, np.ndarray):
        if value.ndim != 1:
            return None
    elif not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        return None
    numbers = []
    for part in value:
        number = as_number(part)
        if number is None:
            return None
        numbers.append(number)
    return tuple(numbers)
