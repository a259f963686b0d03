"""Read the pickles of the ecosystem without executing anything in them.

FLAME models, tracked parameters and released scenes come as pickles, and a pickle is a program. Here every
global it names is looked up in a short list of inert stand-ins (an array is a shape, a type and bytes; a
chumpy object is a bag of attributes), and arrays are built from those only after the whole file was read. A
name outside the list, an opcode that is never needed, and a size that the file cannot hold each end in a
`CheckpointError`.
"""

from __future__ import annotations

import ast
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..runtime.errors import CheckpointError
from .safe_pickle_standins import ALLOWED, ArrayStandIn, ChumpyStandIn, DtypeStandIn, ObjectStandIn

__all__ = ["load_object_npz", "load_pickle", "read_bytes"]

MAX_BYTES = 1 << 29
"""Largest file, and largest sum of the arrays in it, that is read: FLAME's own pickles have 0.1 of it."""
_MAX_DEPTH = 32
_MAX_ENTRIES = 1 << 20


class _Reader(pickle._Unpickler):
    """The Python unpickler; the C one takes memory for any memo index or length that the file claims."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    for _opcode in (
        pickle.PERSID,
        pickle.BINPERSID,
        pickle.EXT1,
        pickle.EXT2,
        pickle.EXT4,
        pickle.NEXT_BUFFER,
        pickle.READONLY_BUFFER,
    ):
        del dispatch[_opcode[0]]

    def find_class(self, module: str, name: str) -> Any:
        if module == "chumpy" or module.startswith("chumpy."):
            return ChumpyStandIn
        try:
            return ALLOWED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no head or scene needs") from None

    def load_bytearray8(self) -> None:
        """The length is checked by reading; the original allocates what the file claims."""
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        if length > MAX_BYTES:
            raise pickle.UnpicklingError(f"it claims an array of {length} bytes")
        self.append(bytearray(self.read(length)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class _Resolver:
    """Turn stand-ins into arrays; every object once, within one budget of bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.entries = _MAX_ENTRIES
        self.done: dict[int, object] = {}

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise pickle.UnpicklingError("its arrays are larger than any head or scene")

    def resolve(self, value: object, depth: int = 0) -> object:
        if depth > _MAX_DEPTH:
            raise pickle.UnpicklingError(f"it is nested deeper than {_MAX_DEPTH}")
        if isinstance(value, (str, bytes, int, float, bool, type(None))):
            return value
        if id(value) not in self.done:
            self.entries -= 1
            if self.entries < 0:
                raise pickle.UnpicklingError(f"it holds more than {_MAX_ENTRIES} objects")
            self.done[id(value)] = self._resolve(value, depth + 1)
        return self.done[id(value)]

    def _resolve(self, value: object, depth: int) -> object:
        if isinstance(value, dict):
            return {key: self.resolve(item, depth) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, depth) for item in value]
        if isinstance(value, tuple):
            return tuple(self.resolve(item, depth) for item in value)
        if isinstance(value, bytearray):
            return bytes(value)
        if isinstance(value, ArrayStandIn):
            return self.array(value, depth)
        if isinstance(value, ChumpyStandIn):
            return self.chumpy(value, depth)
        if isinstance(value, ObjectStandIn):
            return self.sparse(value, depth)
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}, which is not data")

    def array(self, value: ArrayStandIn, depth: int) -> np.ndarray[Any, Any]:
        shape = value.shape
        if not isinstance(value.dtype, DtypeStandIn) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array in it is incomplete")
        if len(shape) > 8 or not all(isinstance(size, int) and 0 <= size <= MAX_BYTES for size in shape):
            raise pickle.UnpicklingError(f"an array in it has the shape {shape!r:.80}")
        dtype = value.dtype.resolve()
        count = 1
        for size in shape:
            count *= size
        order: Any = "F" if value.fortran else "C"
        if dtype.kind == "O":
            return self._object_array(value.data, shape, count, order, depth)
        data = value.data.encode("latin1") if isinstance(value.data, str) else value.data
        if not isinstance(data, (bytes, bytearray)) or len(data) != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of shape {shape} in it does not have as many values")
        self.spend(len(data))
        return np.frombuffer(data, dtype).reshape(shape, order=order)

    def _object_array(
        self, data: object, shape: tuple[int, ...], count: int, order: Any, depth: int
    ) -> np.ndarray[Any, Any]:
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError(f"an array of shape {shape} in it does not have as many objects")
        flat = np.empty(count, dtype=object)
        for index, item in enumerate(data):
            flat[index] = self.resolve(item, depth)
        return flat.reshape(shape, order=order)

    def chumpy(self, value: ChumpyStandIn, depth: int) -> object:
        for name in ("x", "r", "_r"):
            if value.state.get(name) is not None:
                return self.resolve(value.state[name], depth)
        raise pickle.UnpicklingError("a chumpy object in it has no stored values (x): save it as an array")

    def sparse(self, value: ObjectStandIn, depth: int) -> np.ndarray[Any, Any]:
        """A sparse matrix as a dense one: the ones in question are five rows of vertices."""
        state = {key: self.resolve(item, depth) for key, item in value.state.items()}
        shape = state.get("_shape", state.get("shape"))
        values = state.get("data")
        if (
            value.kind not in ("csc", "csr", "coo")
            or not isinstance(shape, tuple)
            or not isinstance(values, np.ndarray)
        ):
            raise pickle.UnpicklingError(f"a {value.kind} object in it is not a sparse matrix")
        rows, columns = (int(size) for size in shape)
        if rows < 0 or columns < 0:
            raise pickle.UnpicklingError(f"a sparse matrix in it has the shape {shape}")
        self.spend(rows * columns * 8)
        dense = np.zeros((rows, columns))
        np.add.at(dense, _coordinates(value.kind, state), values)
        return dense


