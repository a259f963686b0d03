"""What the names in a pickle become: inert stand-ins that only keep what the pickle gives them.

None of them runs anything, and none can be altered by the file being read.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from typing import Any, ClassVar, NoReturn

import numpy as np

__all__ = ["ALLOWED", "ArrayStandIn", "ChumpyStandIn", "DtypeStandIn", "ObjectStandIn"]

_DTYPE = re.compile(r"\??|b1|O8?|[iu][1248]|f[248]|c(8|16)|[SU][0-9]{1,6}")


class _Sealed(type):
    """A class that a pickle's BUILD opcode cannot alter for the files read after it."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"attribute {name} of a type may not be set")


class DtypeStandIn(metaclass=_Sealed):
    """Stand-in of `numpy.dtype`: the type's code, and its byte order once its state arrives."""

    __slots__ = ("code", "order")

    def __init__(self, code: object = "", *_flags: object) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code
        self.order = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if len(state) > 4 and (state[2] is not None or state[3] is not None or state[4] is not None):
            raise pickle.UnpicklingError("arrays of records are not supported")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        self.order = order if order in ("<", ">") else "="

    def resolve(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or not self.code or not _DTYPE.fullmatch(self.code):
            raise pickle.UnpicklingError(f"array type {self.code!r} is not supported")
        return np.dtype(self.order + self.code if self.order != "=" and self.code[0] not in "?O" else self.code)


class ArrayStandIn(metaclass=_Sealed):
    """Stand-in of an array: `numpy._reconstruct(ndarray, (0,), b"b")`, then its state."""

    __slots__ = ("data", "dtype", "fortran", "shape")
    shape: object
    dtype: object
    fortran: object
    data: object

    def __new__(cls, *_arguments: object) -> Any:
        made = super().__new__(cls)
        made.shape = made.dtype = made.fortran = made.data = None
        return made

    def __init__(self, *_arguments: object) -> None:
        """NEWOBJ calls only `__new__`, REDUCE both."""

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.shape, self.dtype, self.fortran, self.data = state[-4:]


class _FromBuffer(metaclass=_Sealed):
    """`numpy._core.numeric._frombuffer(buffer, dtype, shape, order)`, how protocol 5 holds an array."""

    def __new__(cls, data: object, dtype: object, shape: object, order: object = "C", *_rest: object) -> Any:
        array = ArrayStandIn()
        array.__setstate__((shape, dtype, order == "F", data))
        return array


class _Scalar(metaclass=_Sealed):
    """`numpy.scalar(dtype, bytes)` as an array without axes."""

    def __new__(cls, dtype: object, data: object = b"") -> Any:
        array = ArrayStandIn()
        array.__setstate__(((), dtype, False, data))
        return array


class _Encode(metaclass=_Sealed):
    """`codecs.encode(text, "latin1")`, how protocols 0-2 hold bytes."""

    def __new__(cls, text: object = "", encoding: object = "latin1") -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("only latin1 text can be turned into bytes")
        return text.encode("latin1")


class _NoBytes(metaclass=_Sealed):
    """`bytes()`, how protocol 2 holds empty bytes."""

    def __new__(cls) -> Any:
        return b""


class ObjectStandIn(metaclass=_Sealed):
    """Stand-in of an instance: what the pickle gives it as state, never its code."""

    __slots__ = ("state",)
    state: dict[object, object]
    kind: ClassVar[str] = "object"

    def __new__(cls, *_arguments: object) -> Any:
        made = super().__new__(cls)
        made.state = {}
        return made

    def __init__(self, *_arguments: object) -> None:
        """NEWOBJ calls only `__new__`, REDUCE both."""

    def __setstate__(self, state: object) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.state.update(part)


class ChumpyStandIn(ObjectStandIn):
    kind: ClassVar[str] = "chumpy"


class _Csc(ObjectStandIn):
    kind: ClassVar[str] = "csc"


class _Csr(ObjectStandIn):
    kind: ClassVar[str] = "csr"


class _Coo(ObjectStandIn):
    kind: ClassVar[str] = "coo"


class _Reconstructor(metaclass=_Sealed):
    """`copyreg._reconstructor(class, object, None)`, how protocols 0 and 1 make an instance."""

    def __new__(cls, kind: object, *_rest: object) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, ObjectStandIn)):
            raise pickle.UnpicklingError("only stand-ins can be made")
        return kind()


def _allowed() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): ArrayStandIn,
        ("numpy", "dtype"): DtypeStandIn,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _Encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[(core + ".multiarray", "_reconstruct")] = ArrayStandIn
        names[(core + ".multiarray", "scalar")] = _Scalar
        names[(core + ".numeric", "_frombuffer")] = _FromBuffer
    for builtins in ("__builtin__", "builtins"):
        names[(builtins, "object")] = ObjectStandIn
        names[(builtins, "bytes")] = _NoBytes
    for copyreg in ("copy_reg", "copyreg"):
        names[(copyreg, "_reconstructor")] = _Reconstructor
    for kind, stand_in in (("csc", _Csc), ("csr", _Csr), ("coo", _Coo)):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            for suffix in ("matrix", "array"):
                names[(module, f"{kind}_{suffix}")] = stand_in
    return names


ALLOWED = _allowed()
"""(module, name) → stand-in: everything a pickle may ask for, besides chumpy's own names."""
