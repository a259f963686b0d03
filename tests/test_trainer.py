"""Training runs: they learn, go on bit for bit, leave nothing half done, and ablations do what they say."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trainer_fixture as fixture
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import speech as speech_of

from emotag import runtime
from emotag.export import ExportOptions, write_bundle
from emotag.runtime.errors import CheckpointError, ControlError, EmotagError, OutputError
from emotag.training import checkpoint as checkpoints
from emotag.training.checkpoint import load_checkpoint
from emotag.training.command import main
from emotag.training.losses import LossWeights, photometric
from emotag.training.metrics.drive import driven_clip
from emotag.training.scenes import Picture, open_scene
from emotag.training.subject import SubjectOptions
from emotag.training.trainer import TrainConfig, TrainingError, people, perform
from emotag.training.trainer import job as jobs
from emotag.training.trainer.ema import MovingAverage
from emotag.training.trainer.job import Interrupted, Job, prepare, save
from emotag.training.trainer.processes import Processes
from emotag.training.trainer.run import Run
from emotag.training.trainer.schedule import slots_of, timeline_of

PRETRAIN = TrainConfig(steps=20, warmup=2, motion_steps=3, crops=2, crop_frames=8, size=24, count=60, rate=1e-3)
ADAPT = replace(TrainConfig.adaptation(), steps=20, warmup=4, seconds=0.56, size=32, count=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two scenes, a head and a start checkpoint."""
    folder = tmp_path_factory.mktemp("training")
    for number in (0, 1):
        fixture.write_scene(folder / f"scene{number}", seed=number)
    fixture.head().save(folder / "head.npz")
    fixture.write_start(folder / "start.pt")
    yield folder


def job(place: Path, config: TrainConfig, output: Path, **more: Any) -> Job:
    scenes = (place / "scene0", place / "scene1") if config.kind == "pretrain" else (place / "scene1",)
    values = {"head": str(place / "head.npz"), "start": place / "start.pt", "cache": place / "cache"}
    return Job(config, scenes, output, **values | more)


@pytest.fixture(scope="module")
def pretrained(place: Path) -> Path:
    output = place / "pretrained.pt"
    perform(job(place, PRETRAIN, output))
    return output


@pytest.fixture(scope="module")
def adapted(place: Path, pretrained: Path) -> Path:
    output = place / "adapted.pt"
    perform(job(place, ADAPT, output, start=pretrained))
    return output


def flat(content: Any, name: str = "") -> dict[str, Any]:
    """Nested containers as one dictionary of leaves."""
    if isinstance(content, dict):
        return {k: v for key, value in content.items() for k, v in flat(value, f"{name}/{key}").items()}
    if isinstance(content, list | tuple):
        return {k: v for key, value in enumerate(content) for k, v in flat(value, f"{name}/{key}").items()}
    return {name: content}


def differences(a: Any, b: Any, tolerance: float = 0.0) -> list[str]:
    """Names of leaves that differ; tensors by more than `tolerance`."""
    first, second = flat(a), flat(b)
    assert first.keys() == second.keys()

    def same(x: Any, y: Any) -> bool:
        if not isinstance(x, torch.Tensor):
            return bool(x == y)
        if x.shape != y.shape:
            return False
        return torch.equal(x, y) if tolerance == 0 else torch.allclose(x, y, rtol=0, atol=tolerance)

    return [name for name in first if not name.endswith("elapsed") and not same(first[name], second[name])]


def steps(run: Run, count: int) -> None:
    for _ in range(count):
        run.advance()


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def test_pretraining_writes_both_networks_and_everybody(pretrained: Path) -> None:
    content = load(pretrained)
    assert content["step"] == PRETRAIN.motion_steps + PRETRAIN.steps and len(content["people"]) == 2
    assert TrainConfig.from_dict(content["config"]) == PRETRAIN
    state, mean = content["motion"]["state"], content["motion"]["ema"]
    assert any(not torch.equal(state[name], mean[name]) for name in state)
    for person in content["people"]:
        assert person["steps"] == 10 and len(person["subject"]["face_index"]) > 30
    with pytest.raises(CheckpointError, match="adapt it to one"):
        load_checkpoint(pretrained)


