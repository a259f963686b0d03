"""`emotag-inspect`: what is in a bundle, and whether it is whole."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bundle import check_files, open_bundle, read_manifest
from ..errors import BundleError
from ..manifest import Manifest
from ..tensors import read_avatar, stored_shapes
from .guard import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0 for a whole bundle, 1 for one that cannot be used, 2 for usage."""
    parser = argparse.ArgumentParser(prog="emotag-inspect", description="Show what is in an avatar bundle.")
    parser.add_argument("bundle", type=Path, help="the .emotag folder")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    return guarded(lambda: _run(options.bundle, options.json))


def _run(path: Path, as_json: bool) -> int:
    content = describe(path)
    print(json.dumps(content, indent=1, ensure_ascii=False) if as_json else "\n".join(_lines(content)))
    problems = [file["problem"] for file in content["files"].values() if file["problem"]]
    if problems:
        raise BundleError(problems[0])
    return 0


def describe(path: Path) -> dict[str, Any]:
    """All that the command shows. Files that are missing or changed are said to be so; the rest is then left out.

    Raises BundleError if the manifest cannot be used or a whole file does not hold what it should.
    """
    manifest = read_manifest(path)
    problems = check_files(path, manifest)
    content = _about(manifest)
    content["files"] = {
        name: {"bytes": entry.bytes, "sha256": entry.sha256, "problem": problems[name]}
        for name, entry in manifest.files.items()
    }
    if not any(problems.values()):
        bundle = open_bundle(path)
        content["sizes"] = _sizes(bundle.path, manifest)
        content["parity"] = _parity(bundle.path, manifest)
    return content


def _about(manifest: Manifest) -> dict[str, Any]:
    audio, motion = manifest.audio, manifest.motion
    return {
        "name": manifest.name,
        "schema": manifest.schema,
        "checkpoint": dict(manifest.checkpoint),
        "picture": {"width": manifest.width, "height": manifest.height, "background": list(manifest.background)},
        "lookahead_frames": manifest.lookahead_frames,
        "latency_ms": 40 * manifest.lookahead_frames,
        "audio": None if audio is None else asdict(audio),
        "motion": asdict(motion),
        "precision": dict(manifest.precision),
        "licence": manifest.licence,
        "consent": manifest.consent,
        "appearance": None if manifest.appearance is None else asdict(manifest.appearance),
        "notes": list(manifest.notes),
    }


def _sizes(root: Path, manifest: Manifest) -> dict[str, int]:
    tensors = read_avatar(root / "avatar.safetensors", manifest)
    cues = stored_shapes(root / "cues.safetensors")
    return {
        "vertices": len(tensors.head["template"]),
        "faces": len(tensors.head["faces"]),
        "expressions": tensors.expressions,
        "gaussians": len(tensors.gaussians["means"]),
        "mouth_gaussians": 0 if tensors.mouth is None else len(tensors.mouth["index"]),
        "sh_coefficients": int(tensors.gaussians["sh"].shape[1]),
        "active_sh_degree": manifest.active_sh_degree,
        "cue_frames": cues["aus"][0],
        "recorded_windows": cues.get("windows", (0,))[0],
    }


def _parity(root: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """The checks of report.json, if the bundle has one."""
    if "report.json" not in manifest.files:
        return []
    try:
        report = json.loads((root / "report.json").read_text(encoding="utf-8"))
        checks = report.get("checks", [])
        keys = ("name", "value", "bound", "passed")
        rows = [{key: check[key] for key in keys} for check in checks]
        return [row | {"name": str(row["name"]), **{k: float(row[k]) for k in keys[1:3]}} for row in rows]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise BundleError("report.json is not a parity report: export the bundle again") from None


def _lines(content: Mapping[str, Any]) -> list[str]:
    audio, motion, picture = content["audio"], content["motion"], content["picture"]
    past, future = motion["smooth_past"], motion["smooth_future"]
    lines = [
        f"{content['name']}: schema {content['schema']}, from a checkpoint of kind "
        f"{content['checkpoint'].get('kind', '?')} ({content['checkpoint'].get('source') or 'unnamed'})",
        f"picture     {picture['width']}x{picture['height']}, 25 FPS",
        f"look-ahead  {content['latency_ms']} ms ({content['lookahead_frames']} frames)",
        _audio_line(audio),
        f"motion      window [-{motion['window_past']}, +{motion['window_future']}) tokens, "
        f"mean of {past + 1 + future} windows ({past} before, {future} after)",
        f"emotions    {', '.join(motion['emotions'])}{'' if motion['steerable'] else ' (reported, not steerable)'}",
        *_appearance_lines(content["appearance"]),
        f"precision   {', '.join(f'{name} {kind}' for name, kind in content['precision'].items())}",
        f"licence     {content['licence'] or 'not stated'}",
        f"consent     {content['consent'] or 'not stated'}",
        *(f"note        {note}" for note in content["notes"]),
    ]
    if "sizes" in content:
        lines.append("sizes       " + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in content["sizes"].items()))
    return [*lines, *_parity_lines(content.get("parity", [])), *_file_lines(content["files"])]


def _audio_line(audio: Mapping[str, Any] | None) -> str:
    if audio is None:
        return "audio       no encoder: plays its recording only"
    c, r, length = audio["chunk_tokens"], audio["lookahead_tokens"], audio["context_tokens"]
    return (
        f"audio       16 kHz, D(c={c}, r={r}, L={length}) in 20 ms tokens of {audio['hidden_size']}, "
        f"normalised by (x - {audio['mean']:g}) * {audio['scale']:g}"
    )


def _appearance_lines(appearance: Mapping[str, Any] | None) -> list[str]:
    if appearance is None:
        return []
    return [f"appearance  emotional residual of the Gaussians, {appearance['rank']} coefficients a frame (CPU only)"]


def _parity_lines(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    if not checks:
        return ["parity      not reported"]
    kept = sum(bool(check["passed"]) for check in checks)
    return [f"parity      {kept} of {len(checks)} bounds kept"] + [
        f"  {'ok  ' if check['passed'] else 'MISS'} {check['value']:.3g} (bound {check['bound']:.3g})  {check['name']}"
        for check in checks
    ]


def _file_lines(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    total = sum(file["bytes"] for file in files.values())
    return [f"files       {total / 1e6:.1f} MB"] + [
        f"  {'ok  ' if not file['problem'] else 'BAD '} {file['bytes']:>12}  {file['sha256'][:16]}…  {name}"
        for name, file in files.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
