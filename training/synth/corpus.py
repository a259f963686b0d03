"""The whole corpus: plan takes, draw each in a process of its own, leave no half scene, skip what is there."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...runtime.errors import ControlError, OutputError
from ..corpus import Voice
from .backgrounds import draw_background
from .encode import FORMATS
from .figure import Figure, anny_head, make_figure
from .identity import draw_identity
from .light import draw_lighting
from .mesh_renderer import MeshRenderer
from .scene_files import LAYOUTS, SceneWriter
from .takes import EMOTION_NAMES, LEVELS, Take, camera_of, choose_voice, record, training_voices

__all__ = ["CorpusOptions", "make_corpus", "make_scene", "plan", "renderer_of"]

_DONE = "synth.json"
_UNFINISHED = ".unfinished"
_STILL, _SKIN = "still", "creases and blood 1"
"""Kinds of skin in `made_with`; the number rises when pictures of the same options change."""


@dataclass(frozen=True)
class CorpusOptions:
    """What to make. Raises `ControlError` for values that make no corpus."""

    identities: int = 8
    first: int = 0
    """number of the first identity: others than those of a training corpus are held out"""
    seconds: float = 5.0
    seed: int = 0
    size: int = 512
    emotions: tuple[str, ...] = EMOTION_NAMES
    levels: tuple[int, ...] = tuple(LEVELS)
    clips: int = 1
    voices: tuple[Voice, ...] = training_voices(("en", "de", "fr", "es", "it", "cmn"))
    layout: str = "vhap"
    pictures: str = "jpg"
    maps: int = 5
    supersample: int = 2
    still_skin: bool = False
    """skin that neither creases nor changes colour, as scenes before 21 November 2026 have it"""

    def __post_init__(self) -> None:
        ranges = {"identities": 1, "first": 0, "clips": 1, "maps": 0, "supersample": 1, "seed": 0, "size": 16}
        for name, least in ranges.items():
            if getattr(self, name) < least:
                raise ControlError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not 0.04 <= self.seconds <= 3600:
            raise ControlError(f"seconds is {self.seconds}; give 0.04 (one frame) to 3600")
        if self.size > 4096:
            raise ControlError(f"size is {self.size}; give at most 4096 pixels")
        for name, chosen, known in (
            ("emotion", self.emotions, EMOTION_NAMES),
            ("level", self.levels, tuple(LEVELS)),
            ("layout", (self.layout,), LAYOUTS),
            ("picture format", (self.pictures,), FORMATS),
        ):
            wrong = [str(one) for one in chosen if one not in known]
            if wrong or not chosen:
                listed = ", ".join(str(one) for one in known)
                raise ControlError(f"no {name} {', '.join(wrong) or 'chosen'}; there are {listed}")
        if not self.voices:
            raise ControlError("no voice chosen; name one, or choose languages that have some")


def plan(options: CorpusOptions) -> list[Take]:
    """Every take, identity by identity; neutral once a clip, the emotions at every level."""
    takes = []
    for identity in range(options.first, options.first + options.identities):
        for emotion in options.emotions:
            for level in (0,) if emotion == "neutral" else options.levels:
                takes += [Take(options.seed, identity, emotion, level, clip) for clip in range(options.clips)]
    return takes


def make_corpus(folder: Path, options: CorpusOptions, jobs: int = 1) -> Iterator[tuple[Take, bool]]:
    """Make every scene below `folder`, yielding each take as it is there and whether it was made now.

    Scenes are written under a temporary name and renamed; those that are there are left alone, so an interrupted run
    goes on where it stopped.

    Raises:
        OutputError: the folder cannot be written to, or a scene there was made with other options.
        EmotagError: as `make_scene`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    waiting = []
    for take in plan(options):
        if (folder / take.name / _DONE).is_file():
            _check_same(folder / take.name / _DONE, take, options)
            yield take, False
        else:
            waiting.append(take)
    if jobs <= 1 or len(waiting) <= 1:
        for take in waiting:
            make_scene(folder, take, options)
            yield take, True
        return
    # Processes that start afresh: forking one that holds FFmpeg's and BLAS' threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running = {pool.submit(make_scene, folder, take, options): take for take in waiting}
        try:
            for done in as_completed(running):
                done.result()
                yield running[done], True
        finally:
            pool.shutdown(cancel_futures=True)


def _check_same(path: Path, take: Take, options: CorpusOptions) -> None:
    """Refuse to go on with a corpus of another kind."""
    try:
        # Scenes that do not say which skin they have are older than its creases.
        found = {"skin": _STILL} | json.loads(path.read_text(encoding="utf-8"))["made_with"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: cannot be read ({error}); delete {path.parent} to make it again") from error
    wanted = made_with(take, options)
    other = [
        f"{name} {found.get(name)!r} instead of {value!r}" for name, value in wanted.items() if found.get(name) != value
    ]
    if other:
        raise OutputError(f"{path.parent} was made with {', '.join(other)}; choose another folder, or delete it")


def made_with(take: Take, options: CorpusOptions) -> dict[str, object]:
    """What a scene depends on beside its name, as plain values."""
    voice = choose_voice(take, options.voices)
    names = ("seconds", "size", "layout", "pictures", "maps", "supersample")
    own = {"seed": take.seed, "voice": voice.name, "skin": _STILL if options.still_skin else _SKIN}
    return own | {name: getattr(options, name) for name in names}


def make_scene(folder: Path, take: Take, options: CorpusOptions) -> Path:
    """Draw one take into `folder / take.name`; returns it.

    Raises:
        MissingProgramError, SpeechError, PhonemeError: as the synthesizers say.
        OutputError: the folder cannot be written to.
    """
    final = folder / take.name
    half = folder / f".{take.name}{_UNFINISHED}-{os.getpid()}"
    try:
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _draw(half, take, options)
        shutil.rmtree(final, ignore_errors=True)  # a scene without its last file was cut off by something else
        half.rename(final)
    except OSError as error:
        raise OutputError(f"{final}: cannot be written ({error.strerror or error}); free some space or choose another "
                          "folder; what is finished stays") from error  # fmt: skip
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return final


def renderer_of(take: Take, options: CorpusOptions) -> MeshRenderer:
    """The figure of a take under its light and before its background. Light and looks are the identity's alone."""
    figure = _figure(take.seed, take.identity)
    lighting = draw_lighting(np.random.default_rng([0x119, take.seed, take.identity]))
    number = [0xBAC, take.seed, take.identity, take.clip, EMOTION_NAMES.index(take.emotion), take.level]
    background = draw_background(options.size, np.random.default_rng(number))
    return MeshRenderer(figure, lighting, background, options.supersample)


@functools.lru_cache(maxsize=1)
def _figure(seed: int, index: int) -> Figure:
    """The person of several takes, painted once."""
    return make_figure(draw_identity(seed, index))


def _draw(folder: Path, take: Take, options: CorpusOptions) -> None:
    voice = choose_voice(take, options.voices)
    track = record(take, voice, options.seconds, anny_head().expression_names)
    renderer = renderer_of(take, options)
    camera = camera_of(take, options.size)
    writer = SceneWriter(
        folder, renderer.figure, track, camera, options.layout, options.pictures, options.maps, options.still_skin
    )
    for row in range(len(track.performance.expression)):
        writer.frame(row, renderer)
    writer.finish(made_with(take, options))
