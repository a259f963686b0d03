"""What `manifest.json` says, as typed values. Every number is checked before anything is sized by it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

from ..plugins.constants import MAX_SIDE
from ..plugins.renderer import MAX_RANK
from .errors import BundleError

SCHEMA = 2
"""The newest that is read. A bundle is written with the oldest that has what it needs."""
ENCODER_SCHEMA = 2  # with audio.safetensors
SAMPLE_RATE = 16000
FRAME_RATE = 25
TOKEN_SAMPLES = 320
FRAME_TOKENS = 2
FRAME_SAMPLES = FRAME_TOKENS * TOKEN_SAMPLES
ACTION_UNITS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU45")
AUDIO_GRAPH, AUDIO_TENSORS = "audio.onnx", "audio.safetensors"
APPEARANCE_FILES = ("appearance.onnx", "appearance.safetensors")
OFFSET_GROUPS = {"mean": 3, "rotation": 4, "scale": 3, "opacity": 1, "colour": 3}
"""What an emotional residual offsets of a Gaussian, and how many numbers each is."""
_MOST_OFFSET = {"mean": 4.0, "rotation": 0.4, "scale": 0.9, "opacity": 8.0, "colour": 4.0}
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class EncoderSpec:
    """What `audio.safetensors` does not say itself of the encoder that it holds.

    pre_norm: its layers have their norms before attention and feed-forward, not behind.
    """

    layers: int
    heads: int
    pre_norm: bool


@dataclass(frozen=True)
class AudioSpec:
    """The streaming definition D(c, r, L) of a bundle's encoder, and its frozen utterance normalisation.

    `encoder` is None if the encoder is a graph, `audio.onnx`.
    """

    chunk_tokens: int
    lookahead_tokens: int
    context_tokens: int
    hidden_size: int
    mean: float
    scale: float
    encoder: EncoderSpec | None = None

    @property
    def file(self) -> str:
        """The bundle's file that holds the encoder."""
        return AUDIO_GRAPH if self.encoder is None else AUDIO_TENSORS


@dataclass(frozen=True)
class MotionSpec:
    """Which tokens make a window, and how many windows make a frame.

    `emotions` are the classes that can be asked for; what the network reports is always `EMOTIONS`.
    """

    window_past: int
    window_future: int
    smooth_past: int
    smooth_future: int
    aus: tuple[str, ...]
    emotions: tuple[str, ...]
    steerable: bool

    @property
    def window_tokens(self) -> int:
        return self.window_past + self.window_future

    @property
    def windows(self) -> int:
        """Windows that are averaged to one frame."""
        return self.smooth_past + 1 + self.smooth_future


@dataclass(frozen=True)
class AppearanceSpec:
    """The emotional residual of a bundle's Gaussians: coefficients of a frame, and by group the largest offset."""

    rank: int
    bounds: Mapping[str, float]


