"""Lines that actors speak in three free adventure games, out of the files that the games come in.

`bass` is Beneath a Steel Sky, `drascula` is Drascula: The Vampire Strikes Back, `fotaq` is Flight of the Amazon Queen;
docs/synth.md has their licences. All were recorded at 11025 Hz, so nothing is heard above 5.5 kHz. The layouts are
those that ScummVM's engines sky, drascula and queen read.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import scipy.signal

from .errors import MissingProgramError, SpeechError
from .rnc import PackedError, unpack
from .speech import SAMPLE_RATE

PACKAGES = {"bass": "beneath-a-steel-sky", "drascula": "drascula", "fotaq": "flight-of-the-amazon-queen"}
"""Debian's package by game; its files lie in a folder of the same name."""

FOLDER_VARIABLE = "EMOTAG_TALKIES"
"""The environment variable that names the folder in which the packages' folders are, if not `/usr/share/scummvm`."""

_RATE = 11025  # Hz
_LONGEST = 300.0  # no line lasts so long, s
_LARGEST = 1 << 24  # nor has so many bytes in its file: MP3s have at most 40 KB a second


@dataclass(frozen=True)
class _Span:
    """Where a line's bytes lie."""

    path: Path
    offset: int
    size: int


def files(game: str) -> list[Path]:
    """The files that hold a game's lines, sorted.

    Raises:
        MissingProgramError: the game is not installed.
        SpeechError: no such game.
    """
    if game not in PACKAGES:
        raise SpeechError(f"the game {game!r} is unknown; use one of: {', '.join(PACKAGES)}")
    package = PACKAGES[game]
    folder = Path(os.environ.get(FOLDER_VARIABLE, "/usr/share/scummvm")) / package
    if game == "drascula":
        found = sorted((folder / "en").glob("*.ALS"))
    else:
        names = ("sky.dnr", "sky.dsk") if game == "bass" else ("queen.1c",)
        found = [folder / name for name in names]
    if not found or not all(path.is_file() for path in found):
        raise MissingProgramError(
            f"the game {package} is not in {folder}; run: apt-get install {package}; or, without ScummVM: apt-get "
            f"download {package} && dpkg-deb -x {package}_*.deb games && export {FOLDER_VARIABLE}="
            "$PWD/games/usr/share/scummvm"
        )
    return found


def lines(game: str) -> list[str]:
    """The names of a game's spoken lines, sorted. (A few are noises.)

    Raises:
        MissingProgramError: the game is not installed.
        SpeechError: no such game, or its files are damaged.
    """
    return sorted(_spans(game, tuple(files(game))))


def line(game: str, name: str) -> npt.NDArray[np.int16]:
    """A line as `[N]` samples of 16 kHz.

    Raises:
        MissingProgramError: the game is not installed.
        SpeechError: no such game or line, or its files are damaged.
    """
    span = _spans(game, tuple(files(game))).get(name)
    if span is None:
        raise SpeechError(f"{PACKAGES[game]} has no line {name!r}; `lines` names them all")
    if span.size > _LARGEST:
        raise _damaged(game, span.path, f"holds a line {name} of {span.size} bytes")
    content = _part(game, span.path, span.offset, span.size)
    if game == "bass":
        try:
            content = unpack(content, int(_LONGEST * _RATE))
        except PackedError as error:
            raise _damaged(game, span.path, f"has a line {name} that cannot be unpacked ({error})") from error
    samples = _mp3(game, content, name) if game == "fotaq" else _raw(content)
    # As in a WAV file, of which the phones' times were first made.
    quantised: npt.NDArray[np.int16] = np.clip(samples * np.float32(32767), -32768, 32767).astype(np.int16)
    return quantised


@functools.lru_cache(maxsize=8)
def _spans(game: str, containers: tuple[Path, ...]) -> dict[str, _Span]:
    """The lines by name; what an index points to is inside the file."""
    index = {"bass": _disk, "drascula": _loose, "fotaq": _queen}[game]
    sizes = {path: path.stat().st_size for path in containers}
    spans = {}
    for name, span in index(containers):
        if not 0 < span.size <= sizes[span.path] - span.offset:
            raise _damaged(game, span.path, f"has no {span.size} bytes at {span.offset}, where {name} should be")
        spans[name] = span
    if not spans:
        raise _damaged(game, containers[0], "names no lines")
    return spans


