"""`emotag::FlameSkinning` and `emotag::GaussianRasterization`: PyTorch operators, and the ONNX nodes that they become.

Skinning has a body of standard operators as well, an ONNX local function, so one file serves everything: ONNX Runtime
and TensorRT for RTX inline the function, full TensorRT takes the registered plugin (plugins/tensorrt).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx.reference
import onnxscript
import torch
from onnx import defs, helper
from torch import Tensor

from ..plugins.tensorrt import NAMESPACE, RASTERIZATION, SKINNING, VERSION
from ..plugins.tensorrt.nodes import RASTERIZATION_INPUTS, SKINNING_INPUTS

OPSET = 20

# System eq. 1. Rodrigues with b = (1 - cos t)/t² as sin²(t/2)/(t/2)²/2, which keeps its digits near zero; the pose
# feature is R - I without the subtraction. `parents` lists five joints, the root's -1 first.
_SKINNING_BODY = """
<opset_import: ["" : 20], domain: "emotag">
FlameSkinning <parents, scene: string = "", vertices: int = 0, plugin_version: string = "1",
               plugin_namespace: string = "emotag">
  (expression, pose, translation, template, expression_basis, pose_basis, joints, joint_expression_basis, weights)
  => (skinned) {
  rows = Constant <value_ints = [0, -1]> ()
  joint_shape = Constant <value_ints = [5, 3]> ()
  vertex_shape = Constant <value_ints = [-1, 3]> ()
  last = Constant <value_ints = [-1]> ()
  least = Constant <value_floats = [1e-20]> ()
  half = Constant <value_floats = [0.5]> ()
  squares = Mul(pose, pose)
  square_sum = ReduceSum(squares, last)
  square = Max(square_sum, least)
  angle = Sqrt(square)
  sine = Sin(angle)
  a = Div(sine, angle)
  half_angle = Mul(angle, half)
  half_sine = Sin(half_angle)
  s = Div(half_sine, half_angle)
  s2 = Mul(s, s)
  b = Mul(s2, half)
  generators = Constant <value_floats = [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0,
                                         0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0,
                                         0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]> ()
  generator_shape = Constant <value_ints = [3, 9]> ()
  generator_rows = Reshape(generators, generator_shape)
  cross_flat = MatMul(pose, generator_rows)
  turn_shape = Constant <value_ints = [5, 3, 3]> ()
  cross = Reshape(cross_flat, turn_shape)
  cross2 = MatMul(cross, cross)
  a3 = Unsqueeze(a, last)
  b3 = Unsqueeze(b, last)
  ak = Mul(a3, cross)
  bk = Mul(b3, cross2)
  turned = Add(ak, bk)
  unit_flat = Constant <value_floats = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]> ()
  unit_shape = Constant <value_ints = [1, 3, 3]> ()
  unit = Reshape(unit_flat, unit_shape)
  turns = Add(turned, unit)
  one = Constant <value_ints = [1]> ()
  five = Constant <value_ints = [5]> ()
  zero = Constant <value_ints = [0]> ()
  own = Slice(turned, one, five, zero)
  feature_shape = Constant <value_ints = [1, 36]> ()
  feature = Reshape(own, feature_shape)
  coefficients = Unsqueeze(expression, zero)
  expression_rows = Reshape(expression_basis, rows)
  pose_rows = Reshape(pose_basis, rows)
  shaped_flat = MatMul(coefficients, expression_rows)
  posed_flat = MatMul(feature, pose_rows)
  moved_flat = Add(shaped_flat, posed_flat)
  moved = Reshape(moved_flat, vertex_shape)
  rest = Add(template, moved)
  joint_rows = Reshape(joint_expression_basis, rows)
  joint_flat = MatMul(coefficients, joint_rows)
  joint_moved = Reshape(joint_flat, joint_shape)
  at = Add(joints, joint_moved)
  at3 = Unsqueeze(at, last)
  around = MatMul(turns, at3)
  shift = Sub(at3, around)
  top = Concat <axis = 2> (turns, shift)
  bottom_flat = Constant <value_floats = [0.0, 0.0, 0.0, 1.0]> ()
  bottom_shape = Constant <value_ints = [5, 1, 4]> ()
  bottom = Expand(bottom_flat, bottom_shape)
  local = Concat <axis = 1> (top, bottom)
  parent_of = Constant <value_ints: ints = @parents> ()
  two = Constant <value_ints = [2]> ()
  three = Constant <value_ints = [3]> ()
  four = Constant <value_ints = [4]> ()
  world0 = Gather <axis = 0> (local, zero)
  p1 = Gather <axis = 0> (parent_of, one)
  w1 = Gather <axis = 0> (world0, p1)
  l1 = Gather <axis = 0> (local, one)
  n1 = MatMul(w1, l1)
  world1 = Concat <axis = 0> (world0, n1)
  p2 = Gather <axis = 0> (parent_of, two)
  w2 = Gather <axis = 0> (world1, p2)
  l2 = Gather <axis = 0> (local, two)
  n2 = MatMul(w2, l2)
  world2 = Concat <axis = 0> (world1, n2)
  p3 = Gather <axis = 0> (parent_of, three)
  w3 = Gather <axis = 0> (world2, p3)
  l3 = Gather <axis = 0> (local, three)
  n3 = MatMul(w3, l3)
  world3 = Concat <axis = 0> (world2, n3)
  p4 = Gather <axis = 0> (parent_of, four)
  w4 = Gather <axis = 0> (world3, p4)
  l4 = Gather <axis = 0> (local, four)
  n4 = MatMul(w4, l4)
  world4 = Concat <axis = 0> (world3, n4)
  flat_shape = Constant <value_ints = [5, 16]> ()
  world_flat = Reshape(world4, flat_shape)
  blended_flat = MatMul(weights, world_flat)
  blended_shape = Constant <value_ints = [-1, 4, 4]> ()
  blended = Reshape(blended_flat, blended_shape)
  axis1 = Constant <value_ints = [1]> ()
  axis2 = Constant <value_ints = [2]> ()
  upper = Slice(blended, zero, three, axis1)
  linear = Slice(upper, zero, three, axis2)
  offset = Slice(upper, three, four, axis2)
  rest3 = Unsqueeze(rest, last)
  turned_rest = MatMul(linear, rest3)
  placed3 = Add(turned_rest, offset)
  placed = Squeeze(placed3, last)
  skinned = Add(placed, translation)
}
"""


def skinning_function() -> onnx.FunctionProto:
    """The body of `emotag::FlameSkinning` in standard operators."""
    return onnx.parser.parse_function(_SKINNING_BODY)


@torch.library.custom_op("emotag::flame_skinning", mutates_args=())
def flame_skinning(
    expression: Tensor,
    pose: Tensor,
    translation: Tensor,
    template: Tensor,
    expression_basis: Tensor,
    pose_basis: Tensor,
    joints: Tensor,
    joint_expression_basis: Tensor,
    weights: Tensor,
    parents: list[int],
) -> Tensor:
    """Vertices [V,3] of the posed head (system eq. 1). Shapes as in plugins/tensorrt/nodes.py."""
    inputs = (expression, pose, translation, template, expression_basis, pose_basis)
    arrays = [tensor.numpy(force=True) for tensor in (*inputs, joints, joint_expression_basis, weights)]
    node = helper.make_node(SKINNING, list(SKINNING_INPUTS), ["skinned"], domain=NAMESPACE, parents=parents)
    feeds = dict(zip(SKINNING_INPUTS, arrays, strict=True))
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
    result = helper.make_tensor_value_info("skinned", onnx.TensorProto.FLOAT, tuple(template.shape))
    model = _model(helper.make_graph([node], "skinning", values, [result]))
    results: Any = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    return torch.from_numpy(results[0])


@flame_skinning.register_fake
def _(
    expression: Tensor,
    pose: Tensor,
    translation: Tensor,
    template: Tensor,
    expression_basis: Tensor,
    pose_basis: Tensor,
    joints: Tensor,
    joint_expression_basis: Tensor,
    weights: Tensor,
    parents: list[int],
) -> Tensor:
    return torch.empty_like(template)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(NAMESPACE, 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[skinning_function()], ir_version=10)


def translations() -> dict[Any, Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=…)`: the operators as nodes of our domain."""
    _register_schema()
    nodes = onnxscript.values.Opset(NAMESPACE, 1)

    def skinning(*inputs: Any, parents: list[int]) -> Any:
        return nodes.FlameSkinning(*inputs, parents=parents, plugin_version=VERSION, plugin_namespace=NAMESPACE)

    def positional(
        expression: Any, pose: Any, translation: Any, template: Any, expression_basis: Any, pose_basis: Any,
        joints: Any, joint_expression_basis: Any, weights: Any, parents: list[int],
    ) -> Any:  # fmt: skip
        moving = (expression, pose, translation)
        return skinning(
            *moving, template, expression_basis, pose_basis, joints, joint_expression_basis, weights, parents=parents
        )

    return {torch.ops.emotag.flame_skinning.default: positional}


