"""FLAME pickles: every form of array they come in, and that nothing in them is ever executed."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from emotag.runtime.errors import CheckpointError
from emotag.training.flame import load_flame
from emotag.training.safe_pickle import load_object_npz, load_pickle

SHARED = Path(__file__).resolve().parents[2] / "shared" / "released"


def flame(vertices: int = 50, components: int = 320, seed: int = 0) -> dict[str, Any]:
    """A model of FLAME's layout, of random numbers."""
    rng = np.random.default_rng(seed)
    weights, regressor = rng.random((vertices, 5)), rng.random((5, vertices))
    return {
        "v_template": rng.normal(size=(vertices, 3)),
        "f": rng.integers(0, vertices, (80, 3)).astype(np.uint32),
        "shapedirs": rng.normal(size=(vertices, 3, components)),
        "posedirs": rng.normal(size=(vertices, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(axis=1, keepdims=True)),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "bs_type": "lrotmin",
    }


def written(path: Path, model: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(model, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_gives_the_same_head(tmp_path: Path, protocol: int) -> None:
    model = flame()
    head = load_flame(written(tmp_path / "flame.pkl", model, protocol))
    np.testing.assert_allclose(head.v_template, model["v_template"], rtol=1e-6)
    np.testing.assert_allclose(head.shape_basis, model["shapedirs"][:, :, :300], rtol=1e-6)
    np.testing.assert_allclose(head.expression_basis, model["shapedirs"][:, :, 300:], rtol=1e-6)
    np.testing.assert_allclose(head.joint_regressor, model["J_regressor"].toarray(), rtol=1e-6)
    assert head.parents.tolist() == [-1, 0, 1, 1, 1]


@pytest.mark.parametrize("form", ["csc", "csr", "coo", "dense", "csc_array"])
def test_every_form_of_regressor(tmp_path: Path, form: str) -> None:
    model = flame()
    dense = model["J_regressor"].toarray()
    forms = {
        "csc": scipy.sparse.csc_matrix,
        "csr": scipy.sparse.csr_matrix,
        "coo": scipy.sparse.coo_matrix,
        "dense": np.asarray,
        "csc_array": scipy.sparse.csc_array,
    }
    head = load_flame(written(tmp_path / "flame.pkl", {**model, "J_regressor": forms[form](dense)}))
    np.testing.assert_allclose(head.joint_regressor, dense, rtol=1e-6)


@pytest.fixture
def chumpy() -> Iterator[type]:
    """A module of chumpy's name whose objects pickle as chumpy's do: by attributes."""
    module = types.ModuleType("chumpy.ch")
    kind = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch"})
    module.Ch = kind  # type: ignore[attr-defined]
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = types.ModuleType("chumpy"), module
    yield kind
    del sys.modules["chumpy"], sys.modules["chumpy.ch"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_chumpy_objects_give_their_array(tmp_path: Path, chumpy: type, protocol: int) -> None:
    model = flame()
    values = {**model}
    for name in ("v_template", "shapedirs", "weights"):
        values[name] = chumpy()
        values[name].x, values[name]._itr = model[name], None
    path = written(tmp_path / "flame.pkl", values, protocol)
    del sys.modules["chumpy.ch"]
    head = load_flame(path)
    sys.modules["chumpy.ch"] = types.ModuleType("chumpy.ch")
    np.testing.assert_allclose(head.shape_basis, model["shapedirs"][:, :, :300], rtol=1e-6)


def test_a_chumpy_expression_without_values_is_refused(tmp_path: Path, chumpy: type) -> None:
    with pytest.raises(CheckpointError, match="chumpy"):
        load_flame(written(tmp_path / "flame.pkl", {**flame(), "v_template": chumpy()}))


def test_old_names_and_text_of_python_2(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.arange(6.0).reshape(2, 3)}, protocol=2)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    value = load_pickle(old, "old")
    assert isinstance(value, dict)
    np.testing.assert_array_equal(value["a"], np.arange(6.0).reshape(2, 3))
    assert load_pickle(b"\x80\x02U\x03\xe9ab.", "text") == "éab"
    raw = np.array([1.5, -2.0]).tobytes()
    python2 = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
        b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS" + repr(raw)[1:].encode() + b"\ntb."
    )
    np.testing.assert_array_equal(load_pickle(python2, "python 2"), [1.5, -2.0])


def test_sizes_are_read_not_assumed(tmp_path: Path) -> None:
    head = load_flame(written(tmp_path / "flame.pkl", flame(73, 400)), n_expression=50)
    assert head.vertex_count == 73 and head.expression_count == 50
    head = load_flame(written(tmp_path / "flame.pkl", flame(31, 150)), n_shape=100)
    assert head.shape_basis.shape == (31, 3, 100) and head.expression_count == 50
    with pytest.raises(CheckpointError, match="n_shape"):
        load_flame(written(tmp_path / "flame.pkl", flame(31, 150)))


@pytest.mark.parametrize(
    "change",
    [
        {"weights": np.ones((50, 5))},
        {"weights": np.ones((49, 5)) / 5},
        {"v_template": "text"},
        {"f": np.full((4, 3), 50)},
        {"f": np.full((4, 3), 2**32 - 1, dtype=np.uint32)},
        {"shapedirs": np.full((50, 3, 320), np.inf)},
        {"shapedirs": np.zeros((50, 3))},
        {"kintree_table": np.zeros(5)},
        {"posedirs": np.zeros((50, 3, 27))},
    ],
)
def test_sizes_that_disagree_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="flame.pkl"):
        load_flame(written(tmp_path / "flame.pkl", {**flame(), **change}))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_flame(tmp_path / "missing.pkl")
    with pytest.raises(CheckpointError, match="not a FLAME model"):
        load_flame(written(tmp_path / "list.pkl", [1, 2]))
    with pytest.raises(CheckpointError, match="no v_template|no shapedirs"):
        load_flame(written(tmp_path / "empty.pkl", {}))


class Gadget:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


MARKER = "emotag_pickle_was_executed"
HOSTILE = {
    "os.system": pickle.dumps(Gadget(os.system, f"touch {MARKER}")),
    "eval": pickle.dumps(Gadget(eval, f"open('{MARKER}', 'w')")),
    "getattr": pickle.dumps(Gadget(getattr, "text", "join")),
    "numpy function": pickle.dumps(Gadget(np.fromfile, "/etc/passwd")),
    "scipy function": b"\x80\x02cscipy.sparse\nload_npz\nX\x01\x00\x00\x00a\x85R.",
    "object code": b"cos\nsystem\n(S'touch " + MARKER.encode() + b"'\ntR.",
    "inst": b"(S'touch " + MARKER.encode() + b"'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch " + MARKER.encode() + b"'\no.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "stand-in as value": b"\x80\x02cnumpy\ndtype\n.",
    "poisoned class": b"\x80\x02cnumpy\nndarray\nN}U\x0c__setstate__K\x01s\x86b.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x02U\x01aQ.",
    "codec": pickle.dumps(Gadget(__import__("codecs").encode, "aaaa", "rot13")),
    "self-reference": b"\x80\x02]q\x00h\x00a.",
    "deep": b"\x80\x02" + b"]" * 3000 + b"a" * 2999 + b".",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
    "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "empty": b"",
    "text": b"this is no pickle",
}


def array_pickle(shape: Any, data: bytes, code: str = "f8") -> bytes:
    """A pickled array whose shape and data need not agree."""
    honest = pickle.dumps(np.zeros(1), protocol=2)
    assert load_pickle(honest, "honest") is not None
    state = pickle.dumps((1, shape, np.dtype(code), False, data), protocol=2)[2:-1]
    return b"\x80\x02cnumpy\nndarray\n)\x81" + state + b"b."


HOSTILE["array larger than its data"] = array_pickle((1 << 40, 8), b"1234")
HOSTILE["array of negative size"] = array_pickle((-1, -8), bytes(64))
HOSTILE["array of text sizes"] = array_pickle(("a",), bytes(8))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_not_executed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=name):
        load_pickle(HOSTILE[name], name)
    assert not (tmp_path / MARKER).exists()
    np.testing.assert_array_equal(load_pickle(pickle.dumps(np.arange(3)), "afterwards"), np.arange(3))