def _loose(containers: tuple[Path, ...]) -> Iterator[tuple[str, _Span]]:
    """Drascula: a file of 8-bit samples for each line; one without any is skipped."""
    for path in containers:
        if size := path.stat().st_size:
            yield path.stem, _Span(path, 0, size)


def _disk(containers: tuple[Path, ...]) -> Iterator[tuple[str, _Span]]:
    """BASS: the table sky.dnr (a count, then eight bytes for each file) points into sky.dsk.

    Files with numbers from 50000 to 58999 are lines: a header of 22 bytes and 8-bit samples, packed (`rnc`).
    """
    header, first, end = 22, 50000, 59000
    table_path, disk = containers
    table = _part("bass", table_path, 0, table_path.stat().st_size)
    count = struct.unpack_from("<I", table)[0] if len(table) >= 4 else 0
    if len(table) < 4 + 8 * count:
        raise _damaged("bass", table_path, f"has no {count} entries, as it says")
    for entry in range(4, 4 + 8 * count, 8):
        number = struct.unpack_from("<H", table, entry)[0]
        offset, size = (int.from_bytes(table[entry + at : entry + at + 3], "little") for at in (2, 5))
        if offset >> 23:  # in paragraphs
            offset = (offset & 0x7FFFFF) << 4
        size &= 0x3FFFFF
        if first <= number < end:
            yield str(number), _Span(disk, offset + header, size - header)


def _queen(containers: tuple[Path, ...]) -> Iterator[tuple[str, _Span]]:
    """FOTAQ: after a header of 15 bytes, entries of 21: name, bundle, offset, size, big-endian; lines are MP3."""
    head, each, mp3 = 15, 21, 1
    (path,) = containers
    header = _part("fotaq", path, 0, head)
    if header[:4] != b"QTBL":
        raise _damaged("fotaq", path, "does not begin with a table")
    if header[12] != mp3:
        raise _damaged("fotaq", path, "holds no MP3")
    table = _part("fotaq", path, head, each * struct.unpack_from(">H", header, 13)[0])
    for name, offset, size in struct.iter_unpack(">12sxII", table):
        text = name.split(b"\0")[0].decode("latin-1")
        if text.endswith(".SB"):
            yield text.removesuffix(".SB"), _Span(path, offset, size)


def _part(game: str, path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
    except OSError as error:
        raise SpeechError(f"cannot read {path}: {error.strerror}") from error
    if len(content) < size:
        raise _damaged(game, path, f"ends before {offset + size}")
    return content


def _raw(content: bytes) -> npt.NDArray[np.float32]:
    """Unsigned 8-bit samples, at 16 kHz."""
    samples = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    resampled: npt.NDArray[np.float32] = scipy.signal.resample_poly(samples, SAMPLE_RATE // 25, _RATE // 25)
    return resampled.astype(np.float32)


def _mp3(game: str, content: bytes, name: str) -> npt.NDArray[np.float32]:
    parts: list[npt.NDArray[np.int16]] = []
    room = int(_LONGEST * SAMPLE_RATE)
    try:
        with av.open(io.BytesIO(content), mode="r", format="mp3") as container:
            resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
            for frame in container.decode(audio=0):
                parts += [made.to_ndarray().reshape(-1).astype(np.int16) for made in resampler.resample(frame)]
                room -= frame.samples * SAMPLE_RATE // frame.sample_rate
                if room < 0:
                    raise _damaged(game, files(game)[0], f"holds a line {name} of more than {_LONGEST:.0f} s")
    except (OSError, IndexError, ValueError, av.error.FFmpegError) as error:  # ValueError: its rate changes on the way
        raise _damaged(game, files(game)[0], f"has a line {name} that cannot be decoded ({error})") from error
    if not parts:
        raise _damaged(game, files(game)[0], f"has a line {name} without sound")
    return np.concatenate(parts).astype(np.float32) / np.float32(32768)


def _damaged(game: str, path: Path, what: str) -> SpeechError:
    return SpeechError(f"{path} {what}; install {PACKAGES[game]} anew")
