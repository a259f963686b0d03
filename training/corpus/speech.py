"""Synthesised speech with exact phoneme times, from espeak-ng, flite and festival."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from .errors import MissingProgramError, SpeechError
from .festival import speak_festival
from .phonemes import SILENCE, STOPS, Segment, class_of_flite, classes_of_ipa

SAMPLE_RATE = 16000

Samples = npt.NDArray[np.float32]

_WORKER = Path(__file__).with_name("espeak_worker.py")
# Natural mean pitch of flite's voices, Hz; others are left as they are.
_FLITE_PITCH = {"slt": 170.0, "rms": 95.0, "awb": 120.0, "kal": 105.0, "kal16": 105.0}
# espeak_PARAMETER numbers of speak_lib.h.
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


@dataclass(frozen=True)
class Voice:
    """A voice: synthesizer `espeak` (name = voice file and variant), `flite` or `festival`, and its text's language.

    The synthesizer `recorded` cannot speak texts: its name is a speaker of `recorded`.
    """

    synthesizer: str
    name: str
    language: str = "en"


@dataclass(frozen=True)
class Prosody:
    """Multipliers of a voice's own speaking rate, pitch, pitch range and loudness; all 1 is neutral."""

    rate: float = 1.0
    pitch: float = 1.0
    pitch_range: float = 1.0
    volume: float = 1.0


@dataclass(frozen=True)
class Utterance:
    """Speech and its phonemes.

    samples: `[N]` float32, 16 kHz mono, within -1…1.
    segments: contiguous, from 0 to N / 16000 seconds.
    """

    samples: Samples
    segments: list[Segment]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / SAMPLE_RATE


def synthesize(voice: Voice, text: str, prosody: Prosody | None = None, seed: int = 0) -> Utterance:
    """Speak `text`; the same arguments give the same samples.

    Raises:
        MissingProgramError: the synthesizer is not installed; names its apt package.
        SpeechError: it failed, or has no such voice.
        PhonemeError: it used a symbol outside `phonemes`.
    """
    prosody = prosody or Prosody()
    if voice.synthesizer == "espeak":
        return _espeak(voice, text, prosody, seed)
    if voice.synthesizer == "flite":
        return _flite(voice, text, prosody)
    if voice.synthesizer == "festival":
        return _festival(voice, text, prosody)
    if voice.synthesizer == "recorded":
        raise SpeechError(f"{voice.name!r} says only what was recorded; draw_phrase and recorded_speech give it")
    raise SpeechError(f"unknown synthesizer {voice.synthesizer!r}; use 'espeak', 'flite' or 'festival'")


def concatenate(parts: list[Utterance]) -> Utterance:
    """One utterance after another; neighbouring silences merge."""
    segments: list[Segment] = []
    offset = 0
    for part in parts:
        start = offset / SAMPLE_RATE
        segments += [Segment(s.phoneme, s.start + start, s.end + start) for s in part.segments]
        offset += len(part.samples)
    samples = np.concatenate([part.samples for part in parts]) if parts else np.zeros(0, np.float32)
    return Utterance(samples, _merge_silence(segments))


def silence(seconds: float) -> Utterance:
    """Digital silence, a whole number of samples long."""
    count = round(seconds * SAMPLE_RATE)
    return Utterance(np.zeros(count, np.float32), [Segment(SILENCE, 0.0, count / SAMPLE_RATE)] if count else [])


def stretch(utterance: Utterance, factor: float) -> Utterance:
    """Play at `factor` times the speed: shorter, and pitch and formants higher, by that factor."""
    samples = soxr.resample(utterance.samples, factor * SAMPLE_RATE, SAMPLE_RATE).astype(np.float32)
    return Utterance(
        samples,
        _fit([replace(s, start=s.start / factor, end=s.end / factor) for s in utterance.segments], len(samples)),
    )