@dataclass(frozen=True)
class FileEntry:
    """Size and digest of one file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """One avatar: what it is, how it hears, how it moves, and what files it consists of.

    `audio` is None for a bundle without an encoder, which can only play its recording; `appearance` for one without an
    emotional residual of its Gaussians.
    """

    name: str
    checkpoint: Mapping[str, str]
    width: int
    height: int
    background: tuple[float, float, float]
    audio: AudioSpec | None
    motion: MotionSpec
    lookahead_frames: int
    active_sh_degree: int
    scale_activation: Literal["exp", "softplus"]
    expression_names: tuple[str, ...]
    precision: Mapping[str, str]
    licence: str
    consent: str
    notes: tuple[str, ...]
    appearance: AppearanceSpec | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema: int = 1


def lookahead_frames(audio: AudioSpec | None, motion: MotionSpec) -> int:
    """Calls of `step` between a frame's own audio and its picture.

    Source: docs/bundle.md, motion.onnx. Where a chunk is longer than a frame (c > 2), tokens arrive in lumps
    and the fullest wait is added, so that every call still returns exactly one frame.
    """
    tokens = motion.window_future
    if audio is not None:
        chunk = audio.chunk_tokens
        tokens += audio.lookahead_tokens + max(FRAME_TOKENS * n % chunk for n in range(1, chunk + 1))
    return max(0, -(-tokens // FRAME_TOKENS) - 1 + motion.smooth_future)


def parse_manifest(text: str) -> Manifest:
    """The manifest of a bundle from its JSON text. Raises BundleError, naming the key that is wrong."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"manifest.json is not valid JSON ({error}): export the bundle again") from None
    if not isinstance(data, dict):
        raise BundleError("manifest.json does not hold an object: export the bundle again")
    _check_schema(data)
    top = _Section(data)
    audio = None if "audio" in data and data["audio"] is None else _audio(top.section("audio"))
    motion = _motion(top.section("motion"))
    gaussians = top.section("gaussians")
    manifest = Manifest(
        name=top.text("name"),
        checkpoint=top.texts("checkpoint"),
        width=top.integer("width", 1, MAX_SIDE),
        height=top.integer("height", 1, MAX_SIDE),
        background=_colour(top),
        audio=audio,
        motion=motion,
        lookahead_frames=top.integer("lookahead_frames", 0, 10000),
        active_sh_degree=gaussians.integer("active_sh_degree", 0, 3),
        scale_activation=_activation(gaussians),
        expression_names=top.names("expression_names"),
        precision=top.texts("precision"),
        licence=top.text("licence"),
        consent=top.text("consent"),
        notes=top.names("notes") if "notes" in data else (),
        appearance=_appearance(top.section("appearance")) if "appearance" in data else None,
        files=_files(top.section("files")),
        schema=top.integer("schema", 1, SCHEMA),
    )
    _check_timing(top, manifest)
    return manifest


def _check_schema(data: Mapping[str, Any]) -> None:
    schema = data.get("schema")
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA:
        raise BundleError(
            f"manifest.json has schema {schema}, this version of EmoTaG reads up to {SCHEMA}: upgrade emotag"
        )
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BundleError(f"manifest.json has schema {schema!r}, expected 1 to {SCHEMA}: export the bundle again")


def _check_timing(top: _Section, manifest: Manifest) -> None:
    audio, motion = manifest.audio, manifest.motion
    if top.integer("frame_rate", 1, 1000) != FRAME_RATE:
        raise BundleError(f"manifest.json: frame_rate must be {FRAME_RATE}: export the bundle again")
    if audio is not None:
        _check_multiples(audio)
    expected = lookahead_frames(audio, motion)
    if manifest.lookahead_frames != expected:
        raise BundleError(
            f"manifest.json: lookahead_frames is {manifest.lookahead_frames}, but its audio and motion sections "
            f"make {expected}: export the bundle again"
        )


def _check_multiples(audio: AudioSpec) -> None:
    for name, tokens in (("context_tokens", audio.context_tokens), ("lookahead_tokens", audio.lookahead_tokens)):
        if tokens % audio.chunk_tokens:
            raise BundleError(
                f"manifest.json: audio.{name} is {tokens}, not a multiple of chunk_tokens "
                f"{audio.chunk_tokens}: export the bundle again"
            )


def _audio(section: _Section) -> AudioSpec:
    if section.integer("sample_rate", 1, 10**6) != SAMPLE_RATE:
        raise BundleError(f"manifest.json: audio.sample_rate must be {SAMPLE_RATE}: export the bundle again")
    return AudioSpec(
        chunk_tokens=section.integer("chunk_tokens", 1, 64),
        lookahead_tokens=section.integer("lookahead_tokens", 0, 1024),
        context_tokens=section.integer("context_tokens", 1, 16384),
        hidden_size=section.integer("hidden_size", 1, 16384),
        mean=section.number("mean"),
        scale=section.number("scale"),
        encoder=_encoder(section.section("encoder")) if "encoder" in section.data else None,
    )


def _encoder(section: _Section) -> EncoderSpec:
    return EncoderSpec(
        layers=section.integer("layers", 1, 256),
        heads=section.integer("heads", 1, 256),
        pre_norm=section.value("pre_norm", bool),
    )


def _motion(section: _Section) -> MotionSpec:
    return MotionSpec(
        window_past=section.integer("window_past", 0, 1024),
        window_future=section.integer("window_future", 1, 1024),
        smooth_past=section.integer("smooth_past", 0, 256),
        smooth_future=section.integer("smooth_future", 0, 256),
        aus=_action_units(section),
        emotions=section.names("emotions"),
        steerable=section.value("steerable", bool),
    )