def _coordinates(kind: str, state: dict[object, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if kind == "coo":
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
    else:
        indices, indptr = np.asarray(state["indices"]), np.asarray(state["indptr"], dtype=np.int64)
        counts = np.diff(indptr)
        if counts.min(initial=0) < 0 or counts.sum() != len(indices):
            raise pickle.UnpicklingError("a sparse matrix in it has inconsistent indices")
        outer = np.repeat(np.arange(len(counts)), counts)
        row, column = (indices, outer) if kind == "csc" else (outer, indices)
    if min(np.min(row, initial=0), np.min(column, initial=0)) < 0:
        raise pickle.UnpicklingError("a sparse matrix in it has negative indices")
    return np.asarray(row), np.asarray(column)


def load_pickle(data: bytes, source: str) -> object:
    """Read a pickle (any protocol, Python 2 or 3, text as latin1) as plain data.

    Returns dicts, lists, tuples, text, numbers and read-only arrays; sparse matrices come back dense
    (float64), chumpy objects as the array they hold. `source` names the file in errors. Raises
    `CheckpointError` for anything else: names that are not data, truncation, sizes above `MAX_BYTES`.
    Nothing in the file is ever called.
    """
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{source}: {len(data)} bytes are more than any head or scene (at most {MAX_BYTES})")
    try:
        raw = _Reader(io.BytesIO(data), encoding="latin1").load()
        return _Resolver(MAX_BYTES).resolve(raw)
    except Exception as error:  # a broken pickle can raise nearly every exception there is
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{source}: this pickle was refused, {reason[:300]}. Nothing in it was executed; get the file"
            " again from its publisher, or save its arrays as plain numpy arrays."
        ) from error


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file of at most `MAX_BYTES`. Raises `CheckpointError` if it cannot be had."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CheckpointError(f"{path}: {size} bytes are more than any head or scene (at most {MAX_BYTES})")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); check the path.") from error


def load_object_npz(path: str | Path) -> dict[str, object]:
    """Read an `.npz` whose entries may be pickled objects, such as `flame_params.npz` of a released scene.

    Returns entry name → content: a 0-d object array gives the object it holds (there: a dict of arrays),
    every other entry an array. Raises `CheckpointError`, as `load_pickle` does.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise CheckpointError(f"{path}: unpacks to more than {MAX_BYTES} bytes, which no scene needs.")
            return {
                member.filename.removesuffix(".npy"): _load_npy(archive.read(member), f"{path}:{member.filename}")
                for member in members
            }
    except (
        zipfile.BadZipFile,
        zlib.error,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        raise CheckpointError(f"{path}: not a readable .npz file ({error}); copy or make it again.") from error


def _load_npy(data: bytes, source: str) -> object:
    """One `.npy` file; its header is read here because numpy hands object arrays to the real unpickler."""
    try:
        if data[:6] != b"\x93NUMPY" or data[6] not in (1, 2, 3):
            raise ValueError("no .npy header")
        width = 2 if data[6] == 1 else 4
        start = 8 + width
        length = int.from_bytes(data[8:start], "little")
        if length > 65536:
            raise ValueError(f"a header of {length} bytes")
        header = ast.literal_eval(data[start : start + length].decode("latin1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        if not isinstance(descr, str) or not isinstance(shape, tuple):
            raise ValueError(f"the array type {descr!r:.80}")
    except (ValueError, KeyError, TypeError, IndexError, SyntaxError, MemoryError, RecursionError) as error:
        raise CheckpointError(f"{source}: not an array ({error}); copy or make the file again.") from error
    body = data[start + length :]
    if descr.lstrip("|<>=") in ("O", "O8"):
        value = load_pickle(body, source)
        return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    array, dtype = ArrayStandIn(), DtypeStandIn(descr.lstrip("|<>="))
    dtype.order = descr[0] if descr[0] in "<>" else "="
    array.__setstate__((shape, dtype, bool(fortran), body))
    try:
        return _Resolver(MAX_BYTES).array(array, 0)
    except (pickle.UnpicklingError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: {error}; copy or make the file again.") from error