def test_claims_of_size_take_no_memory() -> None:
    """The C unpickler would take 16 GiB for this memo index; here it is only a key."""
    assert load_pickle(b"\x80\x02Nr\xff\xff\xff\x7f.", "huge memo") is None
    assert load_pickle(b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.", "huge frame") is None


def test_every_truncation_of_a_model_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(flame(8, 302), protocol=4)
    for length in range(0, len(data), max(1, len(data) // 60)):
        with pytest.raises(CheckpointError):
            load_pickle(data[:length], "truncated")


def test_a_sparse_matrix_of_a_false_size_is_refused() -> None:
    matrix = scipy.sparse.csc_matrix(np.eye(5))
    for name, value in (
        ("_shape", (10**9, 10**9)),
        ("_shape", (-5, 5)),
        ("indices", np.full(5, 77)),
        ("indptr", np.arange(6)[::-1]),
    ):
        changed = matrix.copy()
        setattr(changed, name, value)
        with pytest.raises(CheckpointError):
            load_pickle(pickle.dumps(changed, protocol=2), "sparse")


def test_plain_containers_come_back() -> None:
    value = {"a": [1, 2.5, (True, None)], "b": collections.OrderedDict(x=np.float32(3)), "c": b"", "d": b"\xff"}
    for protocol in range(6):
        again = load_pickle(pickle.dumps(value, protocol=protocol), "plain")
        assert isinstance(again, dict)
        assert again["a"] == [1, 2.5, (True, None)] and again["b"] == {"x": 3} and again["d"] == b"\xff"


def object_npz(path: Path, **entries: Any) -> Path:
    np.savez(path, allow_pickle=True, **entries)
    return path


def test_tracked_parameters_are_read_without_the_real_unpickler(tmp_path: Path) -> None:
    frames = {str(i): {"shape": np.ones((1, 300), np.float32) * i, "jaw_pose": np.zeros((1, 3))} for i in range(3)}
    read = load_object_npz(object_npz(tmp_path / "flame_params.npz", plain=np.eye(3), **frames))
    assert list(read) == ["plain", "0", "1", "2"]
    np.testing.assert_array_equal(read["plain"], np.eye(3))
    for key, frame in frames.items():
        again = read[key]
        assert isinstance(again, dict) and again.keys() == frame.keys()
        np.testing.assert_array_equal(again["shape"], frame["shape"])


def test_hostile_tracked_parameters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gadget = np.empty((), dtype=object)
    gadget[()] = Gadget(os.system, f"touch {MARKER}")
    with pytest.raises(CheckpointError, match=r"bad.npz:0.npy.*system"):
        load_object_npz(object_npz(tmp_path / "bad.npz", **{"0": gadget}))
    assert not (tmp_path / MARKER).exists()
    (tmp_path / "text.npz").write_bytes(b"text")
    with pytest.raises(CheckpointError, match="not a readable"):
        load_object_npz(tmp_path / "text.npz")
    for content in (b"", b"\x93NUMPY\x01\x00\xff\xff{", b"\x93NUMPY\x01\x00\x10\x00__import__('os')"):
        with zipfile.ZipFile(tmp_path / "entry.npz", "w") as archive:
            archive.writestr("0.npy", content)
        with pytest.raises(CheckpointError, match="not an array"):
            load_object_npz(tmp_path / "entry.npz")
    monkeypatch.setattr("emotag.training.safe_pickle.MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"{index}.npy", bytes(1 << 19))
    with pytest.raises(CheckpointError, match="unpacks to more"):
        load_object_npz(tmp_path / "bomb.npz")


def test_an_array_with_a_false_header_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(4))
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("0.npy", buffer.getvalue()[:-8])
    with pytest.raises(CheckpointError, match="does not have as many values"):
        load_object_npz(tmp_path / "short.npz")


@pytest.mark.skipif(not SHARED.exists(), reason="the released fixture is not here")
def test_the_released_fixture() -> None:
    head = load_flame(SHARED / "generic_model.pkl", n_expression=50)
    assert head.vertex_count == 1122 and head.expression_count == 50 and head.shape_basis.shape[2] == 300
    frames = load_object_npz(SHARED / "scene" / "flame_params.npz")
    assert len(frames) == 24 and isinstance(frames["0"], dict) and frames["0"]["expression"].shape == (1, 100)
