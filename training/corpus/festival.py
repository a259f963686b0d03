"""Recorded speakers through festival: a process for each voice that speaks many texts, as loading takes seconds.

Diphone voices follow a `Prosody`; the Russian one joins whole recorded words and syllables and keeps their timing and
pitch, so that only its loudness changes (vary it with `speech.stretch`).
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import threading
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import MissingProgramError, SpeechError
from .phonemes import Segment, classes_of_festival

_DONE = b"EMOTAG-DONE"
_IDLE = 24  # processes kept waiting, over all voices; each holds one voice's recordings


@dataclass(frozen=True)
class FestivalVoice:
    """What festival needs to know of a voice: its phone set, the bytes its text is in, the package it is in."""

    phones: str
    encoding: str
    package: str


VOICES = {
    "msu_ru_nsh_clunits": FestivalVoice("ru", "utf-8", "festvox-ru"),
    "czech_dita": FestivalVoice("cs", "iso-8859-2", "festvox-czech-dita"),
    "czech_krb": FestivalVoice("cs", "iso-8859-2", "festvox-czech-krb"),
    "czech_machac": FestivalVoice("cs", "iso-8859-2", "festvox-czech-machac"),
    "czech_ph": FestivalVoice("cs", "iso-8859-2", "festvox-czech-ph"),
    "lp_diphone": FestivalVoice("it", "iso-8859-1", "festvox-italp16k"),
    "pc_diphone": FestivalVoice("it", "iso-8859-1", "festvox-itapc16k"),
    "ked_diphone": FestivalVoice("en", "ascii", "festvox-kdlpc16k"),
    "suo_fi_lj_diphone": FestivalVoice("fi", "iso-8859-1", "festvox-suopuhe-lj"),
    "hy_fi_mv_diphone": FestivalVoice("fi", "iso-8859-1", "festvox-suopuhe-mv"),
}
"""By festival's name. Each package's licence permits any use of the speech; docs/synth.md lists them."""

# The hook runs before a diphone voice turns its pitch targets into sound: f0' = mean·pitch·(f0/mean)^range.
_PRELUDE = """
(set! czech-randomize nil)
(set! emotag_pitch 1.0)
(set! emotag_range 1.0)
(define (emotag_bend utt)
  (if (member_string 'Target (utt.relationnames utt))
    (let ((sum 0.0) (count 0) (mean 0.0) (targets nil))
      (set! targets (utt.relation.leafs utt 'Target))
      (mapcar (lambda (t) (set! sum (+ sum (log (item.feat t 'f0)))) (set! count (+ 1 count))) targets)
      (if (> count 0) (set! mean (/ sum count)))
      (mapcar (lambda (t)
        (item.set_feat t 'f0
          (* emotag_pitch (exp (+ mean (* emotag_range (- (log (item.feat t 'f0)) mean)))))))
        targets)))
  utt)
(VOICE)
(set! emotag_stretch (Parameter.get 'Duration_Stretch))
(if (not (symbol-bound? 'UniSyn_module_hooks)) (set! UniSyn_module_hooks nil))
(set! UniSyn_module_hooks
  (append (if (or (null? UniSyn_module_hooks) (consp UniSyn_module_hooks))
              UniSyn_module_hooks (list UniSyn_module_hooks))
          (list emotag_bend)))
(define (emotag_say text stretch pitch range sound times)
  (Parameter.set 'Duration_Stretch (* stretch emotag_stretch))
  (set! emotag_pitch pitch)
  (set! emotag_range range)
  (let ((utt (SynthText text)) (file (fopen times "w")))
    (mapcar
      (lambda (s) (format file "%s %f\\n" (item.name s) (item.feat s 'end)))
      (utt.relation.items utt 'Segment))
    (if (string-equal (Parameter.get 'Synth_Method) 'Cluster)
      (mapcar
        (lambda (u) (format file "unit %f %f %f\\n"
          (item.feat u 'samp_start) (item.feat u 'samp_seg_start) (item.feat u 'samp_end)))
        (utt.relation.items utt 'Unit)))
    (fclose file)
    (utt.save.wave utt sound 'riff)))
"""


class _Speaker:
    """A festival process with one voice loaded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = subprocess.Popen(
            ["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said = self.ask(_PRELUDE.replace("VOICE", f"voice_{name}").encode())
        if "unbound variable" in said:
            self.close()
            package = VOICES[name].package
            raise MissingProgramError(f"festival has no voice {name!r}; run: apt-get install festival {package}")

    def ask(self, command: bytes) -> str:
        """What festival prints until the command is done; all of it if it dies."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(command + b'\n(format t "\\n' + _DONE + b'\\n")\n(fflush nil)\n')
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise SpeechError(f"festival with voice {self._name!r} ended unexpectedly") from error
        lines: list[bytes] = []
        for line in self._process.stdout:
            if line.strip().endswith(_DONE):
                break
            lines.append(line)
        return b"".join(lines).decode(errors="replace").strip()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class _Speakers:
    """Processes that wait for a text, the most lately used last."""

    def __init__(self) -> None:
        self._idle: list[tuple[str, _Speaker]] = []
        self._lock = threading.Lock()

    def take(self, name: str) -> _Speaker:
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index][0] == name:
                    return self._idle.pop(index)[1]
        return _Speaker(name)

    def give(self, name: str, speaker: _Speaker) -> None:
        with self._lock:
            self._idle.append((name, speaker))
            spare = self._idle.pop(0)[1] if len(self._idle) > _IDLE else None
        if spare is not None:
            spare.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, speaker in idle:
            speaker.close()


_SPEAKERS = _Speakers()
atexit.register(_SPEAKERS.close)


def speak_festival(
    name: str, text: str, rate: float = 1.0, pitch: float = 1.0, pitch_range: float = 1.0
) -> tuple[npt.NDArray[np.float32], int, list[Segment]]:
    """Speak with a voice of `VOICES`: samples `[N]` in -1…1, their rate in Hz, and contiguous segments in seconds.

    rate, pitch and pitch_range multiply the voice's own.

    Raises:
        MissingProgramError: festival or the voice is not installed; names the apt packages.
        SpeechError: no such voice, a text that its alphabet cannot write, or festival failed.
        PhonemeError: a phone outside the voice's table in `phonemes`.
    """
    voice = VOICES.get(name)
    if voice is None:
        raise SpeechError(f"festival voice {name!r} is unknown; use one of: {', '.join(VOICES)}")
    if shutil.which("festival") is None:
        raise MissingProgramError(f"festival is not installed; run: apt-get install festival {voice.package}")
    try:
        written = text.replace("\\", " ").replace('"', " ").encode(voice.encoding)
    except UnicodeEncodeError as error:
        raise SpeechError(f"festival voice {name!r} cannot read {text!r}: it takes {voice.encoding}") from error
    speaker = _SPEAKERS.take(name)
    try:
        with tempfile.TemporaryDirectory() as folder:
            numbers = f"{1 / rate:.5f} {pitch:.5f} {pitch_range:.5f}"
            command = f'" {numbers} "{folder}/speech.wav" "{folder}/times")'.encode()
            said = speaker.ask(b'(emotag_say "' + written + command)
            if not Path(folder, "speech.wav").exists():
                raise SpeechError(f"festival voice {name!r} failed on {text!r}: {said[-300:]}")
            with wave.open(f"{folder}/speech.wav") as file:
                frequency = file.getframerate()
                sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
            samples = _undo_overflow(sound / np.float32(32768), frequency)
            times = Path(folder, "times").read_text("latin-1")
    except BaseException:
        speaker.close()
        raise
    _SPEAKERS.give(name, speaker)
    return samples, frequency, _segments(voice.phones, _phone_ends(times, len(samples), frequency))


def _undo_overflow(samples: npt.NDArray[np.float32], frequency: int) -> npt.NDArray[np.float32]:
    """Loud diphones overflow festival's 16 bits: peaks that come back in at the other end are put to the limit."""
    mended = samples.copy()
    steps = np.diff(samples)
    jumps = np.flatnonzero(np.abs(steps) > 1.0)
    position = 0
    while position < len(jumps) - 1:
        out, back = jumps[position], jumps[position + 1]
        if steps[out] * steps[back] < 0 and back - out <= 0.002 * frequency:
            mended[out + 1 : back + 1] = -np.sign(steps[out])
            position += 1
        position += 1
    return mended


def _phone_ends(times: str, count: int, frequency: int) -> list[tuple[str, float]]:
    """Phones and their ends in seconds, from lines "phone end" and, of joined recordings, "unit first phone last".

    Festival's own times of joined recordings are those in which they were recorded. A unit is cut, at samples, out of
    a recording from within the phone before (first) across its own phone's beginning to within that phone (last);
    the units stand one after the other, so a phone lasts from its beginning in its unit to the next one's. The sound
    of `count` samples lacks half a window (about 11 ms) before the first unit and after the last.
    """
    lines = [line.split() for line in times.splitlines()]
    phones = [(fields[0], float(fields[1])) for fields in lines if len(fields) == 2]
    units = [tuple(float(field) for field in fields[1:]) for fields in lines if len(fields) == 4]
    if not units:
        return phones
    if len(units) != len(phones):
        raise SpeechError(f"festival joined {len(units)} recordings for {len(phones)} phones")
    lengths = np.array([last - first for first, _, last in units])
    before = np.cumsum(lengths) - lengths
    begins = before + np.array([max(phone - first, 0.0) for first, phone, _ in units])
    lacking = (lengths.sum() - count) / 2
    ends = (np.append(begins[1:], before[-1] + lengths[-1]) - lacking) / frequency
    return [(name, float(end)) for (name, _), end in zip(phones, ends, strict=True)]


def _segments(language: str, phones: list[tuple[str, float]]) -> list[Segment]:
    """Segments of phones and their ends; a phone of two classes is halved, one of none is left to the next."""
    segments: list[Segment] = []
    start = 0.0
    for phone, end in phones:
        classes = classes_of_festival(language, phone)
        if not classes or end <= start:
            continue
        width = (end - start) / len(classes)
        for index, name in enumerate(classes):
            first, last = start + index * width, start + (index + 1) * width
            # Long consonants are two phones, but one closure.
            if segments and segments[-1].phoneme == name:
                first = segments.pop().start
            segments.append(Segment(name, first, last))
        start = end
    return segments
