"""Lines of games: read out of the games' own files, of which none is trusted; then listened to, aligned and kept."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal

from emotag.training.corpus import MissingProgramError, SpeechError, Voice, recorded_sources, synthesize, talkies
from emotag.training.corpus import recorded as recorded_module
from emotag.training.corpus.recorded import phrases, recorded_speech, times_file
from tests.rnc_packer import pack

RATE = 11025
TONE = np.round(80 * np.sin(np.arange(RATE) * 2 * np.pi * 400 / RATE)).astype(int)  # a second


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(talkies.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_files_of_drascula_are_lines(folder: Path) -> None:
    write_drascula(folder, {"1": raw(TONE), "27B": raw(TONE[:2205]), "3": b""})
    (folder / "drascula" / "en" / "1.ALG").write_bytes(b"a picture")
    assert talkies.lines("drascula") == ["1", "27B"]
    assert len(talkies.line("drascula", "27B")) == 3200
    check_tone(talkies.line("drascula", "1"))


def test_lines_of_the_disk_of_bass(folder: Path) -> None:
    """Offsets count bytes, or paragraphs; pictures have lower numbers, music has higher ones."""
    packed = pack(raw(TONE))
    write_bass(folder, {50007: packed, 55277: packed, 119: packed, 60200: packed}, paragraphs={55277})
    assert talkies.lines("bass") == ["50007", "55277"]
    check_tone(talkies.line("bass", "50007"))
    check_tone(talkies.line("bass", "55277"))


def test_lines_of_the_table_of_fotaq(folder: Path) -> None:
    write_fotaq(folder, {"JOE00011.SB": mp3(TONE), "020001P2.SB": mp3(TONE), "MAP.PCX": b"a picture"})
    assert talkies.lines("fotaq") == ["020001P2", "JOE00011"]
    check_tone(talkies.line("fotaq", "020001P2"))
    with pytest.raises(SpeechError, match="no line 'MAP'"):
        talkies.line("fotaq", "MAP")


def test_games_that_are_not_there(folder: Path) -> None:
    for game, package in talkies.PACKAGES.items():
        with pytest.raises(MissingProgramError, match=f"apt-get install {package}; or.*dpkg-deb -x {package}_"):
            talkies.lines(game)
    with pytest.raises(SpeechError, match="'monkey' is unknown; use one of: bass, drascula, fotaq"):
        talkies.lines("monkey")
    write_bass(folder, {50007: pack(raw(TONE))})
    (folder / "beneath-a-steel-sky" / "sky.dsk").unlink()
    with pytest.raises(MissingProgramError, match="apt-get install beneath-a-steel-sky"):
        talkies.lines("bass")


def truncate(name: str, size: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:size])

    return cut


def overwrite(name: str, at: int, content: bytes) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:at] + content + path.read_bytes()[at + len(content) :])

    return put


DISK, TABLE, QUEEN = "beneath-a-steel-sky/sky.dsk", "beneath-a-steel-sky/sky.dnr", "flight-of-the-amazon-queen/queen.1c"


@pytest.mark.parametrize(
    ("game", "damage", "told"),
    [
        ("bass", truncate(DISK, 9000), "has no 110.. bytes at 22"),
        ("bass", truncate(TABLE, 10), "has no 1 entries"),
        ("bass", truncate(TABLE, 3), "has no 0 entries|names no lines"),
        ("bass", overwrite(TABLE, 0, b"\xff\xff\xff\xff"), "has no 4294967295 entries"),
        ("bass", overwrite(TABLE, 6, b"\xff\xff\x7f"), "bytes at 8388629"),
        ("bass", overwrite(TABLE, 9, b"\xff\xff\x3f"), "has no 4194281 bytes"),
        ("fotaq", truncate(QUEEN, 9), "ends before 15"),
        ("fotaq", truncate(QUEEN, 20), "ends before 36"),
        ("fotaq", truncate(QUEEN, 300), "bytes at 36, where JOE00011"),
        ("fotaq", overwrite(QUEEN, 0, b"RIFF"), "does not begin with a table"),
        ("fotaq", overwrite(QUEEN, 12, b"\x02"), "holds no MP3"),
        ("fotaq", overwrite(QUEEN, 28, b"\xff\xff\xff\xff"), "bytes at 4294967295"),
        ("fotaq", overwrite(QUEEN, 32, b"\xff\xff\xff\xff"), "has no 4294967295 bytes"),
        ("fotaq", overwrite(QUEEN, 32, b"\0\0\0\0"), "has no 0 bytes"),
        ("drascula", truncate("drascula/en/1.ALS", 0), "names no lines"),
    ],
)
def test_damaged_containers_are_named(folder: Path, game: str, damage: Callable[[Path], None], told: str) -> None:
    write_drascula(folder, {"1": raw(TONE)})
    write_bass(folder, {50007: pack(raw(TONE))})
    write_fotaq(folder, {"JOE00011.SB": mp3(TONE)})
    assert len(talkies.lines(game)) == 1
    talkies._spans.cache_clear()
    damage(folder)
    with pytest.raises(SpeechError, match=f"{folder}.*({told}).*; install {talkies.PACKAGES[game]} anew"):
        talkies.lines(game)


def test_lines_that_cannot_be_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fotaq(folder, {"A.SB": b"no music" * 100, "B.SB": mp3(np.tile(TONE, 3))})
    with pytest.raises(SpeechError, match="queen.1c has a line A (that cannot be decoded|without sound)"):
        talkies.line("fotaq", "A")
    monkeypatch.setattr(talkies, "_LONGEST", 2.0)
    with pytest.raises(SpeechError, match="a line B of more than 2 s"):
        talkies.line("fotaq", "B")
    write_bass(folder, {50007: raw(TONE)})
    with pytest.raises(SpeechError, match="sky.dsk has a line 50007 that cannot be unpacked .*begin with RNC"):
        talkies.line("bass", "50007")
    write_drascula(folder, {"1": raw(TONE)})
    assert talkies.lines("drascula") == ["1"]
    truncate("drascula/en/1.ALS", 100)(folder)
    with pytest.raises(SpeechError, match="1.ALS ends before 11025; install drascula anew"):
        talkies.line("drascula", "1")


def test_lines_that_are_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file nor what is packed in one decides how much memory is taken."""
    write_bass(folder, {50007: pack(raw(np.tile(TONE, 3)))})
    monkeypatch.setattr(talkies, "_LONGEST", 2.0)
    with pytest.raises(SpeechError, match="line 50007 that cannot be unpacked .33075 bytes are announced, 22050 are"):
        talkies.line("bass", "50007")
    write_drascula(folder, {"1": raw(TONE)})
    monkeypatch.setattr(talkies, "_LARGEST", 11024)
    with pytest.raises(SpeechError, match="1.ALS holds a line 1 of 11025 bytes; install drascula anew"):
        talkies.line("drascula", "1")