def _espeak(voice: Voice, text: str, prosody: Prosody, seed: int) -> Utterance:
    request = {
        "voice": voice.name,
        "text": text,
        "seed": seed,
        "parameters": {
            _RATE: int(np.clip(175 * prosody.rate, 80, 450)),
            _VOLUME: int(np.clip(100 * prosody.volume, 10, 200)),
            _PITCH: int(np.clip(50 + 70 * np.log2(prosody.pitch), 0, 99)),
            _RANGE: int(np.clip(50 * prosody.pitch_range, 0, 99)),
        },
    }
    # -I -S: no site packages, so that a process costs milliseconds.
    command = [sys.executable, "-I", "-S", str(_WORKER)]
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False)
    if done.returncode == 3:
        raise MissingProgramError("libespeak-ng is not installed; run: apt-get install espeak-ng libespeak-ng1")
    if done.returncode == 4:
        raise SpeechError(f"espeak-ng has no voice {voice.name!r}; `espeak-ng --voices` lists them by file")
    if done.returncode != 0:
        raise SpeechError(f"espeak-ng failed on {text!r}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    header, _, body = done.stdout.partition(b"\n")
    reply = json.loads(header)
    native = np.frombuffer(body, "<i2").astype(np.float32) / 32768
    starts = [(symbols, sample / reply["rate"]) for symbols, sample in reply["events"] if "(" not in symbols]
    segments = _segments_of_events(starts, len(native) / reply["rate"])
    samples = np.clip(soxr.resample(native, reply["rate"], SAMPLE_RATE), -1, 1).astype(np.float32)
    return Utterance(samples, _fit(_start_stops_at_closure(segments, samples), len(samples)))


def _segments_of_events(starts: list[tuple[str, float]], end: float) -> list[Segment]:
    """Contiguous segments; an event of several classes is divided evenly among them."""
    segments: list[Segment] = []
    for index, (symbols, start) in enumerate(starts):
        stop = min(starts[index + 1][1] if index + 1 < len(starts) else end, end)
        classes = classes_of_ipa(symbols) or (SILENCE,)
        width = (stop - start) / len(classes)
        segments += [
            Segment(name, start + i * width, start + (i + 1) * width) for i, name in enumerate(classes) if width > 0
        ]
    return _merge_silence(segments)


def _start_stops_at_closure(segments: list[Segment], samples: Samples) -> list[Segment]:
    """Move the start of a voiceless stop back over the hush before its burst.

    espeak-ng reports a stop at its burst and counts the closure to the phoneme before; the lips are shut, and
    flite counts, from the closure on.
    """
    hop = SAMPLE_RATE // 200
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    level = np.sqrt((frames**2).mean(axis=1)) if len(frames) else np.zeros(1, np.float32)
    hush = 0.02 * float(level.max())
    moved = list(segments)
    for index in range(1, len(moved)):
        before, here = moved[index - 1], moved[index]
        if here.phoneme not in STOPS or before.phoneme == SILENCE:
            continue
        earliest = max(before.start + 0.4 * (before.end - before.start), here.start - 0.09)
        frame = min(round(here.start * 200), len(level))
        while frame > 0 and level[frame - 1] < hush and (frame - 1) / 200 >= earliest:
            frame -= 1
        start = min(here.start, max(frame / 200, earliest))
        moved[index - 1] = replace(before, end=start)
        moved[index] = replace(here, start=start)
    return moved


def _flite(voice: Voice, text: str, prosody: Prosody) -> Utterance:
    if shutil.which("flite") is None:
        raise MissingProgramError("flite is not installed; run: apt-get install flite")
    settings = ["--setf", f"duration_stretch={1 / prosody.rate:.4f}"]
    if voice.name in _FLITE_PITCH:
        settings += ["--setf", f"int_f0_target_mean={_FLITE_PITCH[voice.name] * prosody.pitch:.2f}"]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/speech.wav"
        command = ["flite", "-voice", voice.name, *settings, "-psdur", "-t", text, "-o", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not Path(path).exists():
            raise SpeechError(f"flite failed with voice {voice.name!r} on {text!r}: {done.stderr.strip()[-300:]}")
        with wave.open(path) as file:
            rate = file.getframerate()
            native = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    samples = soxr.resample(native, rate, SAMPLE_RATE).astype(np.float32) if rate != SAMPLE_RATE else native
    segments: list[Segment] = []
    for name, end in re.findall(r"(\S+):([0-9.]+)", done.stdout):
        start = segments[-1].end if segments else 0.0
        segments.append(Segment(class_of_flite(name), start, float(end)))
    if not segments:
        raise SpeechError(f"flite reported no segments for {text!r}; is it flite 2.2 or newer?")
    volume = np.float32(prosody.volume)
    return Utterance(np.clip(samples * volume, -1, 1), _fit(segments, len(samples)))


def _festival(voice: Voice, text: str, prosody: Prosody) -> Utterance:
    native, rate, segments = speak_festival(voice.name, text, prosody.rate, prosody.pitch, prosody.pitch_range)
    samples = soxr.resample(native, rate, SAMPLE_RATE).astype(np.float32) if rate != SAMPLE_RATE else native
    if not segments:
        raise SpeechError(f"festival voice {voice.name!r} reported no segments for {text!r}")
    volume = np.float32(prosody.volume)
    return Utterance(np.clip(samples * volume, -1, 1), _fit(segments, len(samples)))


def _fit(segments: list[Segment], count: int) -> list[Segment]:
    """Segments that cover exactly `count` samples: clipped at the end, the last one lengthened if short."""
    end = count / SAMPLE_RATE
    kept = [replace(s, end=min(s.end, end)) for s in segments if s.start < end]
    kept = [s for s in kept if s.end > s.start]
    if not kept:
        return [Segment(SILENCE, 0.0, end)] if count else []
    if kept[0].start > 0:
        kept.insert(0, Segment(SILENCE, 0.0, kept[0].start))
    if kept[-1].end < end:
        kept[-1] = replace(kept[-1], end=end) if kept[-1].phoneme == SILENCE else kept[-1]
        if kept[-1].end < end:
            kept.append(Segment(SILENCE, kept[-1].end, end))
    return _merge_silence(kept)


def _merge_silence(segments: list[Segment]) -> list[Segment]:
    merged: list[Segment] = []
    for segment in segments:
        if merged and segment.phoneme == SILENCE and merged[-1].phoneme == SILENCE:
            merged[-1] = replace(merged[-1], end=segment.end)
        else:
            merged.append(segment)
    return merged
