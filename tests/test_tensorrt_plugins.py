"""The nodes of a whole frame: skinning in standard operators, the plugins, and how a parser finds them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import egg
import numpy as np
import onnx
import onnxruntime
import pytest
import reference
import tiny
import torch
from gpu_fake import Cudart, view
from onnx import TensorProto, helper
from synthetic_bundle import Shape, avatar_tensors
from whole_frame import emulated, frame_step, scene_of, tiny_frame, tiny_picture

from emotag import plugins
from emotag.export import custom_ops
from emotag.export.custom_ops import _model, flame_skinning, skinning_function
from emotag.export.frame_graph import Picture
from emotag.plugins import cuda
from emotag.plugins.tensorrt import NAMESPACE, RASTERIZATION, SKINNING, VERSION, creators, register
from emotag.plugins.tensorrt.launch import Launcher
from emotag.plugins.tensorrt.nodes import SKINNING_INPUTS, NodeAttributes
from emotag.runtime import BackendError, ControlError

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="pip install 'emotag[gpu]'")
HEAD = {name[5:]: value for name, value in avatar_tensors(Shape()).items() if name.startswith("head.")}
ATTRIBUTES = NodeAttributes(b"packed scene", 36, 64, 48, True)


def feeds(pose: float = 0.4, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    moving = {
        "expression": rng.standard_normal(5),
        "pose": pose * rng.standard_normal((5, 3)),
        "translation": [1, 2, 3],
    }
    return {name: np.asarray((moving | HEAD)[name], np.float32) for name in SKINNING_INPUTS}


def skinning_graph() -> onnx.ModelProto:
    parents = HEAD["parents"].tolist()
    node = helper.make_node(SKINNING, list(SKINNING_INPUTS), ["vertices"], domain=NAMESPACE, parents=parents)
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feeds().items()]
    inputs.append(helper.make_tensor_value_info("encoded_audio", TensorProto.FLOAT, [256]))
    result = helper.make_tensor_value_info("vertices", TensorProto.FLOAT, HEAD["template"].shape)
    return _model(helper.make_graph([node], "skinning", inputs, [result]))


@pytest.mark.parametrize("pose", [0.0, 1e-6, 1e-3, 0.4, 3.0])
def test_the_function_is_the_kernel(pose: float) -> None:
    """In ONNX Runtime, on one file; lengths are metres."""
    given = feeds(pose)
    session = onnxruntime.InferenceSession(skinning_graph().SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, given | {"encoded_audio": np.zeros(256, np.float32)})[0]
    wanted = plugins.skin(plugins.Head(**HEAD), given["expression"], given["pose"], given["translation"])
    assert np.abs(found - wanted).max() < 2e-6


def test_any_tree_of_joints() -> None:
    head = HEAD | {"parents": np.array([-1, 0, 0, 2, 3], np.int32)}
    model = skinning_graph()
    model.graph.node[0].attribute[0].ints[:] = head["parents"].tolist()
    given = feeds()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, given | {"encoded_audio": np.zeros(256, np.float32)})[0]
    wanted = plugins.skin(plugins.Head(**head), given["expression"], given["pose"], given["translation"])
    assert np.abs(found - wanted).max() < 2e-6


def test_tensorrt_for_rtx_builds_the_function(tmp_path: Path) -> None:
    from emotag.runtime.backends.engine_build import build_engine, load_library

    onnx.save(skinning_graph(), tmp_path / "skinning.onnx")
    assert len(build_engine(load_library("tensorrt-rtx"), tmp_path / "skinning.onnx", ("sm_89",))) > 1000


def test_the_torch_operator_is_the_kernel() -> None:
    given = feeds()
    tensors = [torch.from_numpy(value) for value in given.values()]
    found = flame_skinning(*tensors, HEAD["parents"].tolist())
    wanted = plugins.skin(plugins.Head(**HEAD), given["expression"], given["pose"], given["translation"])
    assert np.abs(found.numpy() - wanted).max() < 2e-6


def test_motion_and_skinning_are_one_graph() -> None:
    """Exported from PyTorch with the operator as one node, run by ONNX Runtime through the function's body."""
    checkpoint = tiny.checkpoint()
    model = tiny_frame()
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node if node.domain] == [SKINNING]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    given = {v.name: (0.3 * rng.standard_normal(v.shape)).astype(np.float32) for v in session.get_inputs()}
    found = dict(zip([v.name for v in session.get_outputs()], session.run(None, given), strict=True))
    pose = given["pose"].copy()
    pose[2] = found["jaw"]
    arrays: Any = {n[5:]: np.ascontiguousarray(a) for n, a in checkpoint.avatar.items() if n.startswith("head.")}
    wanted = plugins.skin(plugins.Head(**arrays), found["expression"], pose, given["translation"])
    assert np.abs(found["vertices"] - wanted).max() < 2e-6


@pytest.fixture(scope="module")
def whole() -> onnx.ModelProto:
    return tiny_picture()


