"""Read the two mesh files of a released scene: points of a PLY, faces of a template OBJ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from .safe_pickle import read_bytes

__all__ = ["load_obj_faces", "load_ply_points"]

_HEADER_END = b"end_header"
_FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}


def load_ply_points(path: str | Path) -> NDArray[np.float64]:
    """Vertex positions [N, 3] of a PLY file, ASCII or binary, whatever other properties a vertex has.

    Raises:
        CheckpointError: not a PLY, truncated, or without x, y, z as the first element.
    """
    data = read_bytes(path)
    try:
        order, count, fields, body = _ply_header(data)
        if order:
            record = np.dtype([(name, order + kind) for name, kind in fields])
            if count * record.itemsize > len(body):
                raise ValueError(f"{count} vertices are announced, the file ends before")
            table = np.frombuffer(body, record, count)
            points = np.stack([table[axis] for axis in "xyz"], 1).astype(np.float64)
        else:
            values = body.split(maxsplit=count * len(fields))[: count * len(fields)]
            rows = np.array(values, dtype=np.float64).reshape(count, len(fields))
            points = rows[:, [[name for name, _ in fields].index(axis) for axis in "xyz"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path}: not a readable PLY point cloud ({error}); copy or make it again.") from error
    if not np.isfinite(points).all():
        raise CheckpointError(f"{path}: holds positions that are not finite; make it again.")
    return points


def _ply_header(data: bytes) -> tuple[str, int, list[tuple[str, str]], bytes]:
    """Byte order ('' for ASCII), vertex count, vertex properties, and what follows the header."""
    end = data.find(_HEADER_END, 0, 1 << 16)
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("no PLY header")
    lines = [line.split() for line in data[:end].decode("ascii").splitlines()]
    words = [line for line in lines if line and line[0] in ("format", "element", "property")]
    if len(words) < 2 or words[1][:2] != ["element", "vertex"]:
        raise ValueError("its first element is not the vertices")
    count = int(words[1][2])
    if count < 0:
        raise ValueError(f"{count} vertices")
    fields: list[tuple[str, str]] = []
    for line in words[2:]:
        if line[0] != "property":
            break
        fields.append((line[2], _TYPES[line[1]]))
    body = data[end + len(_HEADER_END) :]
    return _FORMATS[words[0][1]], count, fields, body[body.index(b"\n") + 1 :]


def load_obj_faces(path: str | Path, vertices: int) -> NDArray[Any]:
    """Triangles [F, 3] (int64) of a Wavefront OBJ; larger faces become fans, as the authors' mesh loader does.

    Args:
        path: the template that a released scene's mesh was made with.
        vertices: how many vertices the head has; the template must have as many.

    Raises:
        CheckpointError: not an OBJ, without faces, or of another vertex count.
    """
    faces: list[tuple[int, int, int]] = []
    count = 0
    try:
        for line in read_bytes(path).decode("utf-8").splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                count += 1
            elif words[0] == "f":
                corners = [_corner(word, count) for word in words[1:]]
                faces += [(corners[0], b, c) for b, c in zip(corners[1:-1], corners[2:], strict=True)]
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: not a readable OBJ ({error}); pass the head's template mesh.") from error
    if count != vertices:
        raise CheckpointError(
            f"{path}: the template has {count} vertices, the head {vertices}; pass the template of the same mesh."
        )
    triangles = np.array(faces, dtype=np.int64).reshape(-1, 3)
    if len(triangles) == 0 or triangles.min() < 0 or triangles.max() >= vertices:
        raise CheckpointError(f"{path}: no faces, or faces outside its vertices; pass the head's template mesh.")
    return triangles


def _corner(word: str, count: int) -> int:
    """Index from 0 of `v`, `v/vt`, `v//vn` or `v/vt/vn`; negative ones count from the latest vertex."""
    index = int(word.split("/")[0])
    return index - 1 if index > 0 else count + index
