"""What happens to a whole-frame graph's nodes in full TensorRT, up to where a GPU is needed; prints JSON."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import onnx

from emotag.plugins import tensorrt as nodes
from emotag.plugins.tensorrt.nodes import NodeAttributes

sys.path.append(str(Path(__file__).parent))
from bindings import load, parsed_fields  # noqa: E402


def create(trt: Any, registry: Any, node: Any) -> tuple[Any, Any]:
    """Creator and plugin of a node, found and made as the ONNX parser does."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    version, namespace = (attributes[name].decode() for name in ("plugin_version", "plugin_namespace"))
    creator = registry.get_creator(node.op_type, version, namespace)
    return creator, creator.create_plugin(node.name, parsed_fields(trt, creator, node), trt.TensorRTPhase.BUILD)


def restored(trt: Any, creator: Any, plugin: Any) -> Any:
    """The plugin of the fields that it serialises, after what they were made of could have gone."""
    stored = plugin.get_fields_to_serialize()
    gc.collect()
    rubbish = [bytes([255]) * size for size in range(1, 4096)]
    loaded = creator.create_plugin("again", stored, trt.TensorRTPhase.RUNTIME)
    del rubbish
    return loaded


def formats(trt: Any, plugin: Any, inputs: int) -> bool:
    """Whether the plugin takes fp32 tensors in and the types that it promises out, and no others."""

    def described(kind: Any, layout: Any = trt.TensorFormat.LINEAR) -> Any:
        made = trt.DynamicPluginTensorDesc()
        made.desc.type, made.desc.format = kind, layout
        return made

    outputs = plugin.get_output_data_types([])
    good = [described(trt.float32)] * inputs + [described(kind) for kind in outputs]
    takes = all(plugin.supports_format_combination(i, good, inputs) for i in range(len(good)))
    half = [described(trt.float16)] * len(good)
    return takes and not any(plugin.supports_format_combination(i, half, inputs) for i in range(len(good)))


def unattached(plugin: Any) -> str:
    """What running a plugin outside of a context raises."""
    try:
        plugin.enqueue([], [], [], [], 0, 0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main(graph: Path) -> None:
    """Prints what was seen of the graph's nodes."""
    trt = load()
    registry = trt.get_plugin_registry()
    before = registry.get_creator("FlameSkinning", "1", "emotag") is None
    nodes.register(trt)
    nodes.register(trt)  # those that are there stay
    seen: dict[str, Any] = {"version": trt.__version__, "before": before}
    seen["creators"] = sorted(c.name for c in registry.all_creators if c.plugin_namespace == "emotag")
    seen["foreign"] = [
        registry.get_creator(*key) is None for key in (("FlameSkinning", "2", "emotag"), ("FlameSkinning", "1", ""))
    ]
    for node in onnx.load(graph).graph.node:
        if node.domain != nodes.NAMESPACE:
            continue
        creator, plugin = create(trt, registry, node)
        loaded = restored(trt, creator, plugin)
        attributes: NodeAttributes = plugin.attributes
        seen[node.op_type] = {
            "scene": len(attributes.scene),
            "size": [attributes.width, attributes.height, attributes.vertices, attributes.mouth_moves],
            "restored": loaded.attributes == attributes == plugin.clone().attributes,
            "is_v3": isinstance(plugin, trt.IPluginV3) and isinstance(creator, trt.IPluginCreatorV3One),
            "outputs": [[str(kind).rsplit(".", 1)[-1], list(shape)] for kind, shape in plugin.outputs()],
            "formats": formats(trt, plugin, len(node.input)),
            "unattached": unattached(plugin),
        }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
