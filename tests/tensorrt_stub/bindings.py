"""The real Python bindings of full TensorRT, loaded over a stub of its libraries and the lean runtime's registry.

For a process of its own: the libraries must not meet those of TensorRT for RTX.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MAJOR = "11"  # of the bindings that constraints.txt pins
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")


def missing() -> str:
    """What keeps the bindings from being loaded; empty if nothing does."""
    for package in ("tensorrt_bindings", "tensorrt_lean_libs"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: pip install 'emotag[dev]'"
    return ""


def lean_library() -> Path:
    """NVIDIA's lean runtime, whose plugin registry is the real one."""
    spec = importlib.util.find_spec("tensorrt_lean_libs")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / f"libnvinfer_lean.so.{MAJOR}"


def build(folder: Path) -> None:
    """Compiles the stub under the three names that the bindings ask for."""
    folder.mkdir(parents=True, exist_ok=True)
    lean = lean_library()
    for name in LIBRARIES:
        out = folder / f"{name}.so.{MAJOR}"
        partial = folder / f"{name}.{os.getpid()}"
        command = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-o", str(partial), f"-Wl,-soname,{out.name}"]
        if name == LIBRARIES[0]:
            command += [str(HERE / "stub.cpp"), "-Wl,--no-as-needed", str(lean), f"-Wl,-rpath,{lean.parent}"]
        else:
            command += ["-x", "c++", os.devnull]
        subprocess.run(command, check=True, capture_output=True, text=True)
        partial.replace(out)


def load() -> Any:
    """The module `tensorrt_bindings`, which the module `tensorrt` hands on."""
    folder = ROOT / "build" / "tensorrt_stub"
    build(folder)
    for name in LIBRARIES:
        ctypes.CDLL(str(folder / f"{name}.so.{MAJOR}"), mode=ctypes.RTLD_GLOBAL)
    import tensorrt_bindings

    return tensorrt_bindings


_kept: list[Any] = []


def parsed_fields(trt: Any, creator: Any, node: Any) -> Any:
    """The fields that TensorRT's ONNX parser makes of a node: by the attribute's kind, strings with a zero behind."""
    import numpy as np
    from onnx import AttributeProto

    fields = []
    attributes = {attribute.name: attribute for attribute in node.attribute}
    for field in creator.field_names:
        attribute = attributes.get(field.name)
        if attribute is None:
            continue
        if attribute.type == AttributeProto.STRING:
            data, kind = np.frombuffer(attribute.s + b"\0", np.int8), trt.PluginFieldType.CHAR
        else:
            assert attribute.type == AttributeProto.INT
            data, kind = np.array([attribute.i], np.int32), trt.PluginFieldType.INT32
        _kept.append(data)  # a collection copies pointers and keeps nothing alive; the parser does
        fields.append(trt.PluginField(field.name, data, kind))
    return trt.PluginFieldCollection(fields)
