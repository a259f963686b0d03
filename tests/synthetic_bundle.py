"""Writes a tiny valid bundle: every graph and tensor of docs/bundle.md, random weights, a few vertices.

The graphs keep real state (look-ahead features, an attention ring, encodings), so a runtime that feeds any of it back
wrongly gives other numbers than `reference_motion`, which computes the same from the whole audio at once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

Array = NDArray[Any]
EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
AUS = ["AU01", "AU04", "AU05", "AU06", "AU07", "AU45"]
HEADS, HEAD_WIDTH, HIDDEN, MOTION_WIDTH, EXPRESSIONS, LEVELS = 2, 4, 8, 256, 5, 12


@dataclass(frozen=True)
class Shape:
    """What varies between the bundles of the tests."""

    chunk: int = 2
    lookahead: int = 2
    context: int = 8
    window_past: int = 4
    window_future: int = 2
    smooth_past: int = 1
    smooth_future: int = 1
    frames: int = 7
    steerable: bool = True
    mouth: bool = True
    windows: bool = False
    size: int = 64
    gaussians: int = 200
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> int:
        return self.window_past + self.window_future

    @property
    def lookahead_frames(self) -> int:
        waits = [(2 * n) % self.chunk for n in range(1, self.chunk + 1)]
        return max(0, -(-(self.lookahead + self.window_future + max(waits)) // 2) - 1 + self.smooth_future)


def write_bundle(folder: Path, shape: Shape | None = None) -> Path:
    """Writes `folder` (a .emotag folder) and returns it."""
    shape = shape or Shape()
    folder.mkdir(parents=True)
    weights = _weights(shape)
    onnx.save(_audio_graph(shape, weights), folder / "audio.onnx")
    onnx.save(_motion_graph(shape, weights), folder / "motion.onnx")
    save_file(avatar_tensors(shape, weights), folder / "avatar.safetensors")
    save_file(cue_tensors(shape), folder / "cues.safetensors")
    (folder / "report.json").write_text(json.dumps({"graphs": {"audio.onnx": {"max": 1e-6}}}))
    write_manifest(folder, manifest(shape))
    return folder


def manifest(shape: Shape) -> dict[str, Any]:
    """The manifest without `files`."""
    return {
        "schema": 1,
        "name": "tiny",
        "checkpoint": {"kind": "synthetic", "source": "tests", "sha256": "0" * 64},
        "frame_rate": 25,
        "width": shape.size,
        "height": shape.size,
        "background": [1.0, 1.0, 1.0],
        "audio": {
            "sample_rate": 16000,
            "chunk_tokens": shape.chunk,
            "lookahead_tokens": shape.lookahead,
            "context_tokens": shape.context,
            "hidden_size": HIDDEN,
            "mean": 0.01,
            "scale": 10.0,
        },
        "motion": {
            "window_past": shape.window_past,
            "window_future": shape.window_future,
            "smooth_past": shape.smooth_past,
            "smooth_future": shape.smooth_future,
            "aus": AUS,
            "emotions": EMOTIONS,
            "steerable": shape.steerable,
        },
        "lookahead_frames": shape.lookahead_frames,
        "gaussians": {"active_sh_degree": 1, "scale_activation": "softplus"},
        "expression_names": [f"expression{i}" for i in range(EXPRESSIONS)],
        "precision": {"audio": "fp32", "motion": "fp32"},
        "licence": "CC0",
        "consent": "synthetic",
        **shape.extra,
    }


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Writes the manifest with the hashes of what lies in `folder`."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
        data = path.read_bytes()
        files[path.relative_to(folder).as_posix()] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }
    (folder / "manifest.json").write_text(json.dumps({**content, "files": files}))


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Changes top-level keys; the hashes are made anew."""
    content = json.loads((folder / "manifest.json").read_text())
    content.pop("files")
    write_manifest(folder, {**content, **changes})


def _weights(shape: Shape) -> dict[str, Array]:
    rng = np.random.default_rng(shape.seed)

    def normal(*size: int, scale: float = 1.0) -> Array:
        return (rng.standard_normal(size) * scale).astype(np.float32)

    return {
        "feature": normal(320, HIDDEN, scale=0.06),
        "encode": normal(HIDDEN, MOTION_WIDTH, scale=0.7),
        "encode_bias": normal(MOTION_WIDTH, scale=0.3),
        "au": normal(6, EXPRESSIONS, scale=0.1),
        "base": normal(MOTION_WIDTH, EXPRESSIONS, scale=0.1),
        "residual": normal(MOTION_WIDTH, EXPRESSIONS, scale=0.1),
        "jaw": normal(MOTION_WIDTH, 3, scale=0.03),
        "gate": normal(MOTION_WIDTH, 1, scale=0.2),
        "emotion": normal(MOTION_WIDTH, 7, scale=0.2),
        "wish": normal(7, EXPRESSIONS),
    }


