"""What happens to speech between a mouth and a converter: rooms, filters, noise and gain, never a shift in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .speech import SAMPLE_RATE, Samples

_FRAME, _HOP = 512, 128  # samples of the short-time spectra
_ENVELOPE = 28  # cepstral coefficients of a spectrum's envelope: the vocal tract without the voice's harmonics
_TRACT = 0.25  # octaves by which another vocal tract may be longer or shorter

_Spectrum = npt.NDArray[np.float64]


def augment(samples: Samples, rng: np.random.Generator, strength: float = 1.0) -> Samples:
    """`samples` `[N]` through a random room, equaliser, noise, gain and limiter; same length, within -1…1.

    The room's direct sound comes first, so that labels keep their time. Speech stays above the noise; where nobody
    speaks at all, the noise may be as loud as speech.
    """
    x = samples.astype(np.float64)
    if np.abs(x).max(initial=0.0) < 1e-4:
        return np.clip(noise(len(x), rng) * 10 ** (rng.uniform(-90, -15) / 20), -1, 1).astype(np.float32)
    if rng.random() < 0.5 * strength:
        x = _room(x, rng)
    if rng.random() < 0.8 * strength:
        x = _equalise(x, rng)
    level = _speech_level(x)
    x = x * (10 ** (rng.uniform(-34, -14) / 20) / level)
    if rng.random() < 0.85 * strength:
        x = x + noise(len(x), rng) * 10 ** (rng.uniform(-75, -38) / 20)
    if rng.random() < 0.15 * strength:
        x = np.tanh(x * rng.uniform(2, 5)) / 3
    return np.clip(x, -1, 1).astype(np.float32)


def warp_voice(samples: Samples, rng: np.random.Generator) -> Samples:
    """`samples` `[N]` as if another vocal tract had shaped them; same length, times and pitch.

    The envelope of every short-time spectrum is stretched along the frequency axis by one random factor, its harmonics
    stay. A few recorded voices then sound like many.
    """
    octaves = rng.uniform(-_TRACT, _TRACT)
    window = np.hanning(_FRAME + 1)[:-1]
    padded = np.pad(samples.astype(np.float64), _FRAME)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP] * window, axis=1)
    envelope = _envelope(spectra)
    source = np.clip(np.arange(_FRAME // 2 + 1) / 2**octaves, 0, _FRAME // 2)
    low = source.astype(np.int64).clip(0, _FRAME // 2 - 1)
    share = source - low
    moved = envelope[:, low] * (1 - share) + envelope[:, low + 1] * share
    frames = np.fft.irfft(spectra * np.exp(np.clip(moved - envelope, -5, 3)), axis=1) * window
    out = np.zeros(len(padded))
    for first in range(_FRAME // _HOP):  # frames that do not overlap are laid down together
        flat = frames[first :: _FRAME // _HOP].reshape(-1)
        out[first * _HOP : first * _HOP + len(flat)] += flat
    overlap = (window**2).sum() / _HOP
    warped: Samples = (out[_FRAME : _FRAME + len(samples)] / overlap).astype(np.float32)
    return warped


def _envelope(spectra: npt.NDArray[np.complexfloating[Any]]) -> _Spectrum:
    """Smooth log-magnitudes of spectra [T, K], by cutting the cepstrum off."""
    cepstra = np.fft.irfft(np.log(np.abs(spectra) + 1e-4), axis=1)
    cepstra[:, _ENVELOPE : _FRAME - _ENVELOPE + 1] = 0
    return np.asarray(np.fft.rfft(cepstra, axis=1).real)


def noise(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise `[N]` of unit power: 1/f^a with a random a, hum at times, its level drifting slowly."""
    size = 1 << max(count - 1, 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 20.0)
    spectrum *= frequency ** -rng.uniform(0, 1.0) * np.exp(_random_curve(frequency, rng, 0.4))
    x = np.fft.irfft(spectrum, size)[:count]
    x /= np.sqrt((x**2).mean()) + 1e-12
    if rng.random() < 0.25:
        base = rng.choice([50.0, 60.0, rng.uniform(80, 300)])
        time = np.arange(count) / SAMPLE_RATE
        x += sum(rng.uniform(0, 0.6) * np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6.3)) for k in range(1, 7))
    drift = np.interp(np.arange(count), np.linspace(0, count, 8), rng.uniform(-3, 3, 8))
    return np.asarray(x * 10 ** (drift / 20))


def _room(x: _Spectrum, rng: np.random.Generator) -> _Spectrum:
    """Early reflections and an exponential tail, 8 to 22 dB below the direct sound."""
    decay = rng.uniform(0.08, 0.45)
    length = int(decay * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal(length) * np.exp(-6.9 * time / decay)
    tail[: int(rng.uniform(0.001, 0.008) * SAMPLE_RATE)] = 0
    tail *= 10 ** (rng.uniform(-22, -5) / 20) / (np.sqrt((tail**2).sum()) + 1e-12)
    tail[0] = 1.0
    size = 1 << (len(x) + length - 1).bit_length()
    return np.asarray(np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size), size)[: len(x)])


def _equalise(x: _Spectrum, rng: np.random.Generator) -> _Spectrum:
    """A smooth random response of a few dB, at times the band of a small or an old microphone."""
    size = 1 << max(len(x) - 1, 1).bit_length()
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gain = np.exp(_random_curve(frequency, rng, 0.55))
    if rng.random() < 0.35:
        low, high = rng.uniform(60, 350), rng.uniform(3200, 7800)
        gain *= 1 / np.sqrt(1 + (low / np.maximum(frequency, 1.0)) ** 4)
        gain *= 1 / np.sqrt(1 + (frequency / high) ** 8)
    return np.asarray(np.fft.irfft(np.fft.rfft(x, size) * gain, size)[: len(x)])


def _random_curve(frequency: npt.NDArray[np.floating[Any]], rng: np.random.Generator, spread: float) -> _Spectrum:
    """Log-gain, smooth over octaves."""
    octaves = np.log2(np.maximum(frequency, 40.0) / 40.0)
    return np.asarray(np.interp(octaves, np.linspace(0, 7.7, 7), rng.normal(0, spread, 7)))


def _speech_level(x: _Spectrum) -> float:
    """RMS of the louder frames of 20 ms, at least -80 dB."""
    frames = x[: len(x) // 320 * 320].reshape(-1, 320)
    power = (frames**2).mean(axis=1) if len(frames) else np.zeros(1)
    loud = power[power >= 0.1 * power.max()]
    return max(float(np.sqrt(loud.mean())), 1e-4)
