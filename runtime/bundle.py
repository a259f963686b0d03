"""Opens a bundle folder: the manifest is read, every file is measured and hashed, before anything is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .errors import BundleError
from .manifest import APPEARANCE_FILES, FileEntry, Manifest, parse_manifest
from .onnx_scan import check_self_contained

_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and are those that the manifest names."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Absolute path of a file that the manifest lists."""
        return self.path / name


def open_bundle(path: str | Path) -> Bundle:
    """Reads and verifies the bundle folder at `path`.

    Raises BundleError, naming the file and the cure, if the folder or a file is missing, a file was truncated or
    changed, the schema is newer, a listed path leaves the folder, or a graph keeps weights outside itself.
    """
    root = Path(path)
    manifest = read_manifest(root)
    problems = [problem for problem in check_files(root, manifest).values() if problem]
    if problems:
        raise BundleError(problems[0])
    for name in required_files(manifest):
        if name.endswith(".onnx"):
            check_self_contained(root / name)
    return Bundle(root.resolve(), manifest)


def read_manifest(root: Path) -> Manifest:
    """The checked manifest of the bundle at `root`, whose other files are not looked at. Raises BundleError."""
    if not root.is_dir():
        raise BundleError(f"{root} is not a bundle folder: pass the .emotag folder that emotag-export wrote")
    path = root / "manifest.json"
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            raise BundleError(f"{path} is larger than {_MANIFEST_BYTES >> 20} MiB: export the bundle again")
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise BundleError(f"{root} has no manifest.json: pass the .emotag folder that emotag-export wrote") from None
    except UnicodeDecodeError:
        raise BundleError(f"{path} is not UTF-8 text: export the bundle again") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    manifest = parse_manifest(text)
    for name in required_files(manifest):
        if name not in manifest.files:
            raise BundleError(f"manifest.json does not list {name}: export the bundle again")
    for name in APPEARANCE_FILES:
        if name in manifest.files and manifest.appearance is None:
            raise BundleError(f"manifest.json lists {name} without a section appearance: export the bundle again")
    return manifest


def required_files(manifest: Manifest) -> tuple[str, ...]:
    """Files without which the bundle cannot be used."""
    audio = () if manifest.audio is None else (manifest.audio.file,)
    appearance = () if manifest.appearance is None else APPEARANCE_FILES
    return (*audio, "motion.onnx", "avatar.safetensors", "cues.safetensors", *appearance)


def check_files(root: Path, manifest: Manifest) -> Mapping[str, str | None]:
    """Every listed file with what is wrong with it, or None. Files are hashed side by side (hashlib frees the GIL)."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        problems = pool.map(lambda item: _problem(root, *item), manifest.files.items())
        return dict(zip(manifest.files, problems, strict=True))


def _problem(root: Path, name: str, entry: FileEntry) -> str | None:
    path = root / name
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            return f"{name} is a link that leaves {root}: do not use this bundle, get it again from its maker"
        if not path.is_file():
            return f"{name} of {root} is not a file: copy or export the bundle again"
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{name} of {root} has {size} bytes instead of {entry.bytes}: copy or export the bundle again"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{name} of {root} is missing: copy or export the bundle again"
    except (OSError, RuntimeError, ValueError) as error:
        return f"{name} of {root} cannot be read ({error}): check its permissions or copy the bundle again"
    if digest != entry.sha256:
        return f"{name} of {root} was changed after export (its SHA-256 differs): copy or export the bundle again"
    return None
