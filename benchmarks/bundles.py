"""The bundles that benchmarks measure, written once below build/bench and used again."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from emotag.runtime.errors import ControlError

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "build" / "bench"
DEMO = ROOT / "demo.emotag"
CHECKPOINT = ROOT / "training" / "assets" / "demo.pt"


def demo() -> Path:
    """The demo's bundle. Raises ControlError if it was not made yet."""
    if not (DEMO / "manifest.json").exists():
        raise ControlError(f"{DEMO} is missing: make demo")
    return DEMO


def synthetic(preset: str) -> Path:
    """The bundle of a preset of `emotag-bench --synthetic`; the first call takes a minute. Needs emotag[export]."""
    path = MADE / f"{preset}.emotag"
    if _stale(path):
        from emotag.export.synthetic import write_synthetic

        _quiet_exporter()
        write_synthetic(preset, path)
    return path


def demo_int8() -> Path:
    """The demo's trained weights with an int8 encoder; its report.json says what that costs. Needs emotag[export]."""
    path = MADE / "demo-int8.emotag"
    if _stale(path, CHECKPOINT):
        from emotag.export.bundle import ExportOptions, write_bundle
        from emotag.export.speech import load_speech
        from emotag.training.checkpoint import load_checkpoint

        _quiet_exporter()
        speech, name = load_speech([])
        write_bundle(load_checkpoint(CHECKPOINT), path, ExportOptions(speech, name, audio="int8", refuse=False))
    return path


def median_of(times: list[float]) -> float:
    """Median as a plain number."""
    return float(np.median(times))


def _stale(bundle: Path, *sources: Path) -> bool:
    """Whether a bundle is missing, or older than its sources and the exporter."""
    manifest = bundle / "manifest.json"
    if not manifest.exists():
        return True
    newest = max(path.stat().st_mtime for path in (*sources, *(ROOT / "export").glob("*.py")))
    return manifest.stat().st_mtime < newest


def _quiet_exporter() -> None:
    for name in ("torch.onnx", "onnxscript", "root"):  # the exporter warns of its own internals
        logging.getLogger(name).setLevel(logging.ERROR)
