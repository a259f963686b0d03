"""A run from its options to its file: what the commands call, in every process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...runtime.errors import CheckpointError, EmotagError
from ..checkpoint import AvatarInfo, check_writable
from ..grmn import GRMN
from ..head import HeadModel
from ..scenes import load_encoder
from ..wav2vec2 import StreamingConfig
from .config import TrainConfig, ablate
from .errors import TrainingError
from .people import open_people, trained_size
from .processes import Processes, launch
from .run import Advance, Run, start_run
from .schedule import timeline_of
from .start import Networks, fresh_networks, open_head, read_networks, with_mouth_head
from .state import Saved, left_out, load_saved, resume, save_avatar, save_pretrained
from .watch import StopWish, Watch, stop_signals

__all__ = ["Interrupted", "Job", "perform"]


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has written its file."""


@dataclass(frozen=True)
class Job:
    """What to do; everything but `config` may differ when a run goes on.

    scenes: folders. output: the `.pt`. start: a file to take encoder and motion network from; or `encoder` with
    `streaming` (and `network`) for an untrained one. mouth: give the former a mouth head if it has none. head: as
    `open_head`. resume: a file to go on from instead.
    """

    config: TrainConfig
    scenes: tuple[Path, ...]
    output: Path
    head: str = "anny"
    start: Path | None = None
    encoder: str | None = None
    streaming: StreamingConfig = StreamingConfig(2, 2, 100)
    network: str = "live"
    mouth: bool = False
    resume: Path | None = None
    cache: Path | None = None
    log: Path | None = None
    save_every: int = 500
    minutes: float | None = None
    devices: int = 1
    accelerator: str = "cpu"
    licence: str = "unspecified"
    consent: str = "unspecified"
    compact: bool = False


def perform(job: Job) -> Run | None:
    """Train; the file is there when this returns. The run, where one process did it.

    Raises:
        OutputError: the file cannot be written; asked before anything else.
        Interrupted: Ctrl-C or SIGTERM came; the file is written.
        EmotagError: a scene, checkpoint or head cannot be used, or the training went wrong.
    """
    check_writable(job.output)
    if job.devices == 1:
        return launch(_train, 1, job.accelerator, job)
    stopped = launch(_train_apart, job.devices, job.accelerator, job)
    if stopped is not None:
        raise stopped
    return None


def _train_apart(processes: Processes, job: Job) -> BaseException | None:
    """In a process of several: what went wrong everywhere comes back as a value, not as a dead process."""
    try:
        _train(processes, job)
    except (EmotagError, Interrupted) as error:
        return error
    return None


def _train(processes: Processes, job: Job) -> Run:
    run = prepare(processes, job)
    watch = Watch(run.total, run.step, job.log, quiet=not processes.first)
    try:
        for person in run.people:
            for note in person.notes:
                watch.note(f"{person.name}: {note}")
        with stop_signals() as wish:
            _loop(run, job, watch, wish)
    finally:
        watch.close()
    return run


def _loop(run: Run, job: Job, watch: Watch, wish: StopWish) -> None:
    """All steps. The run is saved and previewed every so many, when it is asked to stop, and at the end."""
    finished = run.finished
    if finished:  # nothing was left of a run that goes on
        save(run, job, finished=True)
    while not finished:
        done = _advance(run, job)
        watch.step(run.step, done.stage, done.terms, done.values)
        finished, stop = run.finished, run.processes.any(wish.asked)
        if stop or finished or run.step % job.save_every == 0:
            save(run, job, finished=finished and not stop)
            _preview(run, done, watch)
        if stop:
            raise Interrupted(f"{job.output}: step {run.step} is kept; go on with --resume {job.output}")


def _advance(run: Run, job: Job) -> Advance:
    """One step. What breaks off for another reason than bad numbers, such as a picture that cannot be read, loses no
    more than the step: the run is written first. After bad numbers the last good file stays.
    """
    try:
        return run.advance()
    except EmotagError as error:
        if run.processes.any(not isinstance(error, TrainingError)):
            save(run, job)
        raise


def prepare(processes: Processes, job: Job) -> Run:
    """Open everything and be ready for the next step: the first one, or where a file left off."""
    saved = None if job.resume is None else load_saved(job.resume)
    config = job.config if saved is None else saved.config
    if saved is not None and saved.config.kind != job.config.kind:
        raise CheckpointError(f"{job.resume} is a run of `emotag-train {saved.config.kind}`: go on with that command")
    networks, head = _networks(job, config, saved)
    scenes = job.scenes or (saved.scenes if saved is not None else ())
    people = open_people(
        scenes, head, networks.encoder, networks.motion, config, job.cache, processes.device, processes.world
    )
    timeline = timeline_of(config, len(people), processes.world)
    run = start_run(config, networks, head, people, processes, timeline, job.minutes)
    if saved is not None:
        resume(run, saved)
    return run


def _networks(job: Job, config: TrainConfig, saved: Saved | None) -> tuple[Networks, HeadModel]:
    """Encoder, motion network as ablated, and the head, which must be theirs."""
    if saved is not None:
        head = open_head(job.head, saved.networks.motion.config.expression)
        saved.networks.check_head(head)
        return saved.networks, head
    if job.start is not None:
        found = read_networks(job.start)
        head = open_head(job.head, found.motion.config.expression)
        found.check_head(head)
        found = with_mouth_head(found, config.seed) if job.mouth else found
    elif job.encoder is not None:
        head = open_head(job.head)
        found = fresh_networks(load_encoder(job.encoder, job.streaming), head, job.network, config.seed)
    else:
        raise CheckpointError("there is nothing to start from: give --start FILE, or --encoder NAME for a new network")
    motion = GRMN(ablate(found.motion.config, config.without))
    motion.load_state_dict(found.motion.state_dict())
    return replace(found, motion=motion), head


def save(run: Run, job: Job, finished: bool = False) -> None:
    """Write the run's file, by the first process; where it fails, all of them stop. Raises OutputError."""

    def write() -> None:
        if not run.processes.first:
            return
        if run.config.kind == "adapt":
            save_avatar(run, job.output, avatar_info(run, job), compact=job.compact and finished)
        else:
            save_pretrained(run, job.output)

    run.together(write)


def avatar_info(run: Run, job: Job) -> AvatarInfo:
    """What the bundle's manifest will say."""
    scene = run.people[0].scene
    camera = scene.pictures[0].camera
    share = trained_size(scene, run.config) / max(camera.width, camera.height)
    return AvatarInfo(
        name=job.output.stem,
        width=round(camera.width * share),
        height=round(camera.height * share),
        expression_names=run.head.expression_names,
        licence=job.licence,
        consent=job.consent,
        notes=left_out(run.config.without),
    )


@torch.no_grad()
def _preview(run: Run, done: Advance, watch: Watch) -> None:
    """Truth beside prediction, of the first frame of the first people."""
    if not watch.wants_pictures or not run.config.steps:
        return
    for person in run.people[:4]:
        subject = person.subject
        assert subject is not None
        index = subject.train_indices[0]
        row = subject.scene.pictures[index].row
        predicted = person.track.predict(run.networks.motion, slice(row, row + 1))
        picture = run.draw(person, index, predicted, done.values.get("driven", 0.0)).rgb
        watch.picture(run.step, person.name, torch.cat([subject.target(index).rgb, picture], 2).cpu())