@pytest.mark.parametrize("kind", ["pretrain", "adapt"])
def test_a_run_that_goes_on_is_the_run_that_was_not_cut_off(place: Path, tmp_path: Path, kind: str) -> None:
    config = PRETRAIN if kind == "pretrain" else ADAPT
    whole = job(place, config, tmp_path / "whole.pt")
    straight = prepare(Processes(), whole)
    steps(straight, 19)
    save(straight, whole)
    cut = job(place, config, tmp_path / "cut.pt")
    for until in (2, 11, 19):  # within the motion or warm-up, the blend, and everything with densification
        run = prepare(Processes(), cut if until == 2 else replace(cut, start=None, resume=cut.output, scenes=()))
        steps(run, until - run.step)
        save(run, cut)
    assert differences(load(whole.output), load(cut.output)) == ([] if kind == "pretrain" else ["/info/name"])


def test_only_adain_and_the_gaussians_move_in_adaptation(pretrained: Path, adapted: Path) -> None:
    before, after = load(pretrained)["motion"]["ema"], load(adapted)["training"]["motion"]["state"]
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"audio_adain", "au_adain"}
    exported = load(adapted)["motion"]["state"]
    mean = load(adapted)["training"]["motion"]["ema"]
    assert [name for name in mean if not torch.equal(mean[name], exported[name])] == []


def test_a_network_without_a_mouth_head_can_be_given_one(place: Path, tmp_path: Path) -> None:
    start = fixture.write_start(tmp_path / "start.pt", mouth=False)
    plain = prepare(Processes(), job(place, PRETRAIN, tmp_path / "a.pt", start=start)).networks.motion
    run = prepare(Processes(), job(place, PRETRAIN, tmp_path / "a.pt", start=start, mouth=True))
    before = {name: value.clone() for name, value in run.networks.motion.state_dict().items()}
    assert plain.config.mouth is None and run.networks.motion.config.mouth is not None
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())
    steps(run, 9)
    assert not torch.equal(before["mouth_mlp.net.0.weight"], run.networks.motion.mouth_mlp.net[0].weight)


def test_all_motion_trains_the_rest_too(place: Path, tmp_path: Path) -> None:
    run = prepare(Processes(), job(place, replace(ADAPT, all_motion=True), tmp_path / "a.pt"))
    before = {name: value.clone() for name, value in run.networks.motion.state_dict().items()}
    steps(run, 9)
    after = run.networks.motion.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"audio_proj", "backbone_net", "emotion_head", "mouth_mlp", "encoder_xy", "audio_adain"} <= moved


def test_the_loss_goes_down_and_the_warmup_leaves_the_network_alone(place: Path, tmp_path: Path) -> None:
    config = replace(ADAPT, steps=60, warmup=30, half_size=0.0)
    run = prepare(Processes(), job(place, config, tmp_path / "a.pt"))
    before = {name: value.clone() for name, value in run.networks.motion.state_dict().items()}
    loss = judged(run)
    steps(run, 30)
    assert differences(before, run.networks.motion.state_dict()) == []
    steps(run, 30)
    assert judged(run) < 0.75 * loss


@torch.no_grad()
def judged(run: Run) -> float:
    """The pictures' loss of the still cloud over one background; what a step sees depends on its own."""
    subject, behind = run.people[0].subject, torch.tensor([0.1, 0.3, 0.8])
    assert subject is not None
    pairs = [
        (run.draw(run.people[0], index, None, 0.0, background=behind).rgb, subject.target(index, behind).rgb)
        for index in subject.train_indices
    ]
    return float(np.mean([float(photometric(drawn, truth)) for drawn, truth in pairs]))


