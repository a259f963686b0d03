"""Bundles: whole ones open, every damaged or hostile one is refused by one error that names the thing and the cure."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file
from synthetic_bundle import Shape, edit_manifest, manifest, write_bundle, write_manifest

from emotag.runtime import Avatar, BundleError, Model
from emotag.runtime.bundle import open_bundle
from emotag.runtime.manifest import parse_manifest
from emotag.runtime.onnx_scan import check_self_contained


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.emotag")


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tiny.emotag"))


def content(bundle: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return data


def rehash(bundle: Path) -> None:
    data = content(bundle)
    data.pop("files")
    write_manifest(bundle, data)


def refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Model.load(path)
    assert "\n" not in str(caught.value)


def test_a_whole_bundle_opens_and_unknown_keys_do_no_harm(bundle: Path) -> None:
    edit_manifest(bundle, future={"key": [1, 2]}, audio={**content(bundle)["audio"], "more": 1})
    opened = open_bundle(bundle)
    assert opened.manifest.name == "tiny" and opened.manifest.audio is not None
    assert opened.manifest.audio.hidden_size == 8 and opened.manifest.lookahead_frames == 2
    assert Avatar(bundle).expression_names[0] == "expression0"


def test_relative_paths_and_a_linked_folder_work(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    os.symlink(bundle, "link.emotag")
    for path in ("tiny.emotag", "link.emotag", Path("tiny.emotag")):
        assert open_bundle(path).manifest.name == "tiny"


def test_what_is_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "none.emotag", "not a bundle folder")
    refused(tmp_path, "has no manifest.json")
    (tmp_path / "manifest.json").mkdir()
    refused(tmp_path, "cannot be read")


@pytest.mark.parametrize("name", ["audio.onnx", "motion.onnx", "avatar.safetensors", "cues.safetensors", "report.json"])
def test_missing_truncated_and_changed_files(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-1])
    refused(bundle, f"{name} of .* bytes instead of .*again")
    (bundle / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(bundle, f"{name} of .* was changed")
    (bundle / name).unlink()
    refused(bundle, f"{name} of .* is missing")
    (bundle / name).mkdir()
    refused(bundle, f"{name} of .* is not a file")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "a//b", "./a", "", "..\\a", "C:a", "a\0b"])
def test_paths_that_leave_the_folder(bundle: Path, name: str) -> None:
    data = content(bundle)
    data["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (bundle / "manifest.json").write_text(json.dumps(data))
    refused(bundle, "leaves the bundle's folder")


def test_links_that_leave_the_folder(bundle: Path) -> None:
    outside = bundle.parent / "outside.onnx"
    shutil.move(bundle / "audio.onnx", outside)
    os.symlink(outside, bundle / "audio.onnx")
    refused(bundle, "audio.onnx is a link that leaves")
    (bundle / "audio.onnx").unlink()
    os.symlink("audio.onnx", bundle / "audio.onnx")
    refused(bundle, "audio.onnx of .* (cannot be read|missing)")


def test_files_below_the_folder_may_be_listed(bundle: Path) -> None:
    (bundle / "engines").mkdir()
    (bundle / "engines" / "a.plan").write_bytes(b"engine")
    rehash(bundle)
    assert "engines/a.plan" in open_bundle(bundle).manifest.files


def change(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {**data, **changes}


def nested(section: str, **changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {**data, section: {**data[section], **changes}}


BAD_MANIFESTS = {
    "newer schema": (change(schema=3), "schema 3.*upgrade emotag"),
    "older schema": (change(schema=0), "schema 0"),
    "boolean schema": (change(schema=True), "schema True"),
    "no name": (change(name=None), "name must be"),
    "width of a billion": (change(width=10**9), "width must be from 1"),
    "negative height": (change(height=-1), "height must be from 1"),
    "background of two": (change(background=[1, 1]), "background"),
    "background of NaN": (change(background=[1, 1, float("nan")]), "background"),
    "frame rate": (change(frame_rate=30), "frame_rate must be 25"),
    "look-ahead that is not true": (change(lookahead_frames=1), "lookahead_frames is 1.*make 2"),
    "audio that is a list": (change(audio=[]), "audio must be"),
    "sample rate": (nested("audio", sample_rate=48000), "sample_rate must be 16000"),
    "chunk of nothing": (nested("audio", chunk_tokens=0), r"audio\.chunk_tokens"),
    "absurd context": (nested("audio", context_tokens=10**12), r"audio\.context_tokens"),
    "context of half chunks": (nested("audio", context_tokens=7), "multiple of chunk_tokens"),
    "scale of infinity": (nested("audio", scale=float("inf")), r"audio\.scale"),
    "window of text": (nested("motion", window_past="4"), r"motion\.window_past"),
    "emotions of numbers": (nested("motion", emotions=[1]), r"emotions must be a list of strings"),
    "steerable of one": (nested("motion", steerable=1), r"motion\.steerable"),
    "SH degree": (nested("gaussians", active_sh_degree=4), "active_sh_degree"),
    "activation": (nested("gaussians", scale_activation="relu"), "scale_activation"),
    "expression names": (change(expression_names=["one"]), "expression_names has 1 names"),
    "files that are a list": (change(files=[]), "files must be"),
    "files without a graph": (change(files={}), "does not list audio.onnx"),
    "a hash that is none": (change(files={"a": {"sha256": "xyz", "bytes": 1}}), "no SHA-256"),
    "a size below nothing": (change(files={"a": {"sha256": "0" * 64, "bytes": -1}}), "bytes must be"),
}


@pytest.mark.parametrize(("edit", "message"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS.keys())
def test_manifests_that_cannot_be_used(bundle: Path, edit: Callable[[Any], Any], message: str) -> None:
    (bundle / "manifest.json").write_text(json.dumps(edit(content(bundle))))
    refused(bundle, message)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"schema": 1, "schema": 1}', "\ufeff{}"])
def test_manifests_that_are_no_json_object(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    refused(bundle, "manifest.json")


def test_manifest_that_is_not_text_or_too_large(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"\xff\xfe\x00")
    refused(bundle, "not UTF-8")
    with (bundle / "manifest.json").open("wb") as file:
        file.truncate(1 << 30)
    refused(bundle, "larger than")


def test_every_key_of_the_manifest_is_needed() -> None:
    data = {**manifest(Shape()), "files": {}}
    for key in data:
        if key != "files":
            with pytest.raises(BundleError, match=key):
                parse_manifest(json.dumps({k: v for k, v in data.items() if k != key}))


def rewrite(bundle: Path, name: str, **changes: Any) -> None:
    tensors = load_file(bundle / name)
    for key, value in changes.items():
        key = key.replace("__", ".")
        if value is None:
            del tensors[key]
        else:
            tensors[key] = np.ascontiguousarray(value)
    save_file(tensors, bundle / name)
    rehash(bundle)


BAD_TENSORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no template": ("avatar", {"head__template": None}, "head.template is missing"),
    "float64": ("avatar", {"head__template": np.zeros((36, 3))}, "head.template has type float64"),
    "vertices disagree": ("avatar", {"head__weights": np.zeros((35, 5), np.float32)}, r"head.weights has shape \(35"),
    "joints": ("avatar", {"head__joints": np.zeros((4, 3), np.float32)}, "head.joints has shape"),
    "face out of range": ("avatar", {"head__faces": np.full((50, 3), 99, np.int32)}, "head.faces"),
    "binding out of range": ("avatar", {"gaussians__face_index": np.full(200, 50, np.int32)}, "face"),
    "NaN": ("avatar", {"gaussians__opacities": np.full(200, np.nan, np.float32)}, "opacities holds NaN"),
    "rotation of nothing": ("avatar", {"gaussians__quats": np.zeros((200, 4), np.float32)}, "quaternion"),
    "SH of five": ("avatar", {"gaussians__sh": np.zeros((200, 5, 3), np.float32)}, "sh"),
    "SH below the active degree": ("avatar", {"gaussians__sh": np.zeros((200, 1, 3), np.float32)}, "degree"),
    "half a mouth": ("avatar", {"mouth__mlp__0": None}, "mouth.mlp.0 is missing"),
    "mouth out of range": ("avatar", {"mouth__index": np.array([200], np.int32)}, "mouth.index"),
    "mouth of other inputs": ("avatar", {"mouth__mlp__0": np.zeros((64, 100), np.float32)}, "mouth.mlp.0"),
    "no initial state": ("avatar", {"state__audio__features": None}, "state.audio.features"),
    "state of another shape": ("avatar", {"state__motion__encodings": np.zeros((1, 256), np.float32)}, "encodings"),
    "cues without camera": ("cues", {"view": None}, "view is missing"),
    "cues that differ in length": ("cues", {"neck": np.zeros((3, 3), np.float32)}, "neck has shape"),
    "cues of infinity": ("cues", {"aus": np.full((7, 6), np.inf, np.float32)}, "aus holds NaN"),
    "no focal length": ("cues", {"intrinsics": np.zeros((7, 4), np.float32)}, "intrinsics"),
    "camera that is not rigid": ("cues", {"view": np.zeros((7, 4, 4))}, "view"),
    "recorded windows of another size": ("cues", {"windows": np.zeros((7, 9, 8), np.float32)}, "windows has shape"),
}


@pytest.mark.parametrize(("file", "changes", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS.keys())
def test_tensors_that_cannot_be_used(bundle: Path, file: str, changes: dict[str, Any], message: str) -> None:
    rewrite(bundle, f"{file}.safetensors", **changes)
    refused(bundle, message)


@pytest.mark.parametrize("name", ["avatar.safetensors", "cues.safetensors", "audio.onnx", "motion.onnx"])
@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff" * 100, b"not what it should be"], ids=range(4))
def test_files_of_another_kind_with_a_true_hash(bundle: Path, name: str, data: bytes) -> None:
    (bundle / name).write_bytes(data)
    rehash(bundle)
    refused(bundle, name.split(".")[0])


def edit_graph(bundle: Path, name: str, edit: Callable[[Any], None]) -> None:
    model = onnx.load(bundle / name)
    edit(model.graph)
    onnx.save(model, bundle / name)
    rehash(bundle)


def test_graphs_that_keep_weights_elsewhere(bundle: Path) -> None:
    model = onnx.load(bundle / "motion.onnx")
    onnx.save(model, bundle / "motion.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    rehash(bundle)
    refused(bundle, "motion.onnx keeps weights in another file")


def test_weights_elsewhere_inside_a_branch_or_an_attribute_are_found(bundle: Path) -> None:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    constant = onnx.helper.make_node("Constant", [], ["x"], value=tensor)
    branch = onnx.helper.make_graph([constant], "then", [], [onnx.helper.make_tensor_value_info("x", 1, [1])])
    node = onnx.helper.make_node("If", ["condition"], ["x"], then_branch=branch, else_branch=branch)
    edit_graph(bundle, "audio.onnx", lambda graph: graph.node.append(node))
    refused(bundle, "audio.onnx keeps weights in another file")


def rename(values: Any, old: str, new: str) -> None:
    next(value for value in values if value.name == old).name = new


def test_graphs_with_other_inputs_and_outputs(bundle: Path, whole: Path) -> None:
    def output(old: str, new: str) -> Callable[[Any], None]:
        def edit(graph: Any) -> None:
            rename(graph.output, old, new)
            for node in graph.node:
                node.output[:] = [new if name == old else name for name in node.output]
                node.input[:] = [new if name == old else name for name in node.input]

        return edit

    edit_graph(bundle, "audio.onnx", output("tokens", "words"))
    refused(bundle, "audio.onnx: has no output tokens")
    shutil.copy(whole / "audio.onnx", bundle)
    edit_graph(bundle, "motion.onnx", output("jaw", "chin"))
    refused(bundle, "motion.onnx: has no output jaw")
    shutil.copy(whole / "motion.onnx", bundle)
    edit_manifest(bundle, motion={**content(bundle)["motion"], "window_past": 6})
    refused(bundle, r"motion.onnx: input window has shape \(6, 8\) instead of \(8, 8\)")
    edit_manifest(bundle, motion={**content(bundle)["motion"], "window_past": 4, "steerable": False})
    refused(bundle, "motion.onnx: input emotion.* is not in the bundle format")


def test_a_bundle_without_encoder_plays_its_recording_only(bundle: Path, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "recorded.emotag", Shape(windows=True, lookahead=0))
    (path / "audio.onnx").unlink()
    edit_manifest(path, audio=None)
    avatar = Avatar(path)
    for speak in (avatar.step, avatar.push, avatar.render):
        with pytest.raises(BundleError, match="no audio encoder.*--encoder"):
            speak(np.zeros(640, np.float32))
    assert len(list(avatar.cued(progress=False))) == 7


@pytest.mark.parametrize("key", ["name", "licence", "consent"])
def test_text_that_could_steer_a_terminal_is_refused(bundle: Path, key: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, key: "\x1b[2J"}))
    with pytest.raises(BundleError, match=key):
        open_bundle(bundle)


def test_file_names_that_are_no_text_are_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["\ud800"] = {"sha256": "0" * 64, "bytes": 1}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        open_bundle(bundle)


def test_other_action_units_are_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["motion"]["aus"] = manifest["motion"]["aus"][:5]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="aus"):
        open_bundle(bundle)


def test_field_numbers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    """Another reader drops the high bits of such a tag and sees the field that says where weights lie."""
    path = tmp_path / "a.onnx"
    path.write_bytes(bytes([0x82, 0x80, 0x80, 0x80, 0x10, 0x00]))
    with pytest.raises(BundleError):
        check_self_contained(path)
