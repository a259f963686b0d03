"""Two processes train what one would have trained with twice the frames a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trainer_fixture as fixture

from emotag.runtime.errors import BackendError
from emotag.training.checkpoint import load_tensors
from emotag.training.trainer import Job, TrainConfig, TrainingError, perform
from emotag.training.trainer.processes import Processes, launch

CONFIG = TrainConfig(
    steps=10, warmup=2, motion_steps=2, crops=1, crop_frames=6, size=24, count=50, rate=1e-3, batch=1, ema=0.9
)


def test_two_processes_are_one_with_twice_the_frames(tmp_path: Path) -> None:
    scenes = tuple(fixture.write_scene(tmp_path / f"scene{number}", seed=number) for number in (0, 1))
    fixture.head().save(tmp_path / "head.npz")
    start = fixture.write_start(tmp_path / "start.pt")
    job = Job(CONFIG, scenes, tmp_path / "two.pt", head=str(tmp_path / "head.npz"), start=start, devices=2)
    perform(job)
    perform(replace(job, config=replace(CONFIG, batch=2, crops=2), output=tmp_path / "one.pt", devices=1))
    two, one = load_tensors(tmp_path / "two.pt"), load_tensors(tmp_path / "one.pt")
    assert (two["processes"], one["processes"]) == (2, 1)
    for part in ("state", "ema"):
        for name, value in one["motion"][part].items():
            torch.testing.assert_close(two["motion"][part][name], value, rtol=0, atol=1e-6, msg=name)
    for ours, theirs in zip(two["people"], one["people"], strict=True):
        mine, other = ours["subject"], theirs["subject"]
        assert ours["steps"] == theirs["steps"] == 10
        assert torch.equal(mine["face_index"], other["face_index"])
        for name, value in other["leaves"].items():
            torch.testing.assert_close(mine["leaves"][name], value, rtol=0, atol=1e-5, msg=name)
        torch.testing.assert_close(mine["gradient"], other["gradient"], rtol=1e-4, atol=1e-7)


def fail(processes: Processes) -> None:
    raise TrainingError(f"process {processes.rank} fails")


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(BackendError, match="this machine has"):
        launch(fail, 64, "cuda")
    with pytest.raises(BackendError, match="give 1 or more"):
        launch(fail, 0, "cpu")
    with pytest.raises(TrainingError, match="process 0 fails"):
        launch(fail, 1, "cpu")
