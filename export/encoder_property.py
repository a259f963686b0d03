"""What tells the runtime that a graph is an encoder whose weights its own kernels can take (docs/bundle.md)."""

from __future__ import annotations

import json
from typing import Any

import onnx
import torch
from torch import nn

from ..plugins.encoder import REACH
from ..runtime.graph_encoder import ENCODER_PROPERTY
from .audio_graph import AudioStep

_STATES = {"tail", "conv_1", "conv_2", "conv_3", "conv_4", "features", "positions", "rotary"}


def describe_encoder(model: onnx.ModelProto, step: AudioStep) -> None:
    """Writes the property into the graph of `step`, if the kernels know every part of it."""
    epsilons = {module.eps for module in step.modules() if isinstance(module, nn.LayerNorm)}
    stored = {tensor.name for tensor in model.graph.initializer}
    known = set(step.state_names()) <= _STATES and step.position.reach == REACH
    if not known or len(epsilons) != 1 or not _parameters(step) <= stored:
        return  # ONNX Runtime runs it
    layer: Any = step.layers[0]
    found = {
        "layers": len(step.layers),
        "heads": layer.heads,
        "pre_norm": step.pre_norm,
        "epsilon": epsilons.pop(),
    }
    if step.rotary is not None:
        found["rotary"] = step.rotary.rotary.angles(torch.ones(1))[0].tolist()
    onnx.helper.set_model_props(model, {ENCODER_PROPERTY: json.dumps(found)})


def _parameters(step: AudioStep) -> set[str]:
    """Names of all weights, which the exporter keeps unless it folds or renames them."""
    return {name for name, _ in step.named_parameters() if not name.startswith("rotary.")}
