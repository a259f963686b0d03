"""Engines built on this machine, kept between runs. A file that does not fit its key is never used.

A key is everything that an engine depends on (docs/gpu.md). The file's name is the key's hash and its header repeats
the key, so a renamed, truncated, changed or outdated file is found out when it is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import BackendError

MAGIC = b"EMOTAGEN"
FORMAT = 1
_MOST_HEADER = 1 << 20


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built from and for. Equal keys mean interchangeable engines.

    onnx: SHA-256 of the ONNX file. library, version: "tensorrt" "11.4.0.106". device: name and compute capability, or
    the capabilities that were built for. shapes: of every input. flags: builder settings, each as text.
    """

    onnx: str
    library: str
    version: str
    device: str
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON gives it back."""
        fields = asdict(self)
        shapes = {name: list(shape) for name, shape in sorted(self.shapes.items())}
        return {**fields, "shapes": shapes, "flags": sorted(self.flags)}

    @property
    def name(self) -> str:
        """File name of the engine."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32] + ".engine"


class StaleEngine(BackendError):
    """A cached or bundled engine that may not be used."""


def cache_folder() -> Path:
    """Where engines are kept: $EMOTAG_CACHE, else $XDG_CACHE_HOME/emotag, else ~/.cache/emotag; below it, engines/."""
    own = os.environ.get("EMOTAG_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own or f"{shared}/emotag").expanduser() / "engines"


def pack_engine(key: EngineKey, engine: bytes) -> bytes:
    """The file's content: magic, header length, header (JSON: key, size, SHA-256), engine."""
    header = {
        "format": FORMAT,
        "key": key.to_dict(),
        "bytes": len(engine),
        "sha256": hashlib.sha256(engine).hexdigest(),
    }
    text = json.dumps(header, sort_keys=True).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text + engine


def unpack_engine(content: bytes, key: EngineKey, name: str) -> bytes:
    """The engine of a file's content. Raises StaleEngine, saying what differs, unless it is the one of `key`, whole."""
    header, engine = _split(content, name)
    for field, wanted in key.to_dict().items():
        found = header["key"].get(field)
        if found != wanted:
            raise StaleEngine(f"{name} was built for {field} {found!r}, not {wanted!r}")
    if len(engine) != header["bytes"]:
        raise StaleEngine(f"{name} is truncated: {len(engine)} bytes instead of {header['bytes']}")
    if hashlib.sha256(engine).hexdigest() != header["sha256"]:
        raise StaleEngine(f"{name} was changed after it was built: its SHA-256 differs")
    return engine


def _split(content: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    start = len(MAGIC) + 8
    length = int.from_bytes(content[len(MAGIC) : start], "little")
    if content[: len(MAGIC)] != MAGIC or length > min(_MOST_HEADER, len(content) - start):
        raise StaleEngine(f"{name} is not an engine of this cache, or is truncated")
    try:
        header = json.loads(content[start : start + length])
        well_formed = header["format"] == FORMAT and isinstance(header["key"], dict) and "sha256" in header
    except (ValueError, KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise StaleEngine(f"{name} has a header that this version does not read")
    return header, content[start + length :]


@dataclass(frozen=True)
class Found:
    """An engine, and how it was come by: "cached", "built", or "rebuilt" with the reason."""

    engine: bytes
    how: str
    path: Path


class EngineCache:
    """A folder of engines. Processes share it: one builds, the others wait for it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder

    def get(self, key: EngineKey) -> bytes | None:
        """The engine of a key, None if there is none. Raises StaleEngine if the file is not what it should be."""
        path = self.folder / key.name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StaleEngine(f"{path} cannot be read ({error.strerror})") from None
        return unpack_engine(content, key, str(path))

    def get_or_build(self, key: EngineKey, build: Callable[[], bytes]) -> Found:
        """The engine of a key, built and stored if there is none or it cannot be used.

        Raises BackendError if the folder cannot be written; what `build` raises goes through, and nothing is stored.
        """
        path = self.folder / key.name
        stale = ""
        try:
            with self._locked(key):
                try:
                    engine = self.get(key)
                except StaleEngine as error:
                    engine, stale = None, str(error)
                if engine is not None:
                    return Found(engine, "cached", path)
                engine = build()
                self._store(path, pack_engine(key, engine))
        except OSError as error:
            raise BackendError(
                f"the engine cache {self.folder} cannot be written ({error.strerror}): set EMOTAG_CACHE to a folder "
                "with room that you may write to"
            ) from None
        return Found(engine, f"rebuilt: {stale}" if stale else "built", path)

    def _store(self, path: Path, content: bytes) -> None:
        """Whole or not at all: a temporary file in the same folder, flushed, then renamed."""
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".building-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{key.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
