"""GRMN, one new window a frame: tokens and action units in, expression and jaw out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from .graphs import Bound, Float, Interface
from .manifest import EMOTIONS, FRAME_TOKENS, AudioSpec, MotionSpec


@dataclass(frozen=True)
class Motion:
    """What the motion network says about one frame; all float32. E expressions, D motion width.

    expression [E], jaw [3] (axis-angle, radians), gate [1] (0…1), emotion_logits [7], base_expression and
    residual_expression [E] (expression = base + gate·residual, averaged over windows), encoded_audio [D].
    """

    expression: Float
    jaw: Float
    gate: Float
    emotion_logits: Float
    base_expression: Float
    residual_expression: Float
    encoded_audio: Float

    def showing(self, expression: Float) -> Motion:
        """The same with another expression [E]."""
        return Motion(
            expression,
            self.jaw,
            self.gate,
            self.emotion_logits,
            self.base_expression,
            self.residual_expression,
            self.encoded_audio,
        )

    def copy(self) -> Motion:
        """The same values in arrays of their own."""
        return Motion(
            self.expression.copy(),
            self.jaw.copy(),
            self.gate.copy(),
            self.emotion_logits.copy(),
            self.base_expression.copy(),
            self.residual_expression.copy(),
            self.encoded_audio.copy(),
        )


MOTION_NAMES = tuple(field.name for field in fields(Motion))


def check_motion(
    graph: Interface, audio: AudioSpec | None, spec: MotionSpec, expressions: int, states: Mapping[str, Float]
) -> dict[str, Float]:
    """Initial states of the motion network. Raises BundleError if the graph is not what docs/bundle.md says."""
    classes, width = len(spec.emotions), graph.outputs.get("encoded_audio", (0,))[0]
    hidden = graph.inputs.get("window", (0, 0))[-1] if audio is None else audio.hidden_size
    inputs = {"window": (spec.window_tokens, hidden), "aus": (len(spec.aus),)}
    if spec.windows > 1 or "encodings" in graph.inputs:
        inputs["encodings"] = (spec.windows - 1, width)
    if spec.steerable:
        inputs |= {"emotion": (classes,), "emotion_weight": (1,)}
    outputs = dict.fromkeys(("expression", "base_expression", "residual_expression"), (expressions,))
    graph.require(
        inputs, outputs | {"jaw": (3,), "gate": (1,), "emotion_logits": (len(EMOTIONS),), "encoded_audio": (width,)}
    )
    extra = set(graph.inputs) - set(inputs)
    if extra:
        raise graph.error(f"input {min(extra)} is not in the bundle format")
    return graph.states(states, "motion.")


class TokenHistory:
    """The newest tokens by their number since the start; asking before the first gives the first."""

    def __init__(self, capacity: int, hidden_size: int) -> None:
        self._ring = np.zeros((capacity, hidden_size), np.float32)
        self.count = 0

    def clear(self) -> None:
        self.count = 0

    def append(self, tokens: Float) -> None:
        """Copies tokens [n, H] in."""
        ring, new = self._ring, len(tokens)
        if new > len(ring):
            self.count += new - len(ring)
            tokens, new = tokens[-len(ring) :], len(ring)
        slot = self.count % len(ring)
        fitting = len(ring) - slot
        self.count += new
        if new <= fitting:
            ring[slot : slot + new] = tokens
        else:
            ring[slot:], ring[: new - fitting] = tokens[:fitting], tokens[fitting:]

    def read(self, first: int, out: Float) -> None:
        """Copies the tokens [first, first + len(out)) to `out`, up to the capacity."""
        ring = self._ring
        if first < 0:
            before = min(-first, len(out))
            out[:before] = ring[0]
            out, first = out[before:], 0
        slot, wanted = first % len(ring), len(out)
        fitting = len(ring) - slot
        if wanted <= fitting:
            out[:] = ring[slot : slot + wanted]
        else:
            out[:fitting], out[fitting:] = ring[slot:], ring[: wanted - fitting]


class MotionNetwork:
    """Runs the motion network of one avatar over successive windows."""

    def __init__(self, bound: Bound, audio: AudioSpec | None, spec: MotionSpec, states: Mapping[str, Float]) -> None:
        """bound: the motion graph, which `check_motion` has checked; states: the initial ones."""
        self.bound = bound
        self._spec = spec
        self._window, self._aus = self.bound.inputs["window"], self.bound.inputs["aus"]
        # Tokens may run ahead of the window by a chunk and a frame; the oldest must still be there.
        spare = 2 * FRAME_TOKENS + (0 if audio is None else audio.chunk_tokens)
        self.history = TokenHistory(spec.window_tokens + spare, self._window.shape[1])
        outputs = self.bound.outputs
        self._motion = Motion(*(outputs[name] for name in MOTION_NAMES))
        self.rest = self._rest(states)

    def _rest(self, states: Mapping[str, Float]) -> Motion:
        """Nothing moves, mouth closed. The encoded audio is that of no audio, so that the mouth looks as trained."""
        rest = Motion(*(np.zeros_like(getattr(self._motion, name)) for name in MOTION_NAMES))
        encodings = states.get("encodings")
        if encodings is not None and len(encodings):
            np.mean(encodings, axis=0, out=rest.encoded_audio)
        for name in MOTION_NAMES:
            getattr(rest, name).flags.writeable = False
        return rest

    @property
    def window_shape(self) -> tuple[int, ...]:
        """Tokens in a window, and their width: [W, H]."""
        return self._window.shape

    @property
    def steering(self) -> tuple[Float, Float] | None:
        """The inputs `emotion` [C] and `emotion_weight` [1], to be written before a frame; None if not steerable."""
        inputs = self.bound.inputs
        return (inputs["emotion"], inputs["emotion_weight"]) if self._spec.steerable else None

    def reset(self) -> None:
        """Forgets all tokens and encodings: the next frame is the first of an utterance."""
        self.bound.reset()
        self.history.clear()

    def hear(self, frame: int, aus: Float) -> Motion:
        """Motion of the frame whose newest window is that of `frame`, from the history.

        Call with frame = 0, 1, 2, …; the result's arrays are overwritten by the next call.
        """
        self.history.read(FRAME_TOKENS * frame - self._spec.window_past, self._window)
        return self._run(aus)

    def offer(self, frame: int, aus: Float, coming: int) -> bool:
        """Writes the inputs of `hear`, but for the window's last `coming` tokens, which are not heard yet.

        False, and nothing is done, if it is not exactly those that the window lacks.
        """
        first, kept = FRAME_TOKENS * frame - self._spec.window_past, len(self._window) - coming
        if kept < 0 or first + kept != self.history.count:
            return False
        self.history.read(first, self._window[:kept])
        self._aus[:] = aus
        return True

    @property
    def newest(self) -> Motion:
        """What the last run made; its arrays are overwritten by the next."""
        return self._motion

    def recorded(self, window: Float | None, aus: Float) -> Motion:
        """The same with a recorded window [W, H] instead of the history; None is a window outside the clip."""
        self._window[...] = 0 if window is None else window
        return self._run(aus)

    def _run(self, aus: Float) -> Motion:
        self._aus[:] = aus
        self.bound.run()
        return self._motion
