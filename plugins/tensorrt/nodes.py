"""The two nodes: their inputs, attributes and outputs, as the exporter writes them and the plugins read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..constants import MAX_SIDE
from ..errors import ControlError

NAMESPACE = "emotag"
VERSION = "1"
SKINNING = "FlameSkinning"
RASTERIZATION = "GaussianRasterization"

SKINNING_INPUTS = (
    *("expression", "pose", "translation"),
    *("template", "expression_basis", "pose_basis", "joints", "joint_expression_basis", "weights"),
)
"""[E], [5,3] axis-angle, [3] metres; then constants of the head, [V,3], [E,V,3], [36,V,3], [5,3], [E,5,3], [V,5]."""

RASTERIZATION_INPUTS = ("vertices", "encoded_audio", "controls")
"""[V,3] metres, [A], and [40] as `plugins.cuda.controls` packs them."""

RASTERIZATION_OUTPUTS = ("picture", "status")
"""uint8 [H,W,3], and int32 [8] as `plugins.cuda.Status` reads it: after an overflow the picture is that of before."""

STATUS_WORDS = 8


@dataclass(frozen=True)
class NodeAttributes:
    """What a node carries beside its tensors.

    scene: the packed scene, as `plugins.cuda.Library.pack` makes it. vertices: V. width, height: of the picture, 0 for
    skinning. mouth_moves: whether encoded audio moves the mouth.
    """

    scene: bytes
    vertices: int
    width: int = 0
    height: int = 0
    mouth_moves: bool = False

    def fields(self) -> dict[str, npt.NDArray[Any]]:
        """As plugin fields hold them: the scene as bytes, numbers as int32."""
        numbers = {"vertices": self.vertices, "width": self.width, "height": self.height}
        numbers["mouth_moves"] = int(self.mouth_moves)
        packed = {name: np.array([value], np.int32) for name, value in numbers.items()}
        return {"scene": np.frombuffer(self.scene, np.int8), **packed}

    @classmethod
    def from_fields(cls, node: str, fields: dict[str, npt.NDArray[Any]]) -> NodeAttributes:
        """The inverse. Raises ControlError, naming the attribute that is missing or cannot be."""
        missing = {"scene", "vertices"} - set(fields)
        if missing:
            raise ControlError(f"{node} has no attribute {min(missing)}: export the graph again")
        numbers = {name: int(np.asarray(value).ravel()[0]) for name, value in fields.items() if name in _NUMBERS}
        made = cls(
            np.asarray(fields["scene"]).tobytes(),
            numbers["vertices"],
            numbers.get("width", 0),
            numbers.get("height", 0),
            bool(numbers.get("mouth_moves", 0)),
        )
        least = 1 if node == RASTERIZATION else 0
        for name in ("width", "height"):
            if not least <= getattr(made, name) <= MAX_SIDE:
                raise ControlError(f"{node}: {name} must be {least} to {MAX_SIDE}, not {getattr(made, name)}")
        if made.vertices < 1 or not made.scene:
            raise ControlError(f"{node}: its scene is empty: export the graph again")
        return made


_NUMBERS = ("vertices", "width", "height", "mouth_moves")
FIELDS = ("scene", *_NUMBERS)