def test_the_timeline_of_the_paper() -> None:
    config = TrainConfig(steps=1000, warmup=100, blend=0.1, decay=0.1, half_size=0.2)
    timeline = timeline_of(config, people=3)
    assert [timeline.phase(step).driven for step in (0, 299, 400, 999)] == [0, 0, 1, 1]
    assert timeline.phase(349).driven == pytest.approx(0.5, abs=0.01)
    assert timeline.phase(500).decay == pytest.approx(0.1**0.5) and timeline.phase(0).decay == 1
    assert timeline.phase(199).half and not timeline.phase(200).half
    with pytest.raises(ControlError, match="1000 of 1000 steps"):
        timeline_of(config, people=10)


def test_every_frame_comes_once_before_one_comes_again() -> None:
    frames = [4, 7]
    seen: list[list[int]] = [[], []]
    for step in range(56):
        for slot in slots_of(step, 2, frames, seed=3):
            seen[slot.person].append(slot.frame)
    assert [len(own) for own in seen] == [56, 56]
    assert all(sorted(seen[0][first : first + 4]) == list(range(4)) for first in range(0, 56, 4))
    assert all(sorted(seen[1][first : first + 7]) == list(range(7)) for first in range(0, 56, 7))
    assert slots_of(3, 4, frames, 3) == slots_of(6, 2, frames, 3) + slots_of(7, 2, frames, 3)


def test_ema_has_the_value_of_its_definition() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(2.0)
    mean = MovingAverage(module, 0.9)
    for value in (3.0, 5.0):
        module.weight.data.fill_(value)
        mean.update(module)
    assert mean.state_dict()["weight"].item() == pytest.approx(0.9 * (0.9 * 2 + 0.1 * 3) + 0.1 * 5)


def test_ablations_change_what_they_say(place: Path, tmp_path: Path) -> None:
    terms, motions = {}, {}
    for without in ("", "score", "kl", "seg", "gate", "residual", "adain"):
        config = replace(ADAPT, warmup=0, blend=0.0, without=(without,) if without else ())
        run = prepare(Processes(), job(place, config, tmp_path / "a.pt"))
        terms[without] = set(run.advance().terms)
        track = run.people[0].track
        motions[without] = track.predict(run.networks.motion, slice(3, 5))
        motions[without + "/who"] = motions[without].expression
        if track.identity is not None:
            track.identity = -track.identity
            motions[without + "/other"] = track.predict(run.networks.motion, slice(3, 5)).expression
    assert terms[""] == {"photometric", "depth", "normal", "emotion", "score", "motion"}
    assert terms[""] - terms["score"] == {"score"} and terms[""] - terms["kl"] == {"emotion"}
    assert terms[""] - terms["seg"] == {"score", "emotion"}
    assert torch.equal(motions["gate"].gate, torch.ones(2, 1)) and motions[""].gate.max() < 1
    assert torch.equal(motions["residual"].expression, motions["residual"].base_expression)
    assert not torch.equal(motions[""].expression, motions[""].base_expression)
    assert torch.equal(motions["adain/who"], motions["adain/other"])
    assert not torch.equal(motions["/who"], motions["/other"])


def test_the_papers_weights_are_those_of_the_run(place: Path, tmp_path: Path) -> None:
    """Without pictures the tracked motion is all there is to learn from, so there it counts."""
    config = replace(PRETRAIN, weights="paper", motion_steps=1, warmup=0, blend=0.0)
    run = prepare(Processes(), job(place, config, tmp_path / "a.pt"))
    assert run.weights == replace(LossWeights.paper(), depth=0.0, normal=0.0)
    assert "motion" in run.advance().terms and "motion" not in run.advance().terms
    with pytest.raises(ControlError, match="no weights 'mine'; there are released, paper"):
        replace(PRETRAIN, weights="mine")  # type: ignore[arg-type]


