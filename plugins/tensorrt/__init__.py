"""TensorRT plugins for the nodes `emotag::FlameSkinning` and `emotag::GaussianRasterization` of a whole-frame graph.

    import tensorrt
    from emotag.plugins import tensorrt as nodes
    nodes.register(tensorrt)             # before a network is parsed or an engine is loaded

Full TensorRT only: TensorRT for RTX has no plugins and inlines the ONNX function of FlameSkinning. Not run on a GPU so
far; classes, fields, shapes and serialisation are tested.
"""

from .creators import creators, register
from .nodes import NAMESPACE, RASTERIZATION, SKINNING, VERSION

__all__ = ["NAMESPACE", "RASTERIZATION", "SKINNING", "VERSION", "creators", "register"]
