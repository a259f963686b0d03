"""The weights of the listener's encoder, as numbers that a network can begin from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnxruntime

from .errors import MissingProgramError, SpeechError
from .listener import CURE, LISTENER, installed_folder

if TYPE_CHECKING:
    import onnx

Weights = dict[str, npt.NDArray[np.float32]]

_PRODUCTS = {"MatMulIntegerToFloat": (3, 5), "DynamicQuantizeMatMul": (2, 3)}  # inputs: a weight's scale and zero
_OWN = ("conv1.", "conv2.", "conv3.", "layers.", "layer_norm.")  # names that the file keeps
_NEEDED = {"conv1.weight", "groupnorm.weight", "layers.0.self_attn.q_proj.weight", "layer_norm.weight"}
_LOUDNESS = {"/groupnorm/Mul": "groupnorm.weight", "/groupnorm/Add": "groupnorm.bias"}


def listener_weights(folder: Path | None = None) -> Weights:
    """The encoder's tensors, under the names of Moonshine's own code (`layers.0.self_attn.q_proj.weight`, …).

    Matrices are `[out, in]`. The file holds them in 8 bits; here they are floats. folder: as of `Listener`.

    Raises:
        MissingProgramError: moonshine-voice or onnx is not installed.
        SpeechError: the weights are others, or cannot be read.
    """
    path = (installed_folder() if folder is None else folder) / "encoder_model.ort"
    stored, nodes = _contents(path)
    weights: Weights = {name: _floats(value) for name, value in stored.items() if name.startswith(_OWN)}
    try:
        for node in nodes:
            if node.op_type in _PRODUCTS:
                scale, zero = (stored[node.input[i]].astype(np.float32) for i in _PRODUCTS[node.op_type])
                matrix = (stored[node.input[1]].astype(np.float32) - zero) * scale
                name = node.name.removesuffix("/MatMul_quant").strip("/").replace("/", ".")
                weights[f"{name}.weight"] = _floats(matrix.T)
            elif node.name in _LOUDNESS:
                weights[_LOUDNESS[node.name]] = _floats(stored[node.input[1]][:, 0])
    except (KeyError, IndexError, ValueError) as error:
        raise SpeechError(f"{path} is not laid out as that of {LISTENER} ({error}); {CURE}") from error
    if lacking := _NEEDED - set(weights):
        raise SpeechError(
            f"{path} is not laid out as that of {LISTENER} (it lacks {', '.join(sorted(lacking))}); {CURE}"
        )
    return weights


def _contents(path: Path) -> tuple[dict[str, npt.NDArray[np.generic]], list[onnx.NodeProto]]:
    """Arrays by name, and nodes. onnxruntime's own format has no reader in Python; it writes what it loads as ONNX."""
    try:
        import onnx  # of the extra `listen`: whoever does not begin from the listener trains without it
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise MissingProgramError(f"onnx, which reads the listener's weights, is not installed; {CURE}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ONNX")
    with tempfile.TemporaryDirectory() as scratch:
        options.optimized_model_filepath = str(Path(scratch) / "encoder.onnx")
        try:
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            graph = onnx.load(options.optimized_model_filepath).graph
        except Exception as error:  # onnxruntime's errors have no common class
            raise SpeechError(f"cannot load the listener's {path} ({error}); {CURE}") from error
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}, list(graph.node)


def _floats(value: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    return np.array(value, np.float32, order="C")  # a copy: those of the file cannot be written to
