"""The emotional residual of the Gaussians, where a bundle has one (docs/bundle.md, appearance.onnx)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..plugins import Appearance as Offsets
from ..plugins import Scene
from .bundle import Bundle
from .emotion import NEUTRAL
from .errors import BundleError, CheckpointError
from .graphs import BoundGraph, Float, Graph
from .manifest import APPEARANCE_FILES, OFFSET_GROUPS, AppearanceSpec
from .motion import Motion

GRAPH_FILE, OFFSETS_FILE = APPEARANCE_FILES
INPUTS = ("displacement", "encoded_audio", "emotion")
COEFFICIENTS = "coefficients"
FAINT = 1e-4
"""An intensity below which nothing is worn: it could not change a colour of 8 bits."""
_ROUNDING = 1.002  # offsets are halves: a sum of them may pass its bound by that much
_TRIALS = 8


class Wearing(Protocol):
    """What can draw an appearance: `plugins.Renderer`."""

    def wear(self, appearance: Offsets | None, coefficients: Float | None = None) -> None: ...


class Appearance:
    """A bundle's residual, loaded once; avatars on several threads share it."""

    def __init__(self, graph: Graph, offsets: Offsets, neutral: int) -> None:
        """Use `load_appearance`. neutral: number of the class that is no emotion."""
        self.graph, self.offsets, self.neutral = graph, offsets, neutral

    @property
    def rank(self) -> int:
        """R, coefficients of a frame."""
        return self.offsets.rank


class Wearer:
    """Dresses the Gaussians of one renderer frame by frame. Nothing is allocated after it is made."""

    def __init__(self, appearance: Appearance, renderer: Wearing) -> None:
        self._appearance, self._renderer = appearance, renderer
        self._bound = BoundGraph(appearance.graph, {})
        self._coefficients = self._bound.outputs[COEFFICIENTS]
        renderer.wear(appearance.offsets, self._coefficients)  # makes its room now
        renderer.wear(None)

    def wear(self, motion: Motion, emotion: Float) -> None:
        """What the next picture shows.

        motion: of the frame. emotion: [C] probabilities that it is made with; a neutral frame wears nothing.
        """
        if 1 - emotion[self._appearance.neutral] < FAINT:
            self._renderer.wear(None)
            return
        inputs = self._bound.inputs
        np.multiply(motion.residual_expression, motion.gate[0], out=inputs["displacement"])
        inputs["encoded_audio"][:] = motion.encoded_audio
        inputs["emotion"][:] = emotion
        self._bound.run()
        self._renderer.wear(self._appearance.offsets, self._coefficients)

    def undress(self) -> None:
        """The next picture shows the Gaussians as they are."""
        self._renderer.wear(None)


def load_appearance(bundle: Bundle, scene: Scene, motion: Mapping[str, tuple[int, ...]]) -> Appearance | None:
    """The residual of an opened bundle, None if it has none.

    motion: shapes of the motion graph's outputs. Raises BundleError, naming the file.
    """
    spec, classes = bundle.manifest.appearance, bundle.manifest.motion.emotions
    if spec is None:
        return None
    if NEUTRAL not in classes:
        raise BundleError(f"{GRAPH_FILE}: motion.emotions has no class {NEUTRAL!r}: export the bundle again")
    graph = Graph(bundle.file(GRAPH_FILE))
    shapes = (motion["residual_expression"], motion["encoded_audio"], (len(classes),))
    graph.require(dict(zip(INPUTS, shapes, strict=True)), {COEFFICIENTS: (spec.rank,)})
    extra = sorted((set(graph.inputs) - set(INPUTS)) | (set(graph.outputs) - {COEFFICIENTS}))
    if extra:
        raise graph.error(f"{extra[0]} is not in the bundle format")
    neutral = classes.index(NEUTRAL)
    _check_coefficients(graph, neutral)
    offsets = _read_offsets(bundle.file(OFFSETS_FILE), spec, len(scene.gaussians))
    try:
        return Appearance(graph, Offsets(scene, offsets), neutral)
    except CheckpointError as error:
        raise BundleError(f"{OFFSETS_FILE}: {error}: export the bundle again") from None


def _check_coefficients(graph: Graph, neutral: int) -> None:
    """Runs the graph a few times: weights that are not numbers show, and a neutral frame must be nothing."""
    bound, rng = BoundGraph(graph, {}), np.random.default_rng(0)
    emotion, coefficients = bound.inputs["emotion"], bound.outputs[COEFFICIENTS]
    for trial in range(_TRIALS):
        for name in INPUTS[:2]:
            bound.inputs[name][:] = rng.standard_normal(bound.inputs[name].shape)
        emotion[:] = 0
        emotion[neutral if trial == 0 else rng.integers(len(emotion))] = 1
        bound.run()
        if not (np.abs(coefficients) <= 1).all():
            raise graph.error(f"{COEFFICIENTS} are not numbers from -1 to 1")
        if emotion[neutral] == 1 and coefficients.any():
            raise graph.error(f"{COEFFICIENTS} of a neutral frame are not 0")


def _read_offsets(path: Path, spec: AppearanceSpec, gaussians: int) -> Float:
    """[R,G,14], within the bounds that the manifest states. Raises BundleError."""

    def error(problem: str) -> BundleError:
        return BundleError(f"{path.name}: {problem}: export the bundle again")

    try:
        with safe_open(path, framework="numpy") as file:
            stored: NDArray[Any] = file.get_tensor("offsets")
    except (SafetensorError, OSError, TypeError) as cause:
        raise error(f"it cannot be read ({cause})") from None
    wanted = (spec.rank, gaussians, sum(OFFSET_GROUPS.values()))
    if stored.dtype != np.float16 or stored.shape != wanted:
        raise error(f"offsets is {stored.dtype} of shape {stored.shape} instead of float16 of {wanted}")
    offsets: Float = stored.astype(np.float32)
    most = np.abs(offsets).sum(0).max(0, initial=0)  # coefficients are within -1…1
    first = 0
    for name, size in OFFSET_GROUPS.items():
        if not (most[first : first + size] <= spec.bounds[name] * _ROUNDING).all():
            raise error(f"offsets of {name} are not numbers within the bound {spec.bounds[name]:g} of manifest.json")
        first += size
    return offsets
