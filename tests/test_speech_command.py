"""`emotag-train speech`: from nothing to a file that training goes on from, small."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotag.training.command import main
from emotag.training.corpus.listener import HOP
from emotag.training.demo import load_learned
from tests.recogniser import recogniser_weights

SMALL = (
    "--clips 2 --recorded 1 --prompts 1 --talkies 1 --encoder-steps 2 --refine-steps 1 --people-steps 1 "
    "--imitate-steps 1 --listen-steps 2 --again-steps 1 --motion-steps 2 --judge 0 --threads 1"
).split()


class Levels:
    """In the recognizer's place: two features, the level of 24 ms and its square."""

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        level = np.sqrt((samples[: len(samples) // HOP * HOP].reshape(-1, HOP) ** 2).mean(axis=1))
        return np.stack([level, level**2], 1)


def test_what_cannot_be_written_is_said_before_anything_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("in the way")
    assert main(["speech", "-o", str(tmp_path / "file" / "learned.pt"), *SMALL]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("option, value", [("--clips", "0"), ("--threads", "0"), ("--judge", "-1")])
def test_counts_that_are_too_small_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
):
    assert main(["speech", "-o", str(tmp_path / "learned.pt"), option, value]) == 1
    assert f"{option} is {value}" in capsys.readouterr().err


def test_numbers_that_are_not_measured_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["speech", "-o", str(tmp_path / "learned.pt"), *SMALL, "--json", str(tmp_path / "numbers.json")]
    assert main(given) == 1
    assert "--judge 0" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_it_learns_and_a_second_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    from emotag.training.commands import speech
    from emotag.training.corpus import FLITE

    # festival, the recordings and the recognizer are not on every machine: flite's voices and the sound's level stand
    # in, the stages are the same.
    monkeypatch.setattr(sys.modules["emotag.training.demo.learn"], "Listener", Levels)
    monkeypatch.setattr(sys.modules["emotag.training.demo.learn"], "listener_weights", recogniser_weights)
    recipe = speech._RECIPE
    small = replace(
        recipe,
        corpus=replace(recipe.corpus, frames=100),
        recorded=replace(recipe.recorded, frames=100, voices=FLITE),
        prompts=replace(recipe.prompts, frames=100, voices=FLITE),
        talkies=replace(recipe.talkies, frames=100, voices=FLITE),
        silent=1,
        encoder=replace(recipe.encoder, batch=1),
        refine=replace(recipe.refine, batch=1),
        people=replace(recipe.people, batch=1),
        imitate=replace(recipe.imitate, batch=1),
        listen=replace(recipe.listen, batch=1),
        again=replace(recipe.again, batch=1),
        motion=replace(recipe.motion, batch=1, hearings=1),
        settle=replace(recipe.settle, steps=2, batch=1),
    )
    monkeypatch.setattr(speech, "_RECIPE", small)
    arguments = ["speech", "-o", str(tmp_path / "learned.pt"), "--corpus", str(tmp_path / "corpus"), *SMALL]
    assert main(arguments) == 0
    first = load_learned(tmp_path / "learned.pt").motion.state_dict()
    assert main(arguments) == 0
    again = load_learned(tmp_path / "learned.pt").motion.state_dict()
    assert all((first[name] == again[name]).all() for name in first)
    assert load_learned(tmp_path / "learned.pt").encoder.model.config.num_hidden_layers == recipe.layers