def test_the_whole_frame_names_both_plugins(whole: onnx.ModelProto) -> None:
    """Exported from PyTorch. A parser looks creators up by type, `plugin_version` and `plugin_namespace`."""
    onnx.checker.check_model(whole)
    found = {c.name: (c.plugin_version, c.plugin_namespace, {f.name for f in c.field_names}) for c in creators(trt)}
    nodes = [node for node in whole.graph.node if node.domain]
    assert [node.op_type for node in nodes] == [SKINNING, RASTERIZATION]
    for node in nodes:
        version, namespace, fields = found[node.op_type]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes["plugin_version"].decode() == version == VERSION
        assert attributes["plugin_namespace"].decode() == namespace == NAMESPACE == node.domain
        assert len(attributes["scene"]) > 1000 and {"scene", "vertices"} <= set(attributes) & fields
    assert all(constant.data_type != TensorProto.UINT8 for constant in whole.graph.initializer), (
        "the scene is twice in it"
    )
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in whole.graph.output}
    assert shapes["picture"] == [48, 64, 3] and shapes["status"] == [8] and "controls" in _names(whole.graph.input)
    assert {(f.domain, f.name) for f in whole.functions} == {(NAMESPACE, SKINNING)}


def _names(values: Any) -> set[str]:
    return {value.name for value in values}


