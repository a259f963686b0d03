"""Plugins against the real bindings of full TensorRT and its real plugin registry, without a GPU or its libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from whole_frame import SIZE, tiny_picture

STUB = Path(__file__).parent / "tensorrt_stub"
sys.path.append(str(STUB))
import bindings  # noqa: E402

pytestmark = pytest.mark.skipif(bool(bindings.missing()), reason=bindings.missing())


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return tiny_picture()


@pytest.fixture(scope="module")
def seen(graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process with these bindings reports of the graph's nodes."""
    path = tmp_path_factory.mktemp("full") / "frame.onnx"
    onnx.save(graph, path)
    command = [sys.executable, str(STUB / "session.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_bindings_are_those_of_full_tensorrt(seen: dict[str, Any]) -> None:
    assert seen["version"].startswith(f"{bindings.MAJOR}.")


def test_the_registry_takes_the_creators_once(seen: dict[str, Any]) -> None:
    """By name, version and namespace, as a parser asks."""
    assert seen["before"] and seen["creators"] == ["FlameSkinning", "GaussianRasterization"]
    assert seen["foreign"] == [True, True]


@pytest.mark.parametrize("node", ["FlameSkinning", "GaussianRasterization"])
def test_nodes_become_plugins(seen: dict[str, Any], graph: onnx.ModelProto, node: str) -> None:
    """The parser's fields (its strings end with a zero) give the attributes, and those survive serialisation."""
    found, attributes = seen[node], _attributes(graph, node)
    assert found["is_v3"] and found["restored"] and found["formats"]
    assert found["scene"] == len(attributes["scene"]) > 1000
    skins = node == "FlameSkinning"
    vertices = attributes["vertices"]
    assert found["size"] == ([0, 0, vertices, False] if skins else [*SIZE, vertices, False])
    picture = [["UINT8", [SIZE[1], SIZE[0], 3]], ["INT32", [8]]]
    assert found["outputs"] == ([["FLOAT", [vertices, 3]]] if skins else picture)
    assert found["unattached"] == f"BackendError: emotag::{node} was run before it was attached to a context"


def _attributes(graph: onnx.ModelProto, node: str) -> dict[str, Any]:
    found = next(n for n in graph.graph.node if n.op_type == node)
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in found.attribute}
