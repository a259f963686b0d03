"""The `--background` of emotag-render: a colour or a picture file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av

from ..errors import ControlError


def read_background(text: str, width: int, height: int) -> Any:
    """`#rrggbb` as three numbers 0…1, or the picture file `text` as uint8 [height, width, 3]. Raises ControlError."""
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    if not Path(text).is_file():
        raise ControlError(f"background {text!r} is neither a colour such as #ffffff nor a picture file")
    try:
        with av.open(text) as file:
            picture = next(file.decode(video=0))
            return picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
    except (av.FFmpegError, StopIteration, IndexError):
        raise ControlError(f"background {text} is not a picture that can be read: use png or jpg") from None