def _register_schema() -> None:
    """onnxscript writes only nodes whose schema is known."""
    if defs.has(SKINNING, NAMESPACE):
        return
    kind = defs.OpSchema.AttrType
    attributes = [defs.OpSchema.Attribute("parents", kind.INTS, required=True)]
    for name, value in (("plugin_version", VERSION), ("plugin_namespace", NAMESPACE)):
        attributes.append(defs.OpSchema.Attribute(name, helper.make_attribute(name, value)))
    defs.register_schema(
        defs.OpSchema(
            SKINNING,
            NAMESPACE,
            1,
            inputs=[defs.OpSchema.FormalParameter(name, "T") for name in SKINNING_INPUTS],
            outputs=[defs.OpSchema.FormalParameter("skinned", "T")],
            type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "")],
            attributes=attributes,
        )
    )


def complete(model: onnx.ModelProto) -> onnx.ModelProto:
    """Adds the function's body to a graph that has skinning nodes."""
    functions = [f for f in model.functions if (f.domain, f.name) != (NAMESPACE, SKINNING)]
    del model.functions[:]
    model.functions.extend([*functions, skinning_function()])
    if all(entry.domain != NAMESPACE for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(NAMESPACE, 1))
    return model


def add_rasterization(
    model: onnx.ModelProto, scene: bytes, vertices: int, width: int, height: int, mouth_moves: bool
) -> onnx.ModelProto:
    """The whole frame: the picture [H,W,3] from `vertices`, `encoded_audio` and a new input `controls` [40].

    Only full TensorRT runs it, with the plugins of plugins/tensorrt; both nodes get the packed scene.
    """
    whole: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    fields: dict[str, Any] = {
        "scene": scene,
        "vertices": vertices,
        "plugin_version": VERSION,
        "plugin_namespace": NAMESPACE,
    }
    for node in whole.graph.node:
        if (node.domain, node.op_type) == (NAMESPACE, SKINNING):
            kept = [attribute for attribute in node.attribute if attribute.name not in fields]
            del node.attribute[:]
            node.attribute.extend([*kept, *(helper.make_attribute(n, v) for n, v in fields.items())])
    size: dict[str, Any] = {"width": width, "height": height, "mouth_moves": int(mouth_moves)}
    whole.graph.node.append(
        helper.make_node(
            RASTERIZATION, list(RASTERIZATION_INPUTS), ["picture"], "rasterization", domain=NAMESPACE, **fields, **size
        )
    )
    whole.graph.input.append(helper.make_tensor_value_info("controls", onnx.TensorProto.FLOAT, [40]))
    whole.graph.output.append(helper.make_tensor_value_info("picture", onnx.TensorProto.UINT8, [height, width, 3]))
    return whole