def _appearance(section: _Section) -> AppearanceSpec:
    bounds = section.section("bounds")
    if set(bounds.data) != set(OFFSET_GROUPS):
        raise BundleError(
            f"manifest.json: appearance.bounds must name {', '.join(OFFSET_GROUPS)}: export the bundle again"
        )
    values = {name: bounds.number(name) for name in OFFSET_GROUPS}
    for name, value in values.items():
        if not 0 < value <= _MOST_OFFSET[name]:
            raise BundleError(
                f"manifest.json: appearance.bounds.{name} must be above 0 and at most {_MOST_OFFSET[name]:g}, "
                f"not {value:g}: export the bundle again"
            )
    return AppearanceSpec(section.integer("rank", 1, MAX_RANK), values)


def _action_units(section: _Section) -> tuple[str, ...]:
    names = section.names("aus")
    if names != ACTION_UNITS:
        raise BundleError(f"manifest.json: motion.aus is {names}, not {ACTION_UNITS}: export the bundle again")
    return names


def _colour(top: _Section) -> tuple[float, float, float]:
    values = top.value("background", list)
    if len(values) != 3 or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in values):
        raise BundleError("manifest.json: background must be three numbers from 0 to 1: export the bundle again")
    return (float(values[0]), float(values[1]), float(values[2]))


def _activation(gaussians: _Section) -> Literal["exp", "softplus"]:
    name = gaussians.text("scale_activation")
    if name == "exp":
        return "exp"
    if name == "softplus":
        return "softplus"
    raise BundleError(f"manifest.json: gaussians.scale_activation is {name!r}, not exp or softplus: upgrade emotag")


def _files(section: _Section) -> dict[str, FileEntry]:
    entries = {}
    for name in section.data:
        entry = section.section(name)
        check_relative(name)
        digest = entry.text("sha256")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise BundleError(f"manifest.json: {name!r} has no SHA-256 of 64 hex digits: export the bundle again")
        entries[name] = FileEntry(digest, entry.integer("bytes", 0, 2**40))
    return entries


def check_relative(name: str) -> None:
    """Raises BundleError unless `name` is a plain path below the bundle's folder, with forward slashes."""
    parts = name.split("/")
    if (
        not name.isprintable()
        or any(part in ("", ".", "..") for part in parts)
        or set(name) & set("\\:\0")
        or PurePosixPath(name).is_absolute()
    ):
        raise BundleError(
            f"manifest.json lists {name!r}, which leaves the bundle's folder: do not use this bundle, "
            "get it again from its maker"
        )


class _Section:
    """One JSON object, read key by key with the type each must have."""

    def __init__(self, data: Mapping[str, Any], path: str = "") -> None:
        self.data = data
        self._path = path

    def _error(self, key: str, wanted: str) -> BundleError:
        return BundleError(f"manifest.json: {self._path}{key} must be {wanted}: export the bundle again")

    def value(self, key: str, kind: type[_Value]) -> _Value:
        value = self.data.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._error(key, f"given as {kind.__name__}")
        return value

    def section(self, key: str) -> _Section:
        return _Section(self.value(key, dict), f"{self._path}{key}.")

    def text(self, key: str) -> str:
        value = self.value(key, str)
        if not value.isprintable():  # it is shown on terminals
            raise self._error(key, "printable text")
        return value

    def texts(self, key: str) -> dict[str, str]:
        values = self.section(key).data
        if not all(isinstance(v, str) and v.isprintable() and k.isprintable() for k, v in values.items()):
            raise self._error(key, "an object of strings")
        return dict(values)

    def names(self, key: str) -> tuple[str, ...]:
        values = self.value(key, list)
        if not all(isinstance(value, str) and value.isprintable() for value in values):
            raise self._error(key, "a list of strings")
        return tuple(values)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.value(key, int)
        if not low <= value <= high:
            raise self._error(key, f"from {low} to {high}, not {value}")
        return value

    def number(self, key: str) -> float:
        value = self.data.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise self._error(key, "a finite number")
        return float(value)
