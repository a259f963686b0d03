"""`emotag::FlameSkinning` and `emotag::GaussianRasterization`: PyTorch operators, and the ONNX nodes that they become.

Skinning has a body of standard operators as well, an ONNX local function, so one file serves everything: ONNX Runtime
and TensorRT for RTX inline the function, full TensorRT takes the registered plugin (plugins/tensorrt).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.reference
import onnxscript
import torch
from onnx import defs, helper
from torch import Tensor

from ..plugins import cuda
from ..plugins.tensorrt import NAMESPACE, RASTERIZATION, SKINNING, VERSION
from ..plugins.tensorrt.launch import Launcher
from ..plugins.tensorrt.nodes import RASTERIZATION_INPUTS, SKINNING_INPUTS, STATUS_WORDS, NodeAttributes
from ..runtime.errors import BackendError

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


@dataclass(frozen=True)
class Hardware:
    """What `gaussian_rasterization` runs on: PyTorch's name for the device, its kernels, its memory."""

    kind: str = "cuda"
    kernels: Callable[[], cuda.Library] = cuda.load
    cudart: Any = None


HARDWARE = Hardware()


@torch.library.custom_op("emotag::gaussian_rasterization", mutates_args=())
def gaussian_rasterization(
    vertices: Tensor, encoded_audio: Tensor, controls: Tensor, scene: Tensor, width: int, height: int, mouth_moves: bool
) -> tuple[Tensor, Tensor]:
    """The picture uint8 [H,W,3] and the kernels' status int32 [8] (`plugins.cuda.Status`), on a GPU.

    vertices [V,3] metres, encoded_audio [A], controls [40] (`plugins.cuda.controls`), scene: the bytes of
    `plugins.cuda.Library.pack`. Raises BackendError without the kernels or for tensors that are not on a GPU.
    """
    if vertices.device.type != HARDWARE.kind:
        raise BackendError(
            f"emotag::gaussian_rasterization draws on a GPU, its vertices are on {vertices.device}: move them there; "
            "plugins.Renderer draws on the processor"
        )
    blob = scene.numpy(force=True).tobytes()
    attributes = NodeAttributes(blob, len(vertices), width, height, mouth_moves)
    launcher = Launcher(HARDWARE.kernels(), RASTERIZATION, attributes, HARDWARE.cudart)
    picture = torch.zeros((height, width, 3), dtype=torch.uint8, device=vertices.device)
    status = torch.zeros(STATUS_WORDS, dtype=torch.int32, device=vertices.device)
    inputs = [tensor.contiguous() for tensor in (vertices, encoded_audio, controls)]
    stream = torch.cuda.current_stream().cuda_stream if vertices.is_cuda else 0
    launcher.run([tensor.data_ptr() for tensor in inputs], [picture.data_ptr(), status.data_ptr()], stream)
    if vertices.is_cuda:
        torch.cuda.current_stream().synchronize()  # the launcher's memory goes with it
    return picture, status


@gaussian_rasterization.register_fake
def _(
    vertices: Tensor, encoded_audio: Tensor, controls: Tensor, scene: Tensor, width: int, height: int, mouth_moves: bool
) -> tuple[Tensor, Tensor]:
    return vertices.new_empty((height, width, 3), dtype=torch.uint8), vertices.new_empty(8, dtype=torch.int32)


def translations() -> dict[Any, Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=…)`: the operators as nodes of our domain."""
    _register_schemas()
    nodes = onnxscript.values.Opset(NAMESPACE, 1)

    def skinning(
        expression: Any, pose: Any, translation: Any, template: Any, expression_basis: Any, pose_basis: Any,
        joints: Any, joint_expression_basis: Any, weights: Any, parents: list[int],
    ) -> Any:  # fmt: skip
        return nodes.FlameSkinning(
            expression, pose, translation, template, expression_basis, pose_basis, joints, joint_expression_basis,
            weights, parents=parents, plugin_version=VERSION, plugin_namespace=NAMESPACE,
        )  # fmt: skip

    def rasterization(
        vertices: Any, encoded_audio: Any, controls: Any, scene: Any, width: int, height: int, mouth_moves: bool
    ) -> Any:
        return nodes.GaussianRasterization(
            vertices, encoded_audio, controls, scene, width=width, height=height, mouth_moves=int(mouth_moves),
            plugin_version=VERSION, plugin_namespace=NAMESPACE,
        )  # fmt: skip

    operators = torch.ops.emotag
    return {operators.flame_skinning.default: skinning, operators.gaussian_rasterization.default: rasterization}


def _register_schemas() -> None:
    """onnxscript writes only nodes whose schema is known; the checker wants every attribute in it."""
    if defs.has(SKINNING, NAMESPACE):
        return
    kind, formal = defs.OpSchema.AttrType, defs.OpSchema.FormalParameter
    plugin = [defs.OpSchema.Attribute("scene", kind.STRING, required=False)]
    plugin += [defs.OpSchema.Attribute(name, kind.INT, required=False) for name in ("vertices", *_SIZE)]
    for name, value in (("plugin_version", VERSION), ("plugin_namespace", NAMESPACE)):
        plugin.append(defs.OpSchema.Attribute(name, helper.make_attribute(name, value)))
    floats = [("T", ["tensor(float)", "tensor(float16)"], "")]
    defs.register_schema(
        defs.OpSchema(
            SKINNING,
            NAMESPACE,
            1,
            inputs=[formal(name, "T") for name in SKINNING_INPUTS],
            outputs=[formal("skinned", "T")],
            type_constraints=floats,
            attributes=[defs.OpSchema.Attribute("parents", kind.INTS, required=True), *plugin],
        )
    )
    optional = defs.OpSchema.FormalParameterOption.Optional
    defs.register_schema(
        defs.OpSchema(
            RASTERIZATION,
            NAMESPACE,
            1,
            inputs=[  # under names that no attribute has
                *(formal(f"{name}_input", "T") for name in RASTERIZATION_INPUTS),
                formal("scene_input", "tensor(uint8)", param_option=optional),
            ],
            outputs=[formal("picture", "tensor(uint8)"), formal("status", "tensor(int32)")],
            type_constraints=floats,
            attributes=plugin,
        )
    )


_SIZE = ("width", "height", "mouth_moves")


def complete(model: onnx.ModelProto) -> onnx.ModelProto:
    """Adds the function's body to a graph that has skinning nodes, and the scene to the nodes if it has one.

    The scene goes from an input of the rasterization node to an attribute of both nodes, where plugins look for it.
    """
    functions = [f for f in model.functions if (f.domain, f.name) != (NAMESPACE, SKINNING)]
    del model.functions[:]
    model.functions.extend([*functions, skinning_function()])
    if all(entry.domain != NAMESPACE for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(NAMESPACE, 1))
    ours = [node for node in model.graph.node if node.domain == NAMESPACE]
    constants = {constant.name: constant for constant in model.graph.initializer}
    for drawing in [node for node in ours if node.op_type == RASTERIZATION]:
        packed = constants[drawing.input.pop()]
        vertices = next(constants[n.input[3]].dims[0] for n in ours if n.op_type == SKINNING)
        for node in ours:
            scene = onnx.numpy_helper.to_array(packed).tobytes()
            node.attribute.extend([helper.make_attribute("scene", scene), helper.make_attribute("vertices", vertices)])
        model.graph.initializer.remove(packed)
    return model
