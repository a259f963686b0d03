"""The `emotag-export` command: a checkpoint to an avatar bundle."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..runtime.commands.guard import guarded
from ..runtime.errors import CheckpointError, ExportError
from ..training.checkpoint import Checkpoint, load_checkpoint
from ..training.released import AUTO, RELEASED_ENCODER, load_released
from ..training.wav2vec2 import StreamingConfig
from .bundle import ExportOptions, write_bundle
from .engines import ENGINES, EngineOptions, audit_text
from .graphs import PRECISIONS
from .speech import load_calibration, load_speech

STREAMING = "2,8,100"  # c, r, L: 160 ms of look-ahead before the window's own


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0, 1 after a line that says what is wrong, 2 for usage, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("root").setLevel(logging.ERROR)
    return guarded(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotag-export",
        description="Turn a checkpoint into an avatar bundle: ONNX graphs, tensors, cues, manifest and parity report.",
    )
    parser.add_argument("checkpoint", type=Path, help="our .pt, or a released chkpnt_face_latest.pth")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the bundle folder, such as anna.emotag")
    parser.add_argument("--name", help="the avatar's name (default: that of the folder)")
    parser.add_argument("--audio-precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--motion-precision", choices=PRECISIONS, default="fp32")
    parser.add_argument(
        "--speech", type=Path, action="append", default=[], metavar="FILE",
        help="speech that parity is measured on and, for a released checkpoint, that calibrates the streaming encoder; "
        "may be repeated (default: the shipped sample)",
    )  # fmt: skip
    parser.add_argument(
        "--no-appearance", dest="appearance", action="store_false",
        help="leave out the emotional residual of the Gaussians, which only the CPU draws",
    )  # fmt: skip
    engines = parser.add_argument_group("engines for NVIDIA GPUs (docs/gpu.md)")
    engines.add_argument(
        "--engine", choices=ENGINES, default="none",
        help="tensorrt: graphs for full TensorRT, built where the bundle is first loaded; tensorrt-rtx: engines built "
        "now, no GPU needed; none: ONNX Runtime only (default)",
    )  # fmt: skip
    engines.add_argument("--engine-precision", choices=("fp32", "fp16", "int8"), default="fp16")
    engines.add_argument(
        "--calibration", type=Path, action="append", default=[], metavar="FILE|FOLDER",
        help="speech that sets the scales of int8, a sound file or a folder of them; may be repeated (default: the "
        "shipped sample)",
    )  # fmt: skip
    engines.add_argument(
        "--compute-capability", action="append", default=[], metavar="sm_NN",
        help="GPUs that tensorrt-rtx builds for; may be repeated (default: all that it knows)",
    )  # fmt: skip
    released = parser.add_argument_group("released checkpoints")
    released.add_argument(
        "--scene", type=Path, help="the processed scene folder (transforms.json, flame_params.npz, …)"
    )
    released.add_argument("--flame", type=Path, help="FLAME's generic_model.pkl; it is read without executing it")
    released.add_argument("--faces", type=Path, help="OBJ with the mesh's faces, if they are not the pickle's")
    released.add_argument(
        "--encoder", metavar="NAME",
        help="Wav2Vec2 name or folder for new speech; 'none' for a bundle that only plays its recording "
        f"(default: {RELEASED_ENCODER} where it can be had, else none)",
    )  # fmt: skip
    released.add_argument(
        "--streaming", metavar="C,R,L",
        help="chunk, look-ahead and context of the streaming encoder in 20 ms tokens (default: 2,8,100)",
    )  # fmt: skip
    return parser


def _run(options: argparse.Namespace) -> int:
    speech, speech_name = load_speech(options.speech)
    with tqdm(total=7, bar_format="{desc:<34}{bar}| {elapsed}", file=sys.stderr) as bar:

        def progress(stage: str) -> None:
            bar.set_description_str(stage)
            bar.update()

        progress("reading the checkpoint")
        checkpoint = read_checkpoint(options, speech)
        bar.total = 7 + (checkpoint.encoder is not None) * 2
        bar.total += checkpoint.appearance is not None and options.appearance
        engines = engine_options(options)
        bar.total += (2 + (2 if checkpoint.encoder is not None else 1)) * (options.engine != "none")
        precisions = options.audio_precision, options.motion_precision
        export = ExportOptions(speech, speech_name, *precisions, options.name, engines, options.appearance)
        report = write_bundle(checkpoint, options.output, export, progress)
        bar.update(bar.total - bar.n)
    print(f"{options.output}: {summary(report)}")
    for name, layers in report.get("engines", {}).get("layers", {}).items():
        print(audit_text(name, layers))
    if checkpoint.encoder is None and options.audio_precision != "fp32":
        print(f"note: --audio-precision {options.audio_precision} had nothing to act on: there is no audio encoder")
    if checkpoint.appearance is not None:
        print(f"note: {_about_appearance(options)}")
    for note in checkpoint.info.notes:
        print(f"note: {note}")
    return 0


def _about_appearance(options: argparse.Namespace) -> str:
    if not options.appearance:
        return "the emotional residual of the Gaussians was left out"
    text = "the emotional residual of the Gaussians is drawn by the CPU only"
    return text if options.engine == "none" else f"{text}: the engines are used with appearance=False"


def engine_options(options: argparse.Namespace) -> EngineOptions:
    """What was asked for; calibration speech is read only for engines.

    Raises:
        AudioError: the calibration speech cannot be used.
        ExportError: there is calibration speech and no engine.
    """
    if options.engine == "none":
        if options.calibration:
            raise ExportError("--calibration is for engines: give --engine tensorrt or tensorrt-rtx too")
        return EngineOptions()
    heard = load_calibration(options.calibration)
    return EngineOptions(options.engine, options.engine_precision, tuple(options.compute_capability), *heard)


def read_checkpoint(options: argparse.Namespace, speech: NDArray[np.float32]) -> Checkpoint:
    """Our checkpoint, or a released one if a scene is given.

    Raises:
        CheckpointError: it cannot be used, or options of a released checkpoint are missing.
    """
    if options.scene is None and options.flame is None:
        for name in ("encoder", "streaming", "faces"):
            if getattr(options, name) is not None:
                raise CheckpointError(f"--{name} belongs to a released checkpoint: give --scene and --flame too")
        return load_checkpoint(options.checkpoint)
    if options.scene is None or options.flame is None:
        raise CheckpointError("a released checkpoint needs both --scene and --flame")
    return load_released(
        options.checkpoint,
        options.scene,
        options.flame,
        encoder=None if options.encoder == "none" else options.encoder or AUTO,
        streaming=parse_streaming(options.streaming or STREAMING),
        calibration=[speech],
        faces=options.faces,
    )


def parse_streaming(text: str) -> StreamingConfig:
    """`c,r,L` to a streaming definition.

    Raises:
        CheckpointError: it is not three whole numbers that make one.
    """
    try:
        chunk, lookahead, context = (int(part) for part in text.split(","))
    except ValueError:
        raise CheckpointError(f"--streaming {text}: give three whole numbers C,R,L such as 2,8,100") from None
    return StreamingConfig(chunk, lookahead, context)


def summary(report: dict[str, Any]) -> str:
    """The parity report in one line."""
    checks = report["checks"]
    worst = max((c["value"] / c["bound"] for c in checks if not c["at_least"]), default=0.0)
    size = sum(report["bytes"].values()) / 1e6
    kept = sum(bool(c["passed"]) for c in checks)
    return f"{kept} of {len(checks)} parity bounds kept (largest at {100 * worst:.0f}% of its bound), {size:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
