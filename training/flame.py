"""Load FLAME's own pickles (`generic_model.pkl`, `flame2023*.pkl`) without executing anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from .head import HeadModel
from .safe_pickle import load_pickle as restricted_load
from .safe_pickle import read_bytes

__all__ = ["load_flame", "restricted_load"]

_FLAME_SHAPES = 300
"""FLAME's shapedirs hold 300 shape components, then the expressions."""


def load_flame(
    path: str | Path,
    n_expression: int | None = None,
    n_shape: int | None = None,
    faces: NDArray[Any] | None = None,
) -> HeadModel:
    """Read a FLAME model of any edition or augmentation (5023, 5143 or other vertices).

    `n_expression`: keep that many (a released checkpoint uses 50); all by default. `n_shape`: how many of
    shapedirs' components are shape; 300 by default, as in every public edition, and required for files with
    fewer components. `faces`: (F,3), if not the file's own. Raises `CheckpointError` for a file that is not
    a FLAME model, is hostile, or whose sizes disagree.
    """
    source = str(path)
    model = restricted_load(read_bytes(path), source)
    if not isinstance(model, dict):
        raise CheckpointError(f"{source}: holds a {type(model).__name__}, not a FLAME model; pass generic_model.pkl.")
    basis = _array(model, "shapedirs", source)
    if basis.ndim != 3:
        raise CheckpointError(f"{source}: shapedirs has the shape {basis.shape}, not (V,3,K); download it again.")
    split = _split(basis.shape[2], n_shape, source)
    expression_count = basis.shape[2] - split
    head = HeadModel(
        v_template=_array(model, "v_template", source).astype(np.float32),
        faces=_indices(_array(model, "f", source) if faces is None else faces),
        shape_basis=basis[:, :, :split].astype(np.float32),
        expression_basis=basis[:, :, split:].astype(np.float32),
        pose_basis=_pose_basis(_array(model, "posedirs", source)),
        joint_regressor=_array(model, "J_regressor", source).astype(np.float32),
        weights=_array(model, "weights", source).astype(np.float32),
        parents=_parents(_array(model, "kintree_table", source), source),
        expression_names=tuple(f"expression_{index:03d}" for index in range(expression_count)),
        source=source,
    )
    return head if n_expression is None else head.with_expressions(n_expression)


def _array(model: dict[Any, Any], name: str, source: str) -> NDArray[Any]:
    if name not in model:
        raise CheckpointError(f"{source}: no {name}; pass FLAME's generic_model.pkl, not another of its files.")
    value = np.asarray(model[name])
    if value.dtype.kind not in "fiub" or value.size == 0 or not np.isfinite(value).all():
        raise CheckpointError(f"{source}: {name} is not an array of finite numbers; download the file again.")
    return value


def _split(components: int, n_shape: int | None, source: str) -> int:
    shapes = _FLAME_SHAPES if n_shape is None else n_shape
    if 0 <= shapes < components:
        return shapes
    raise CheckpointError(
        f"{source}: shapedirs has {components} components, which leaves no expressions after {shapes} of"
        " shape; pass n_shape, the number of its components that are shape."
    )


def _pose_basis(posedirs: NDArray[Any]) -> NDArray[np.float32]:
    """(V,3,36) as the pickle has it, or (36,3V) as PyTorch ports of FLAME save it."""
    if posedirs.ndim == 2 and posedirs.shape[1] % 3 == 0:
        posedirs = posedirs.reshape(len(posedirs), -1, 3).transpose(1, 2, 0)
    return posedirs.astype(np.float32)


def _indices(faces: NDArray[Any]) -> NDArray[np.int32]:
    return np.asarray(faces).astype(np.int64).clip(-1, 2**31 - 1).astype(np.int32)


def _parents(table: NDArray[Any], source: str) -> NDArray[np.int32]:
    """The first row of kintree_table; the root's parent is 2³²-1 there."""
    if table.ndim != 2 or table.shape[0] != 2:
        raise CheckpointError(f"{source}: kintree_table has the shape {table.shape}, not (2,5); download it again.")
    parents = table[0].astype(np.int64)
    parents[0] = -1
    return _indices(parents)
