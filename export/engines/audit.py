"""Which layers of a graph run in what, as TensorRT reads the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...runtime.backends.engine_build import EngineLibrary, EngineLog, parse_network


def layer_counts(library: EngineLibrary, path: Path) -> dict[str, dict[str, int]]:
    """Number of layers by the type that they compute in, then by kind: {"HALF": {"MATRIX_MULTIPLY": 12}}.

    A product whose inputs come out of Q/DQ pairs counts as INT8: TensorRT fuses the pairs into it.
    Raises BackendError if TensorRT cannot read the file.
    """
    log = EngineLog(library.module)
    builder, network, parser = parse_network(library, path, log)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type == library.module.LayerType.DEQUANTIZE}
    counts: dict[str, Counter[str]] = {}
    for layer in layers:
        if layer.num_outputs == 0:
            continue
        fed = [layer.get_input(i) for i in range(layer.num_inputs)]
        fused = layer.type == library.module.LayerType.MATRIX_MULTIPLY and all(
            tensor is not None and tensor.name in dequantised for tensor in fed
        )
        computes = "INT8" if fused else layer.get_output(0).dtype.name
        counts.setdefault(computes, Counter())[layer.type.name] += 1
    del layers, network, parser, builder
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}


def audit_text(name: str, counts: dict[str, dict[str, int]]) -> str:
    """The counts of a graph as lines of text, products first: they are what precision is for."""
    lines = [f"{name}: layers by type"]
    for kind, found in counts.items():
        if kind.startswith("INT") and kind != "INT8":
            continue  # arithmetic on shapes, done while the engine is built
        products = found.get("MATRIX_MULTIPLY", 0)
        others = ", ".join(
            f"{count} {layer.lower()}" for layer, count in found.items() if layer not in ("MATRIX_MULTIPLY", "CONSTANT")
        )
        lines.append(f"  {kind:<6} {products:>4} products; {others or 'nothing else'}")
    return "\n".join(lines)
