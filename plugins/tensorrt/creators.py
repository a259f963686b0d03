"""The plugins as `IPluginV3` and their creators. Their base classes are the module's, so they are made for a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import cuda
from ..errors import BackendError
from .launch import Launcher
from .nodes import (
    FIELDS,
    NAMESPACE,
    RASTERIZATION,
    RASTERIZATION_INPUTS,
    SKINNING,
    SKINNING_INPUTS,
    STATUS_WORDS,
    VERSION,
    NodeAttributes,
)

Load = Callable[[], cuda.Library]


def register(trt: Any, load: Load = cuda.load) -> None:
    """Puts both creators into the registry of full TensorRT; those that are there already stay.

    trt: the module `tensorrt`. load: the CUDA kernels, when a plugin is first run. Raises BackendError if the registry
    refuses them, or for TensorRT for RTX, whose parser breaks off where a creator is registered.
    """
    if hasattr(trt, "ComputeCapability"):
        raise BackendError("TensorRT for RTX takes no plugins: it inlines the nodes' ONNX functions; register none")
    add_to_registry(trt, trt.get_plugin_registry(), load)


def add_to_registry(trt: Any, registry: Any, load: Load = cuda.load) -> None:
    """As `register`, into a given registry."""
    for creator in creators(trt, load):
        if registry.get_creator(creator.name, VERSION, NAMESPACE) is None:
            if not registry.register_creator(creator, NAMESPACE):
                raise BackendError(f"TensorRT refuses the plugin {NAMESPACE}::{creator.name}: see docs/gpu.md")
            _kept.append(creator)  # the registry holds a pointer only


_kept: list[Any] = []


def creators(trt: Any, load: Load = cuda.load) -> list[Any]:
    """The creators of both plugins, as objects of the module's `IPluginCreatorV3One`."""
    plugin = _plugin_class(trt, load)

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self, node: str) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = node, NAMESPACE, VERSION
            self._empty = empty = np.array([], np.int32)  # fields point into it
            kinds = [trt.PluginFieldType.INT8, *[trt.PluginFieldType.INT32] * (len(FIELDS) - 1)]
            fields = [trt.PluginField(n, empty, kind) for n, kind in zip(FIELDS, kinds, strict=True)]
            self.field_names = trt.PluginFieldCollection(fields)

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            given = {field.name: _content(trt, field) for field in fields if field.name in FIELDS}
            return plugin(self.name, NodeAttributes.from_fields(self.name, given))

    return [Creator(SKINNING), Creator(RASTERIZATION)]


def _content(trt: Any, field: Any) -> Any:
    """A field's array. The ONNX parser hands strings over as characters with a zero behind them, which is not ours."""
    data = np.asarray(field.data)
    return data[:-1] if field.type == trt.PluginFieldType.CHAR else data


def _plugin_class(trt: Any, load: Load) -> Any:
    """The plugin class of a TensorRT module; one class serves both nodes, which differ by their attributes."""

    class Plugin(
        trt.IPluginV3,  # type: ignore[misc]
        trt.IPluginV3OneCore,  # type: ignore[misc]
        trt.IPluginV3OneBuild,  # type: ignore[misc]
        trt.IPluginV3OneRuntime,  # type: ignore[misc]
    ):
        def __init__(self, node: str, attributes: NodeAttributes) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = node, NAMESPACE, VERSION
            self.attributes = attributes
            self.num_outputs = len(self.outputs())
            self._arrays = attributes.fields()  # what is serialised: TensorRT keeps pointers into it
            self._serialised: Any = None
            self._launcher: Launcher | None = None

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Plugin(self.plugin_name, self.attributes)

        def get_fields_to_serialize(self) -> Any:
            made = []
            for name, value in self._arrays.items():
                kind = trt.PluginFieldType.INT8 if name == "scene" else trt.PluginFieldType.INT32
                made.append(trt.PluginField(name, value, kind))
            self._serialised = trt.PluginFieldCollection(made)
            return self._serialised

        def outputs(self) -> list[tuple[Any, tuple[int, ...]]]:
            """Type and shape: [V,3] vertices, or the [H,W,3] picture and the kernels' status [8]."""
            a = self.attributes
            if self.plugin_name == SKINNING:
                return [(trt.float32, (a.vertices, 3))]
            return [(trt.uint8, (a.height, a.width, 3)), (trt.int32, (STATUS_WORDS,))]

        def get_output_data_types(self, input_types: list[Any]) -> list[Any]:
            return [kind for kind, _ in self.outputs()]

        def get_output_shapes(self, inputs: list[Any], shape_inputs: list[Any], builder: Any) -> list[Any]:
            return [trt.DimsExprs([builder.constant(size) for size in shape]) for _, shape in self.outputs()]

        def supports_format_combination(self, position: int, tensors: list[Any], inputs: int) -> bool:
            wanted = len(SKINNING_INPUTS if self.plugin_name == SKINNING else RASTERIZATION_INPUTS)
            if inputs != wanted or tensors[position].desc.format != trt.TensorFormat.LINEAR:
                return False
            kind = trt.float32 if position < inputs else self.outputs()[position - inputs][0]
            return bool(tensors[position].desc.type == kind)

        def configure_plugin(self, inputs: list[Any], outputs: list[Any]) -> None: ...

        def on_shape_change(self, inputs: list[Any], outputs: list[Any]) -> None: ...

        def set_tactic(self, tactic: int) -> None: ...

        def get_valid_tactics(self) -> list[int]:
            return []

        def get_workspace_size(self, inputs: list[Any], outputs: list[Any]) -> int:
            return 0  # the launcher's memory is made when the plugin is attached: frames must not allocate

        def attach_to_context(self, context: Any) -> Any:
            attached = Plugin(self.plugin_name, self.attributes)
            attached._launcher = Launcher(load(), self.plugin_name, self.attributes)
            return attached

        def enqueue(
            self,
            input_desc: list[Any],
            output_desc: list[Any],
            inputs: list[int],
            outputs: list[int],
            workspace: int,
            stream: int,
        ) -> None:
            """Raises BackendError, ControlError: TensorRT's Python plugins tell of failures by exceptions."""
            if self._launcher is None:
                raise BackendError(f"{NAMESPACE}::{self.plugin_name} was run before it was attached to a context")
            self._launcher.run(list(map(int, inputs)), list(map(int, outputs)), int(stream))

    return Plugin
