"""What an ONNX file holds, without the onnx package: whether its weights are its own, and where they lie.

A bundle's graphs hold their own weights; one that names another file could make ONNX Runtime read from anywhere.
The file is walked as protobuf, following only the fields in which a tensor can hide (onnx.proto, version 10).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError

# message → {field number: message inside it}
_NESTED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_MAX_DEPTH = 64
_GRAPH, _METADATA = 7, 14  # of a model
_INITIALIZER = 5  # of a graph
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of a tensor
_FLOAT = 1


@dataclass(frozen=True)
class StoredTensor:
    """Float32 weights in a file: their shape, and the byte where they begin."""

    path: Path
    shape: tuple[int, ...]
    offset: int

    def read(self) -> NDArray[np.float32]:
        """The weights. Raises OSError, also if the file has become shorter."""
        array = np.fromfile(self.path, "<f4", prod(self.shape), offset=self.offset)
        if array.size < prod(self.shape):
            raise OSError(f"{self.path.name} ends too soon")
        return array.reshape(self.shape)


@dataclass(frozen=True)
class Contents:
    """Properties that a model's exporter wrote into it, and its float32 weights by name."""

    properties: dict[str, str]
    tensors: dict[str, StoredTensor]


def read_contents(path: Path) -> Contents:
    """What the ONNX file at `path` holds; no weights are read. Raises BundleError if it is not one."""
    properties: dict[str, str] = {}
    tensors: dict[str, StoredTensor] = {}
    try:
        with path.open("rb") as file:
            # Closed with the last view of it; an error's traceback holds some.
            _collect(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), properties, tensors)
    except (IndexError, ValueError):
        raise BundleError(f"{path.name} is not an ONNX file: export the bundle again") from None
    return Contents(properties, tensors)


def _collect(path: Path, data: mmap.mmap, properties: dict[str, str], tensors: dict[str, StoredTensor]) -> None:
    with memoryview(data) as view:
        start = _address(view)
        for number, value in _fields(view):
            if isinstance(value, memoryview) and number == _METADATA:
                entry = {field: bytes(text) for field, text in _fields(value) if isinstance(text, memoryview)}
                properties[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
            if isinstance(value, memoryview) and number == _GRAPH:
                for inside, tensor in _fields(value):
                    if inside == _INITIALIZER and isinstance(tensor, memoryview):
                        tensors |= _stored(path, start, tensor)


def _stored(path: Path, start: int, tensor: memoryview) -> dict[str, StoredTensor]:
    """The tensor by its name if it is float32 and as bytes, as exporters write it."""
    fields = list(_fields(tensor))
    shape: list[int] = []
    for number, value in fields:
        if number == _DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
    found = dict(fields)
    raw, name = found.get(_RAW), found.get(_NAME)
    if found.get(_TYPE) != _FLOAT or not isinstance(raw, memoryview) or not isinstance(name, memoryview):
        return {}
    if len(raw) != 4 * prod(shape):
        raise ValueError("a tensor of another size than its shape says")
    offset = _address(raw) - start if len(raw) else 0
    return {bytes(name).decode(): StoredTensor(path, tuple(shape), offset)}


def _varints(data: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _address(data: memoryview) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def check_self_contained(path: Path) -> None:
    """Raises BundleError if a tensor of the ONNX file at `path` is stored outside the file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            outside = _scan(data)
    except (IndexError, ValueError):
        raise BundleError(f"{path.name} is not an ONNX file: export the bundle again") from None
    if outside:
        raise BundleError(
            f"{path.name} keeps weights in another file, which a bundle may not: do not use it, export it again"
        )


def _scan(data: mmap.mmap) -> bool:
    with memoryview(data) as view:
        return _has_external(view, "model", 0)


def _has_external(data: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if kind == "tensor":
        return any(number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value) for number, value in _fields(data))
    inside = _NESTED[kind]
    return any(
        isinstance(value, memoryview) and number in inside and _has_external(value, inside[number], depth + 1)
        for number, value in _fields(data)
    )


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(number, content) of each field; numbers of fixed width are skipped over."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if tag >> 32 or not number:  # other readers take such tags for other fields
            raise ValueError("not a field number")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("field longer than its message")
            yield number, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("unknown wire type")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("number too long")
