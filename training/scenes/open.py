"""Open a scene of either layout."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import CheckpointError
from .listing import TRANSFORMS, is_scene
from .released import TRACKING, load_released_scene
from .scene import Scene
from .vhap import load_vhap_scene

__all__ = ["layout_of", "open_scene"]


def open_scene(folder: str | Path) -> Scene:
    """Read a scene's small arrays and list its pictures; pictures and features stay on the disk.

    Raises:
        CheckpointError: it is no scene, or a file of it is broken or does not belong to the others.
    """
    root = Path(folder)
    return load_released_scene(root) if layout_of(root) == "released" else load_vhap_scene(root)


def layout_of(folder: Path) -> str:
    """`released` (one `flame_params.npz`) or `vhap` (one `.npz` a frame). Raises CheckpointError if it is neither."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; pass the folder of a scene.")
    if not is_scene(folder):
        raise CheckpointError(
            f"{folder}: has no {TRANSFORMS}, so it is no scene; pass the folder that VHAP's export_as_nerf_dataset, "
            "the authors' import_vhap_export.py or `emotag-train synth` wrote."
        )
    return "released" if (folder / TRACKING).is_file() or not (folder / "flame_param").is_dir() else "vhap"