def test_an_ablated_avatar_stays_ablated(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.pt"
    perform(job(place, replace(ADAPT, steps=6, warmup=1, without=("gate", "residual", "adain")), output))
    avatar = load_checkpoint(output)
    config = avatar.motion.config
    assert (config.gate, config.residual, config.adain) == (False, False, False)
    assert avatar.info.notes == ("an ablation, trained without gate, residual, adain",)


def test_an_adapted_avatar_is_exported_and_speaks(adapted: Path, tmp_path: Path) -> None:
    speech = speech_of(4.0)
    made = load_checkpoint(adapted)
    assert "mouth.index" in made.avatar and made.info.expression_names == fixture.NAMES
    write_bundle(made, tmp_path / "a.emotag", ExportOptions(speech=speech, speech_name="synthetic"))
    avatar = runtime.Avatar(tmp_path / "a.emotag")
    frames = [avatar.step(chunk) for chunk in speech[: 640 * 8].reshape(-1, 640)]
    assert frames[-1].rgb.shape == (32, 32, 3) and frames[-1].rgb.min() < 200
    assert 0 < float(np.ravel(frames[-1].gate)[0]) < 1


def test_an_adapted_avatar_is_judged_on_its_scene(place: Path, adapted: Path, tmp_path: Path) -> None:
    """The pictures are those that training would draw."""
    scene, report = place / "scene1", tmp_path / "report"
    assert main(["eval", "--avatar", str(adapted), "--truth", str(scene), "-o", str(report)]) == 0
    found = json.loads((report / "metrics.json").read_text())["cases"][0]["metrics"]
    assert found["psnr"]["frames"] == found["psnr_head"]["frames"] == fixture.FRAMES
    assert found["psnr_head"]["value"] > 12 and -1 <= found["jaw_correlation"]["value"] <= 1
    assert found["emotion_accuracy"]["frames"] == fixture.FRAMES
    clip = driven_clip(adapted, open_scene(scene), tmp_path / "cache")
    run = prepare(Processes(), job(place, ADAPT, tmp_path / "a.pt", resume=adapted, start=None))
    run.networks.motion.load_state_dict(run.ema.state_dict())
    person = run.people[0]
    person.track.remember(run.networks.motion)
    subject = person.subject
    assert subject is not None and clip.read is not None
    predicted = person.track.predict(run.networks.motion, slice(3, 4))
    with torch.no_grad():
        wanted = run.draw(person, 3, predicted, 1.0, background=subject.backdrop(3)).rgb
    shown = torch.from_numpy(clip.read(3)).permute(2, 0, 1) / 255
    inside = subject.target(3).mask > 0.9
    assert float((shown - wanted)[:, inside].abs().max()) < 0.02


def test_a_loss_that_is_no_number_stops_and_the_file_stays(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.pt"
    started = job(place, replace(ADAPT, warmup=0), output)
    run = prepare(Processes(), started)
    steps(run, 4)
    save(run, started)
    good = output.read_bytes()
    run.people[0].track.expression[:] = float("nan")
    with pytest.raises(TrainingError, match=r"step 4, .*scene1/images/\d+_00.png: the term motion is not a number"):
        run.advance()
    assert run.step == 4 and output.read_bytes() == good
    run = prepare(Processes(), replace(started, resume=output, start=None))
    run.people[0].subject.cloud.opacities.register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[union-attr]
    before = run.people[0].subject.cloud.means.clone()  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match="scene1: a gradient is not a number"):
        run.advance()
    assert torch.equal(before, run.people[0].subject.cloud.means)  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_all_steps(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    output, advance = tmp_path / "a.pt", Run.advance
    before = signal.getsignal(signal.SIGINT)  # a job in the background ignores it

    def interrupted(run: Run) -> Any:
        if run.step == 2:
            os.kill(os.getpid(), number)
        return advance(run)

    monkeypatch.setattr(Run, "advance", interrupted)
    with pytest.raises(Interrupted, match="step 3 is kept; go on with --resume"):
        perform(job(place, ADAPT, output))
    assert load(output)["training"]["step"] == 3
    assert load_checkpoint(output).info.width == 32
    assert signal.getsignal(signal.SIGINT) is before


def test_a_picture_that_breaks_on_the_way_loses_one_step(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, decode = tmp_path / "a.pt", Picture.rgb
    seen: list[Run] = []

    def watched(processes: Processes, wanted: Job) -> Run:
        seen.append(prepare(processes, wanted))
        return seen[0]

    def broken(picture: Picture) -> Any:
        if seen and seen[0].step == 3:
            raise CheckpointError(f"{picture.path}: not a picture")
        return decode(picture)

    monkeypatch.setattr(jobs, "prepare", watched)
    monkeypatch.setattr(Picture, "rgb", broken)
    options = SubjectOptions(cache_bytes=0)
    monkeypatch.setattr(people, "subject_options", lambda config, visits: options)
    with pytest.raises(CheckpointError, match="not a picture"):
        perform(job(place, ADAPT, output))
    assert seen[0].step == load(output)["training"]["step"] == 3


def test_tokens_that_do_not_fit_on_the_disk_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, values: object, **_: object) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="tokens cannot be written .No space left on device.: free some space"):
        perform(job(place, ADAPT, tmp_path / "a.pt", cache=tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_keeps_the_last_good_file(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "a.pt"
    short = job(place, replace(ADAPT, steps=4, warmup=0), output)
    perform(short)
    good = output.read_bytes()
    for error, says in (
        (OSError(28, "No space left on device"), "No space left on device.*free some space"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"), "as on a full disk"),
    ):

        def full(content: object, file: Any, error: Exception = error) -> None:
            file.write(b"half of it")
            raise error

        monkeypatch.setattr(checkpoints.torch, "save", full)
        with pytest.raises(OutputError, match=says):
            perform(short)
        assert output.read_bytes() == good and [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_an_output_that_cannot_be_written_is_refused_before_training(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose a folder"):
        perform(job(place, ADAPT, tmp_path / "file" / "a.pt"))
    with pytest.raises(OutputError, match="is a folder"):
        perform(job(place, ADAPT, tmp_path))


def test_minutes_end_a_run_with_its_schedule_run_through(place: Path, tmp_path: Path) -> None:
    config = replace(ADAPT, steps=1000, warmup=10)
    run = prepare(Processes(), job(place, config, tmp_path / "a.pt", minutes=1.0))
    run.elapsed = 30.0
    assert 500 <= run.position() < 600 and run.advance().values["driven"] == 1
    run.elapsed = 60.0
    assert run.finished


def test_what_does_not_fit_is_refused(place: Path, pretrained: Path, adapted: Path, tmp_path: Path) -> None:
    fixture.head(seed=5).save(tmp_path / "other.npz")
    other = {"head": str(tmp_path / "other.npz")}
    refusals: list[tuple[str, Job]] = [
        ("trained on another head", job(place, ADAPT, tmp_path / "a.pt", start=pretrained, **other)),
        ("trained on another head", job(place, PRETRAIN, tmp_path / "a.pt", resume=pretrained, **other)),
        ("moves 7 expressions, .* has 52", job(place, ADAPT, tmp_path / "a.pt", head="anny")),
        ("a run of `emotag-train pretrain`", job(place, ADAPT, tmp_path / "a.pt", resume=pretrained)),
        ("no checkpoint to start from", job(place, ADAPT, tmp_path / "a.pt", start=place / "tensor.pt")),
        ("is not a checkpoint", job(place, ADAPT, tmp_path / "a.pt", start=place / "head.npz")),
        ("does not exist", job(place, ADAPT, tmp_path / "a.pt", resume=place / "none.pt")),
        ("1 scenes are given|2 scenes, 1 are", replace(job(place, PRETRAIN, tmp_path / "a.pt", resume=pretrained),
                                                       scenes=(place / "scene0",))),
        ("no such folder", replace(job(place, ADAPT, tmp_path / "a.pt"), scenes=(place / "none",))),
        ("lasts 0.64 s, 5 s are asked", job(place, replace(ADAPT, seconds=5.0), tmp_path / "a.pt")),
    ]  # fmt: skip
    torch.save({"x": torch.zeros(1)}, place / "tensor.pt")
    for says, wrong in refusals:
        with pytest.raises(EmotagError, match=says):
            perform(wrong)
    perform(job(place, replace(ADAPT, steps=2, warmup=0), tmp_path / "c.pt", compact=True))
    with pytest.raises(CheckpointError, match="finished avatar without its run"):
        perform(job(place, ADAPT, tmp_path / "a.pt", resume=tmp_path / "c.pt"))


def test_scenes_that_cannot_be_learnt_from_are_named(place: Path, tmp_path: Path) -> None:
    for name, says in (
        ("aud.wav", "has no sound"),
        ("au_features.csv", "has no action units"),
        ("emotion_features.npy", "has no emotion_features.npy"),
        ("fg_masks", "has no mask|missing"),
        ("images", "missing"),
    ):
        scene = fixture.write_scene(tmp_path / name, frames=16, maps=False)
        target = scene / name
        if target.is_dir():
            for file in target.iterdir():
                file.unlink()
        else:
            target.unlink()
        with pytest.raises(EmotagError, match=says) as caught:
            perform(replace(job(place, ADAPT, tmp_path / "a.pt"), scenes=(scene,)))
        assert str(scene) in str(caught.value)


def test_the_commands(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many, one = tmp_path / "many.pt", tmp_path / "one.pt"
    common = ["--head", str(place / "head.npz"), "--cache", str(place / "cache")]
    small = ["--size", "24", "--count", "40", "--warmup", "1", "--steps", "6"]
    scenes = [str(place / "scene0"), str(place / "scene1")]
    start = ["--start", str(place / "start.pt")]
    assert main(["pretrain", *scenes, "-o", str(many), *start, "--motion-only", "2", *small, *common]) == 0
    log = ["--log", str(tmp_path / "log"), "--save-every", "2", "--without", "Score,gate", "--seconds", "0.5"]
    assert main(["adapt", str(many), scenes[0], "-o", str(one), *small, *common, *log]) == 0
    assert capsys.readouterr().out.splitlines() == [str(many), str(one)]
    assert TrainConfig.from_dict(load(one)["training"]["config"]).without == ("score", "gate")
    seen = EventAccumulator(str(tmp_path / "log"), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert [event.step for event in seen.Scalars("loss/photometric")] == [1, 2, 3, 4, 5, 6]
    previews = seen.Images(scenes[0])
    assert [event.step for event in previews] == [2, 4, 6] and (previews[-1].width, previews[-1].height) == (48, 24)
    for wrong, says in (
        (["adapt", "--resume", str(one), "--steps", "9"], "--steps with --resume"),
        (["adapt", str(many)], "a pretrained checkpoint and a scene"),
        (["pretrain", scenes[0]], "--start FILE, or --encoder"),
        (["pretrain", scenes[0], *start, "--network", "live"], "belongs to --encoder"),
        (["pretrain", scenes[0], "--encoder", "x", "--mouth"], "belongs to --start"),
        (["pretrain", scenes[0], *start, "--without", "nose"], "no such component"),
        (["pretrain", scenes[0], *start, "--steps", "-1"], "steps is -1"),
        (["pretrain", scenes[0], *start, "--accelerator", "cuda", "--devices", "99"], "this machine has"),
    ):
        try:
            assert main([*wrong, "-o", str(tmp_path / "no.pt")]) == 1
        except SystemExit as usage:
            assert usage.code == 2
        assert says in capsys.readouterr().err
