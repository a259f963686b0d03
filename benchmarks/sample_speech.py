"""Synthesise the sample speech that `make demo` speaks.

    python -m benchmarks.sample_speech training/assets/sample.wav [--voice slt]

Flite's voices may be redistributed with what they say (see NOTICE). Every sentence is synthesised on
its own, so that the pauses between them are long enough to see the mouth close.
"""

import argparse
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
PAUSE_SECONDS = 0.40
PEAK = 0.7
SENTENCES = (
    "Hello, and welcome.",
    "My name is Anny, and nobody recorded this video.",
    "Every picture is drawn from the sound of this voice, while it is spoken.",
    "Bring me any speech you like.",
    "Shall we begin?",
)


def synthesise(sentence: str, voice: str, stretch: float, folder: Path) -> NDArray[np.float32]:
    """One sentence as float32 samples in -1…1, 16 kHz mono, without the silence around it."""
    path = folder / "sentence.wav"
    command = [
        "flite",
        "-voice",
        voice,
        "--setf",
        f"duration_stretch={stretch}",
        "-t",
        sentence,
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True)
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"flite's voice {voice} is not 16 kHz, mono, 16 bit: choose slt, rms or awb")
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def compose(voice: str, stretch: float) -> NDArray[np.int16]:
    """All sentences with pauses before, between and after them, normalised to a peak of -3 dBFS."""
    pause = np.zeros(int(PAUSE_SECONDS * RATE), np.float32)
    parts = [pause]
    with tempfile.TemporaryDirectory() as folder:
        for sentence in SENTENCES:
            parts += [synthesise(sentence, voice, stretch, Path(folder)), pause]
    speech = np.concatenate(parts)
    return np.rint(speech * (PEAK / np.abs(speech).max()) * 32767).astype(np.int16)


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description="Synthesise the sample speech.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--voice", default="slt", help="a 16 kHz voice of flite (default: slt)")
    parser.add_argument("--stretch", type=float, default=1.1, help="slower than the voice by this factor")
    options = parser.parse_args()
    speech = compose(options.voice, options.stretch)
    with wave.open(str(options.output), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(speech.tobytes())
    print(f"{options.output}: {len(speech) / RATE:.1f} s, voice {options.voice}")


if __name__ == "__main__":
    main()