def test_the_whole_frame_draws_in_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operators run one after the other, on the kernels that run on the host."""
    cudart: Any = Cudart()
    cudart.cudaMemcpy = lambda to, source, size, kind: cudart.cudaMemcpyAsync(to, source, size, kind, 0)
    monkeypatch.setattr(custom_ops, "HARDWARE", custom_ops.Hardware("cpu", emulated.load, cudart))
    checkpoint = tiny.checkpoint()
    scene = scene_of(checkpoint)
    step = frame_step(checkpoint, Picture(emulated.load().pack(scene), 64, 48, False))
    inputs = dict(zip(step.input_names(), step.example_inputs(), strict=True))
    pose = 0.1 * np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    camera = egg.camera(64, 48)
    inputs["pose"], inputs["translation"] = torch.from_numpy(pose), torch.tensor([0.0, 0.01, 0.0])
    inputs["controls"] = torch.from_numpy(cuda.controls(camera, pose, np.zeros(3), (0.1, 0.5, 0.9)))
    with torch.no_grad():
        found = dict(zip(step.output_names(), step(*inputs.values()), strict=True))
    pose[2] = found["jaw"]
    wanted = plugins.Renderer(scene, 1).draw(
        found["expression"].numpy(), pose, np.array([0, 0.01, 0], np.float32), camera, None, (0.1, 0.5, 0.9)
    )
    assert reference.decibels(found["picture"].numpy(), wanted, 255) > 45
    status = cuda.Status.read(found["status"].numpy().view(np.uint8))
    assert status.pairs > 100 and not status.overflow
    assert not cudart.blocks, "the launcher's memory is given back"


def test_rasterization_is_for_a_gpu() -> None:
    scene = torch.zeros(8, dtype=torch.uint8)
    with pytest.raises(BackendError, match="draws on a GPU, its vertices are on cpu"):
        custom_ops.gaussian_rasterization(torch.zeros(9, 3), torch.zeros(4), torch.zeros(40), scene, 8, 8, False)


def test_attributes_survive_serialisation() -> None:
    for creator in creators(trt):
        kinds = trt.PluginFieldType
        given = [
            trt.PluginField(n, v, kinds.INT8 if n == "scene" else kinds.INT32) for n, v in ATTRIBUTES.fields().items()
        ]
        built = creator.create_plugin("node", trt.PluginFieldCollection(given), trt.TensorRTPhase.BUILD)
        stored = built.get_fields_to_serialize()
        loaded = creator.create_plugin("node", stored, trt.TensorRTPhase.RUNTIME)
        assert built.attributes == loaded.attributes == loaded.clone().attributes == ATTRIBUTES
        skins = creator.name == SKINNING
        picture = [(trt.uint8, (48, 64, 3)), (trt.int32, (8,))]
        assert loaded.outputs() == ([(trt.float32, (36, 3))] if skins else picture)
        assert isinstance(loaded, trt.IPluginV3) and loaded.num_outputs == len(loaded.outputs())
        with pytest.raises(BackendError, match="run before it was attached to a context"):
            loaded.enqueue([], [], [], [], 0, 0)


def test_formats_that_the_kernels_read() -> None:
    creator = creators(trt)[1]
    plugin = creator.create_plugin("node", _fields(ATTRIBUTES), trt.TensorRTPhase.BUILD)

    def tensor(kind: Any, layout: Any = trt.TensorFormat.LINEAR) -> Any:
        return SimpleNamespace(desc=SimpleNamespace(type=kind, format=layout))

    good = [tensor(trt.float32)] * 3 + [tensor(trt.uint8), tensor(trt.int32)]
    assert all(plugin.supports_format_combination(i, good, 3) for i in range(5))
    assert not plugin.supports_format_combination(0, [tensor(trt.float16)] * 4, 3)
    assert not plugin.supports_format_combination(3, [tensor(trt.float32)] * 4, 3)
    assert not plugin.supports_format_combination(0, [tensor(trt.float32, trt.TensorFormat.CHW4)] * 4, 3)
    assert not plugin.supports_format_combination(0, good, 2)


def _fields(attributes: NodeAttributes, leave_out: str = "") -> Any:
    kinds = trt.PluginFieldType
    fields = {name: value for name, value in attributes.fields().items() if name != leave_out}
    made = [trt.PluginField(n, v, kinds.INT8 if n == "scene" else kinds.INT32) for n, v in fields.items()]
    return trt.PluginFieldCollection(made)


@pytest.mark.parametrize(
    "attributes, leave_out, message",
    [
        (ATTRIBUTES, "scene", "GaussianRasterization has no attribute scene"),
        (NodeAttributes(b"x", 36, 0, 48), "", "width must be 1 to 4096, not 0"),
        (NodeAttributes(b"x", 36, 64, 5000), "", "height must be 1 to 4096, not 5000"),
        (NodeAttributes(b"x", 0, 64, 48), "", "its scene is empty"),
    ],
)
def test_attributes_that_cannot_be(attributes: NodeAttributes, leave_out: str, message: str) -> None:
    fields = {name: value for name, value in attributes.fields().items() if name != leave_out}
    with pytest.raises(ControlError, match=message):
        NodeAttributes.from_fields(RASTERIZATION, fields)


def test_the_registry_finds_them() -> None:
    """In a process of its own: a creator in its registry makes the parser of TensorRT for RTX break off."""
    code = (
        "import tensorrt_rtx_bindings as trt\n"
        "from emotag.plugins.tensorrt import creators\n"
        "from emotag.plugins.tensorrt.creators import add_to_registry\n"
        "registry = trt.get_plugin_registry()\n"
        "add_to_registry(trt, registry)\n"
        "add_to_registry(trt, registry)\n"
        "for name in ('FlameSkinning', 'GaussianRasterization'):\n"
        "    creator = registry.get_creator(name, '1', 'emotag')\n"
        "    assert creator.name == name and creator.plugin_namespace == 'emotag'\n"
        "assert registry.get_creator('FlameSkinning', '2', 'emotag') is None\n"
        "assert registry.get_creator('FlameSkinning', '1', '') is None\n"
        "print('found')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "found", done.stderr


def test_tensorrt_for_rtx_is_refused_plugins() -> None:
    with pytest.raises(BackendError, match="TensorRT for RTX takes no plugins"):
        register(trt)


# What a plugin launches


class Recorded:
    """`plugins.cuda.Library` whose plans note what is run."""

    def __init__(self, cudart: Cudart) -> None:
        self.cudart, self.stages, self.options = cudart, [], None

    def plan(self, blob: Any, options: cuda.Options) -> Any:
        self.options = options
        return SimpleNamespace(workspace_bytes=512, bind=lambda *bound: None, run=self._run)

    def _run(self, buffers: cuda.Buffers, stream: int, stages: cuda.Stages) -> None:
        self.cudart.enqueue(stream, f"run {int(stages)}", lambda: None)
        self.stages.append((stages, buffers))


def launcher(node: str) -> tuple[Launcher, Recorded, Any]:
    cudart = Cudart()

    def copy_now(to: int, source: int, size: int, kind: int) -> Any:
        return cudart.cudaMemcpyAsync(to, source, size, kind, 0)

    cudart.cudaMemcpy = copy_now  # type: ignore[attr-defined]
    library: Any = Recorded(cudart)
    return Launcher(library, node, ATTRIBUTES, cudart), library, cudart


def test_skinning_launches_one_stage() -> None:
    made, library, cudart = launcher(SKINNING)
    given = feeds()
    addresses = [np.ascontiguousarray(value).ctypes.data for value in given.values()]
    with cudart.recording() as log:
        made.run(addresses, [4096], 7)
    assert log == ["copy 60", "copy 12", "run 1"]
    buffers = library.stages[0][1]
    controls = view(buffers.controls, (40,))
    assert np.array_equal(controls[16:31], given["pose"].ravel())
    assert np.array_equal(controls[31:34], given["translation"])
    assert buffers.vertices == 4096 and buffers.expression == addresses[0]


def test_rasterization_draws_the_vertices_that_it_is_given() -> None:
    made, library, cudart = launcher(RASTERIZATION)
    vertices = np.random.default_rng(0).standard_normal((36, 3)).astype(np.float32)
    with cudart.recording() as log:
        made.run([vertices.ctypes.data, 512, 1024], [8192, 9216], 7)
    assert log == ["run 1", "copy 432", "run 30"]
    buffers = library.stages[1][1]
    assert np.array_equal(view(buffers.vertices, (36, 3)), vertices)
    assert (buffers.encoded_audio, buffers.controls, buffers.picture, buffers.status) == (512, 1024, 8192, 9216)
    assert library.options is not None and (library.options.width, library.options.height) == (64, 48)


def test_the_function_is_well_formed() -> None:
    function = skinning_function()
    assert list(function.input) == list(SKINNING_INPUTS) and function.attribute == ["parents"]
    assert all(not node.domain for node in function.node), "standard operators only"