def test_a_line_whose_rate_changes(folder: Path) -> None:
    write_fotaq(folder, {"A.SB": mp3(TONE, bare=True) + mp3(TONE, 44100, bare=True)})
    with pytest.raises(SpeechError, match="queen.1c has a line A that cannot be decoded"):
        talkies.line("fotaq", "A")


class Clerk:
    """In place of a listener: knows what is said by how long it takes."""

    heard: list[int] = []
    texts: dict[int, str] = {}

    def text(self, samples: npt.NDArray[np.float32]) -> str:
        self.heard.append(len(samples))
        return self.texts[len(samples)]


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_lines_are_listened_to_and_aligned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loud and long enough is heard once; what nobody says anything in is told."""
    said = "My mother bought a paper bag, but the old man opened the heavy box."
    spoken = scipy.signal.resample_poly(synthesize(Voice("flite", "slt"), said).samples, 441, 640)
    content = raw(np.rint(spoken * 127).astype(int))
    write_drascula(folder, {"said": content, "tone": raw(TONE), "short": raw(TONE[:5000]), "faint": raw(TONE // 40)})
    length = len(talkies.line("drascula", "said"))
    monkeypatch.setattr(Clerk, "heard", [])
    monkeypatch.setattr(Clerk, "texts", {length: said, 16000: "…"})
    monkeypatch.setattr(recorded_sources, "Listener", Clerk)
    cache = folder / "cache"
    known, rejects = phrases("drascula", cache)
    assert rejects.prompts == ("tone",) and sorted(Clerk.heard) == sorted([16000, length])
    assert {phrase.prompt for phrase in known} == {"said"}
    utterance = recorded_speech("drascula", known[0])
    classes = [segment.phoneme for segment in utterance.segments]
    assert utterance.duration > 1 and {"M", "B", "P"} <= set(classes)
    assert [path.name for path in cache.iterdir()] == [times_file("drascula", cache).name]
    monkeypatch.setattr(recorded_module, "_LOADED", {})
    monkeypatch.delattr(recorded_sources, "Listener")
    assert phrases("drascula", cache) == (known, rejects)


def test_other_files_have_other_times(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_drascula(folder, {"1": raw(TONE)})
    write_fotaq(folder, {"JOE00011.SB": mp3(TONE)})
    first = times_file("drascula", folder)
    assert first == times_file("drascula", folder) and first.name.startswith("recorded-drascula-")
    write_drascula(folder, {"1": raw(-TONE)})
    second = times_file("drascula", folder)
    monkeypatch.setattr(recorded_sources, "LISTENER", "another")
    assert len({first, second, times_file("drascula", folder)}) == 3
    hero = recorded_sources.source_of("fotaq").hero
    assert hero is not None and recorded_sources.source_of("drascula").hero is None
    assert all(hero.match(name) for name in ("JOE00011", "020006J1"))
    assert not any(hero.match(name) for name in ("020006P1", "C18C_461", "MIK_0109", "UNTITLEJ"))


def raw(samples: npt.NDArray[np.int_]) -> bytes:
    """Samples of -128…127 as the games have them."""
    return (samples + 128).astype(np.uint8).tobytes()


def mp3(samples: npt.NDArray[np.int_], rate: int = RATE, bare: bool = False) -> bytes:
    """bare: frames only, without the headers of a file."""
    file = io.BytesIO()
    options = {"write_xing": "0", "id3v2_version": "0"} if bare else {}
    with av.open(file, "w", format="mp3", options=options) as container:
        stream = container.add_stream("mp3", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 256).astype(np.int16)[None], format="s16p", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def write_drascula(folder: Path, content: Mapping[str, bytes]) -> None:
    (folder / "drascula" / "en").mkdir(parents=True, exist_ok=True)
    for name, samples in content.items():
        (folder / "drascula" / "en" / f"{name}.ALS").write_bytes(samples)


def write_bass(folder: Path, content: Mapping[int, bytes], paragraphs: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    disk, entries = b"", struct.pack("<I", len(content))
    for number, samples in content.items():
        disk += bytes(-len(disk) % 16)
        offset = len(disk) >> 4 | 1 << 23 if number in paragraphs else len(disk)
        disk += bytes(22) + samples
        entries += struct.pack("<H", number) + offset.to_bytes(3, "little") + (22 + len(samples)).to_bytes(3, "little")
    (folder / "beneath-a-steel-sky").mkdir(exist_ok=True)
    (folder / DISK).write_bytes(disk)
    (folder / TABLE).write_bytes(entries)


def write_fotaq(folder: Path, content: Mapping[str, bytes]) -> None:
    table = b"QTBLCEM10\0\0\0\x01" + struct.pack(">H", len(content))
    at = len(table) + 21 * len(content)
    for name, line in content.items():
        table += struct.pack(">12sBII", name.encode(), 1, at, len(line))
        at += len(line)
    (folder / "flight-of-the-amazon-queen").mkdir(exist_ok=True)
    (folder / QUEEN).write_bytes(table + b"".join(content.values()))


def check_tone(samples: npt.NDArray[np.int16]) -> None:
    """A second of 400 Hz at 16 kHz, as loud as it was."""
    assert samples.dtype == np.int16 and 15500 < len(samples) < 18500
    spectrum = np.abs(np.fft.rfft(samples[1600:14400] * np.hanning(12800)))
    assert spectrum.argmax() == 320 and np.abs(samples[4000:12000]).max() == pytest.approx(80 * 256, rel=0.1)
