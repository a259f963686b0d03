"""Pictures that emotag-render reads and writes: its background, and its sheet."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import ControlError, OutputError
from ..output import check_output, partial_name


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


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes uint8 [H, W, 3] as PNG, whole or not at all. Raises OutputError."""
    check_output(path, ".png")
    height, width = picture.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    partial = partial_name(path)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another place") from None
    finally:
        partial.unlink(missing_ok=True)
