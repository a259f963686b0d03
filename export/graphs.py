"""PyTorch step modules to ONNX files: exported, checked, and quantised where asked."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from ..runtime.errors import ExportError
from ..runtime.manifest import AUDIO_TENSORS
from ..training.checkpoint import Checkpoint
from .audio_graph import AudioStep
from .encoder_property import describe_encoder
from .motion_graph import MotionStep
from .step import StepModule

OPSET = 20
Precision = Literal["fp32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class Graph:
    """One network of a bundle, in a file of its own."""

    name: str  # "audio" or "motion"
    module: StepModule
    precision: Precision

    @property
    def native(self) -> bool:
        """Whether the runtime has kernels of its own for it, and the file holds tensors instead of a graph."""
        return self.name == "audio" and self.precision == "int8"

    @property
    def file(self) -> str:
        """File name in the bundle."""
        return AUDIO_TENSORS if self.native else f"{self.name}.onnx"


def graphs_of(checkpoint: Checkpoint, audio: Precision, motion: Precision) -> list[Graph]:
    """The graphs of a checkpoint; the audio graph is absent if it has no encoder."""
    graphs = [] if checkpoint.encoder is None else [Graph("audio", AudioStep(checkpoint.encoder).eval(), audio)]
    return [*graphs, Graph("motion", MotionStep(checkpoint.motion, checkpoint.identity).eval(), motion)]


def write_graph(graph: Graph, path: Path) -> None:
    """Export a graph to one ONNX file with fixed shapes.

    Raises:
        ExportError: the exporter failed, or the file's inputs and outputs are not those that were declared.
    """
    try:
        model = _export(graph.module)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ExportError(
            f"{graph.file}: the ONNX exporter failed ({error}); report this with the checkpoint"
        ) from error
    _check_interface(model, graph)
    if graph.precision == "int8":
        model = quantise(model)
    elif isinstance(graph.module, AudioStep):
        describe_encoder(model, graph.module)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _export(module: StepModule) -> onnx.ModelProto:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            module,
            module.example_inputs(),
            dynamo=True,
            opset_version=OPSET,
            input_names=module.input_names(),
            output_names=module.output_names(),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return strip_metadata(model)


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop stack traces and intermediate shapes: they hold paths of the exporting machine, and `quantize_dynamic`
    fails on the shapes."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    return model


def _check_interface(model: onnx.ModelProto, graph: Graph) -> None:
    for kind, found, wanted in (
        ("inputs", [v.name for v in model.graph.input], graph.module.input_names()),
        ("outputs", [v.name for v in model.graph.output], graph.module.output_names()),
    ):
        if found != wanted:
            raise ExportError(f"{graph.file}: exported with {kind} {found}, expected {wanted}: a tensor is unused")


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Dynamic int8 of every product with one constant matrix; weights signed, per column, in 7 bits.

    Processors without VNNI add pairs of 8-bit products in 16 bits and saturate; with 7-bit weights they cannot. It
    costs nothing where it was measured (docs/log.md) and makes one file right everywhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=_stacked_products(model),
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(target)


def _stacked_products(model: onnx.ModelProto) -> list[str]:
    """Products with a stack of constant matrices: one scale a column would be wrong for all but one of them."""
    stacked = {constant.name for constant in model.graph.initializer if len(constant.dims) > 2}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in stacked]