def _value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Array]) -> Any:
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _audio_graph(shape: Shape, weights: dict[str, Array]) -> Any:
    """Tokens are projected samples, r tokens late, plus attention over themselves and a ring of older ones."""
    c, r, ring = shape.chunk, shape.lookahead, (HEADS, shape.context, HEAD_WIDTH)
    node = helper.make_node
    nodes = [
        node("Reshape", ["samples", "rows"], ["sample_rows"]),
        node("MatMul", ["sample_rows", "feature"], ["new"]),
        node("Concat", ["features", "new"], ["joined"], axis=0),
        node("Slice", ["joined", "from_c", "end", "axis0"], ["features_next"]),
        node("Reshape", ["joined", "split"], ["by_head"]),
        node("Transpose", ["by_head"], ["q"], perm=[1, 0, 2]),
        node("Tanh", ["q"], ["key_0_new"]),
        node("Sin", ["q"], ["value_0_new"]),
        node("Concat", ["key_0", "key_0_new"], ["keys"], axis=1),
        node("Concat", ["value_0", "value_0_new"], ["values"], axis=1),
        node("Concat", ["mask", "open"], ["full_mask"], axis=0),
        node("Transpose", ["keys"], ["keys_t"], perm=[0, 2, 1]),
        node("MatMul", ["q", "keys_t"], ["raw"]),
        node("Add", ["raw", "full_mask"], ["scores"]),
        node("Softmax", ["scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "values"], ["mixed"]),
        node("Transpose", ["mixed"], ["mixed_t"], perm=[1, 0, 2]),
        node("Reshape", ["mixed_t", "join"], ["attended"]),
        node("Add", ["joined", "attended"], ["all"]),
        node("Slice", ["all", "start", "from_c", "axis0"], ["tokens"]),
    ]
    integers = {"rows": [c, 320], "split": [c + r, HEADS, HEAD_WIDTH], "join": [c + r, HIDDEN]}
    integers |= {"start": [0], "from_c": [c], "end": [c + r], "axis0": [0]}
    constants = {name: np.array(value, np.int64) for name, value in integers.items()}
    constants |= {"feature": weights["feature"], "open": np.zeros(c + r, np.float32)}
    inputs = [_value("samples", 320 * c), _value("features", r, HIDDEN), _value("mask", shape.context)]
    inputs += [_value("key_0", *ring), _value("value_0", *ring)]
    new = (HEADS, c + r, HEAD_WIDTH)
    outputs = [_value("tokens", c, HIDDEN), _value("features_next", r, HIDDEN)]
    outputs += [_value("key_0_new", *new), _value("value_0_new", *new)]
    return _model("audio", nodes, inputs, outputs, constants)


def _motion_graph(shape: Shape, weights: dict[str, Array]) -> Any:
    node, kept = helper.make_node, shape.smooth_past + shape.smooth_future
    wished = shape.steerable
    nodes = [
        node("ReduceMean", ["window", "axis0"], ["pooled"], keepdims=1),
        node("MatMul", ["pooled", "encode"], ["projected"]),
        node("Add", ["projected", "encode_bias"], ["biased"]),
        node("Tanh", ["biased"], ["encoding"]),
        node("Concat", ["encodings", "encoding"], ["around"], axis=0),
        node("Slice", ["around", "one", "end", "axis0"], ["encodings_next"]),
        node("ReduceMean", ["around", "axis0"], ["encoded_audio"], keepdims=0),
        node("MatMul", ["aus", "au"], ["au_part"]),
        node("MatMul", ["encoded_audio", "base"], ["audio_part"]),
        node("Add", ["audio_part", "au_part"], ["base_expression"]),
        node("MatMul", ["encoded_audio", "residual"], ["unwished"]),
        *([node("MatMul", ["emotion", "wish"], ["wish_part"])] if wished else []),
        *([node("Mul", ["wish_part", "emotion_weight"], ["weighted"])] if wished else []),
        node("Add", ["unwished", "weighted" if wished else "zero"], ["residual_expression"]),
        node("MatMul", ["encoded_audio", "gate_w"], ["gate_raw"]),
        node("Sigmoid", ["gate_raw"], ["gate"]),
        node("Mul", ["residual_expression", "gate"], ["gated"]),
        node("Add", ["base_expression", "gated"], ["expression"]),
        node("MatMul", ["encoded_audio", "jaw_w"], ["jaw"]),
        node("MatMul", ["encoded_audio", "emotion_w"], ["emotion_logits"]),
    ]
    constants = {name: weights[name] for name in ("encode", "encode_bias", "au", "base", "residual")}
    constants |= {"gate_w": weights["gate"], "jaw_w": weights["jaw"], "emotion_w": weights["emotion"]}
    constants |= {"wish": weights["wish"]} if wished else {"zero": np.zeros(1, np.float32)}
    constants |= {"axis0": np.array([0]), "one": np.array([1]), "end": np.array([kept + 1])}
    inputs = [_value("window", shape.window, HIDDEN), _value("encodings", kept, MOTION_WIDTH), _value("aus", 6)]
    inputs += [_value("emotion", 7), _value("emotion_weight", 1)] if wished else []
    sizes = {"expression": EXPRESSIONS, "jaw": 3, "gate": 1, "emotion_logits": 7, "encoded_audio": MOTION_WIDTH}
    sizes |= {"base_expression": EXPRESSIONS, "residual_expression": EXPRESSIONS}
    outputs = [_value(name, size) for name, size in sizes.items()] + [_value("encodings_next", kept, MOTION_WIDTH)]
    return _model("motion", nodes, inputs, outputs, constants)


def avatar_tensors(shape: Shape, weights: dict[str, Array] | None = None) -> dict[str, Array]:
    """A bulged sheet of 6×6 vertices in front of the origin, facing +z, with Gaussians on every triangle."""
    weights = weights or _weights(shape)
    rng = np.random.default_rng(shape.seed + 1)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-0.1, 0.1, 6), np.linspace(-0.1, 0.1, 6)))
    template = np.stack([x, y, 0.1 - 4 * (x * x + y * y)], 1)
    corner = (np.arange(5)[:, None] * 6 + np.arange(5)[None]).ravel()
    lower = np.stack([corner, corner + 1, corner + 7], 1)
    faces = np.concatenate([lower, np.stack([corner, corner + 7, corner + 6], 1)])
    count = len(template)
    skin = np.zeros((count, 5))
    skin[:, 1] = np.clip(0.5 + 5 * y, 0, 1)
    skin[:, 2] = 1 - skin[:, 1]
    mouth = np.arange(0, shape.gaussians, 9)
    tensors = {
        "head.template": template,
        "head.faces": faces.astype(np.int32),
        "head.expression_basis": rng.standard_normal((EXPRESSIONS, count, 3)) * 0.005,
        "head.pose_basis": rng.standard_normal((36, count, 3)) * 0.001,
        "head.joints": np.array([[0, -0.1, 0], [0, -0.08, 0], [0, 0, 0], [-0.03, 0.05, 0.05], [0.03, 0.05, 0.05]]),
        "head.joint_expression_basis": np.zeros((EXPRESSIONS, 5, 3)),
        "head.weights": skin,
        "head.parents": np.array([-1, 0, 1, 1, 1], np.int32),
        "gaussians.face_index": rng.integers(0, len(faces), shape.gaussians).astype(np.int32),
        "gaussians.means": rng.uniform(-0.3, 0.3, (shape.gaussians, 3)) * [1, 1, 0.1],
        "gaussians.quats": rng.standard_normal((shape.gaussians, 4)),
        "gaussians.scales": rng.uniform(-2, -1, (shape.gaussians, 3)),
        "gaussians.opacities": rng.uniform(0, 3, shape.gaussians),
        "gaussians.sh": rng.uniform(-1, 1, (shape.gaussians, 4, 3)) * 0.4,
        "state.audio.features": np.zeros((shape.lookahead, HIDDEN)),
        "state.motion.encodings": np.tile(
            np.tanh(weights["encode_bias"]), (shape.smooth_past + shape.smooth_future, 1)
        ),
    }
    if shape.mouth:
        tensors |= _mouth_tensors(rng, mouth)
    return {
        name: np.ascontiguousarray(value if value.dtype == np.int32 else value.astype(np.float32))
        for name, value in tensors.items()
    }


