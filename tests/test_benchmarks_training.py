"""The script of the training side's numbers: what it keeps belongs to what it was given; its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training import __main__ as script
from benchmarks.training.page import PAPER, page

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "training.json"


def test_a_folder_of_work_is_of_one_file_of_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, work = tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "work"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    work.mkdir()
    script.claim(work, first)
    script.claim(work, first)
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="other networks than .*b.pt reached: choose another --work"):
        script.claim(work, second)
    (work / "networks.txt").unlink()
    (work / "speech.json").write_text("{}")
    script.claim(work, second)
    assert "does not say of which networks" in capsys.readouterr().out


def test_other_recordings_are_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same ones are not; the JSON and the page hold the parts that were asked for."""
    measured: list[Any] = []

    def recordings(bundle: Path, head: object, spoken: Any, index: object, paused: Any) -> dict[str, Any]:
        measured.append((spoken, paused))
        return {"pauses_shut": 1.0, "pauses": {"p": {"frames": len(measured)}}}

    monkeypatch.setattr(script, "recordings", recordings)
    monkeypatch.setattr(script, "_learned", lambda options, head: None)
    work = tmp_path / "work"
    (work / "demo.emotag").mkdir(parents=True)
    for name in ("learned.pt", "a.wav", "b.wav"):
        (tmp_path / name).write_bytes(name.encode())
    for sound in ("a", "a", "b"):
        given = [
            "--work",
            work,
            "--learned",
            tmp_path / "learned.pt",
            "--only",
            "real",
            "--json",
            tmp_path / "out.json",
        ]
        assert script.main([str(word) for word in [*given, "--speech", tmp_path / f"{sound}.wav"]]) == 0
    assert [paused for _, paused in measured] == [[tmp_path / "a.wav"], [tmp_path / "b.wav"]]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["real"]["pauses"]["p"]["frames"] == 2
    assert "shut in 100.0% of 2 frames" in (tmp_path / "out.md").read_text()


def test_the_page_shows_every_part_of_the_committed_numbers() -> None:
    text = page(json.loads(RESULTS.read_text()))
    for heading in ("Voices that training never heard", "People whom", "Without each component", "Recorded speech"):
        assert f"## {heading}" in text
    assert all(f"| {name} |" in text for name in PAPER)