def _mouth_tensors(rng: np.random.Generator, index: Array) -> dict[str, Array]:
    growth = np.log2(38.4 / 16) / (LEVELS - 1)
    resolution = np.ceil(2 ** (np.arange(LEVELS) * growth) * 16 - 1).astype(int) + 1
    offsets = np.concatenate([[0], np.cumsum(-(-((resolution + 1) ** 2) // 8) * 8)])
    tensors = {f"mouth.grid.{plane}": rng.uniform(-1, 1, (offsets[-1], 1)) for plane in ("xy", "yz", "xz")}
    sizes = {"mlp.0": (64, 3 * LEVELS + MOTION_WIDTH), "mlp.1": (64, 64), "mlp.2": (64, 64), "head.weight": (10, 64)}
    tensors |= {f"mouth.{name}": rng.standard_normal(size) * 0.1 for name, size in sizes.items()}
    return tensors | {
        "mouth.head.bias": rng.standard_normal(10) * 0.1,
        "mouth.index": index.astype(np.int32),
        "mouth.bound": np.array([0.15]),
        "mouth.grid.offsets": offsets.astype(np.int32),
    }


def cue_tensors(shape: Shape) -> dict[str, Array]:
    """A head that nods and blinks, seen from 0.6 m in front by a camera that drifts."""
    rng = np.random.default_rng(shape.seed + 2)
    time = np.arange(shape.frames)[:, None] / 5
    view = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (shape.frames, 1, 1))
    view[:, :3, 3] = [0, 0, 0.6]
    view[:, 0, 3] += 0.01 * time[:, 0]
    focal, centre = 2.0 * shape.size, shape.size / 2
    cues = {
        "aus": rng.uniform(0, 3, (shape.frames, 6)),
        "emotion": rng.dirichlet(np.ones(7), shape.frames),
        "rotation": np.sin(time) * [[0.05, 0.1, 0.02]],
        "neck": np.cos(time) * [[0.02, 0.0, 0.0]],
        "translation": np.sin(time) * [[0.01, 0.0, 0.005]],
        "eyes": np.sin(time) * np.full((1, 6), 0.1),
        "intrinsics": np.tile([focal, focal, centre, centre], (shape.frames, 1)),
    }
    if shape.windows:
        cues["windows"] = rng.standard_normal((shape.frames, shape.window, HIDDEN))
    return {name: np.ascontiguousarray(value.astype(np.float32)) for name, value in cues.items()} | {"view": view}


def reference_tokens(samples: Array, shape: Shape) -> Array:
    """Tokens [T, H] of whole chunks with full look-ahead, from all samples (float32, −1…1) at once, in float64."""
    weights = _weights(shape)
    c, r = shape.chunk, shape.lookahead
    rows = (samples.astype(np.float64) - 0.01) * 10.0
    features = rows[: len(rows) // 320 * 320].reshape(-1, 320) @ weights["feature"].astype(np.float64)
    tokens = []
    for first in range(0, len(features) - c - r + 1, c):
        seen = features[max(0, first - shape.context) : first + c + r]
        heads = seen.reshape(len(seen), HEADS, HEAD_WIDTH)
        queries = features[first : first + c].reshape(c, HEADS, HEAD_WIDTH)
        scores = np.einsum("qhd,khd->hqk", queries, np.tanh(heads))
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, np.sin(heads)).reshape(c, HIDDEN)
        tokens.append(features[first : first + c] + mixed)
    return np.concatenate(tokens) if tokens else np.zeros((0, HIDDEN))


def reference_motion(windows: Array, aus: Array, shape: Shape) -> dict[str, Array]:
    """Outputs for every frame from the windows [N, W, H] of the frames −smooth_past … N − 1 − smooth_past."""
    weights = {name: value.astype(np.float64) for name, value in _weights(shape).items()}
    encodings = np.tanh(windows.mean(1) @ weights["encode"] + weights["encode_bias"])
    count = shape.smooth_past + 1 + shape.smooth_future
    encoded = np.stack([encodings[i : i + count].mean(0) for i in range(len(encodings) - count + 1)])
    base = encoded @ weights["base"] + aus[: len(encoded)] @ weights["au"]
    residual, gate = encoded @ weights["residual"], 1 / (1 + np.exp(-encoded @ weights["gate"]))
    return {
        "encoded_audio": encoded,
        "base_expression": base,
        "residual_expression": residual,
        "gate": gate,
        "expression": base + gate * residual,
        "jaw": encoded @ weights["jaw"],
        "emotion_logits": encoded @ weights["emotion"],
    }
