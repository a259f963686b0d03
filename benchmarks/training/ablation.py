"""Part `ablation`: the decoders of GRMN without each of the paper's components, trained alike on one audio path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotag.training.demo.clips import ClipRequest, Clips, load_clips
from emotag.training.demo.geometry import LipGeometry, lip_geometry
from emotag.training.demo.learn import HELD_OUT_CLIPS, Learned, load_learned
from emotag.training.demo.motion import MotionSchedule, encode, hear, train_decoder
from emotag.training.grmn import GRMN, NEUTRAL, Motion
from emotag.training.head import HeadModel
from emotag.training.scenes import open_scene
from emotag.training.subject import Subject
from emotag.training.trainer.config import TrainConfig

from .people import FIRST, Views, adapt, make_scenes, predicted_motion
from .speech import judge_motion, say, tokens_of

VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "without score": ("score",),
    "without KL": ("kl",),
    "without both (SEG)": ("seg",),
    "without gate": ("gate",),
    "without residual": ("residual",),
    "without AdaIN": ("adain",),
}
"""In the paper's order: every one is worse than those above it there."""

CLIPS = ClipRequest(count=800, seed=1)
"""Training clips; they are the first of the speech stage's."""
FELT = replace(HELD_OUT_CLIPS, seed=4343, emotional=1.0)
"""Unheard voices, all of them with an emotion: the paper's emotional set."""
SCHEDULE = MotionSchedule(steps=2500, batch=16)
FELT_SECONDS = 6.0

Numbers = dict[str, Any]


def variants(learned: Learned, head: HeadModel, cache: Path, work: Path) -> dict[str, GRMN]:
    """The networks of all variants, trained once and kept in the folder `work`."""
    names, found = head.expression_names, {}
    missing = [name for name in VARIANTS if not _file(work, name).is_file()]
    if missing:
        clips = load_clips(CLIPS, names, cache)
        encodings = encode(learned.motion, hear(learned.encoder, clips, seed=0))
    for name, without in VARIANTS.items():
        if name in missing:
            motion, _ = train_decoder(
                clips, encodings, lip_geometry(head), SCHEDULE, learned.motion, afresh=True, without=without
            )
            Learned(learned.encoder, motion, learned.identity).save(_file(work, name))
        else:
            motion = load_learned(_file(work, name)).motion
        found[name] = motion
    return found


def _file(work: Path, name: str) -> Path:
    return work / "ablation" / f"{name.replace(' ', '-')}.pt"


def face_error(said: Motion, clips: Clips, geometry: LipGeometry) -> float:
    """Mean displacement of the face, lips weighted, in mm."""
    error = np.concatenate(
        [said.expression.numpy() - clips.expression, (said.jaw.numpy() - clips.jaw)[..., :1]], axis=-1
    ).astype(np.float64)
    return float(np.sqrt(np.maximum(((error @ geometry.metric) * error).sum(-1), 0)).mean())


def emotion_numbers(said: Motion, clips: Clips) -> Numbers:
    """How well emotion and its intensity are heard: share of frames whose class is named, mean |g - e|."""
    truth = torch.from_numpy(clips.emotion)
    named = (said.emotion_logits.argmax(-1) == truth.argmax(-1)).float().mean()
    intensity = 1 - truth[..., NEUTRAL]
    return {"emotion_named": float(named), "gate_error": float((said.gate[..., 0] - intensity).abs().mean())}


def felt_pictures(networks: dict[str, GRMN], learned: Learned, head: HeadModel, work: Path, start: Path) -> Numbers:
    """PSNR and LMD on a held-out person's happy clips of levels 1 and 3; the Gaussians are of level 2 and shared."""
    scenes = work / "heldout"
    make_scenes(scenes, 1, FELT_SECONDS, ("happy",), (1, 2, 3))
    seen = scenes / f"id{FIRST:03d}_happy2_00"
    run, _, _ = adapt(start, seen, work / "happy2.pt", TrainConfig.adaptation())
    learnt = run.people[0].subject
    assert learnt is not None
    found: Numbers = {name: {"psnr_head": [], "lmd": []} for name in networks}
    for level in (1, 3):
        scene = open_scene(scenes / f"id{FIRST:03d}_happy{level}_00")
        subject = Subject.open(scene, head, count=len(learnt.cloud), options=learnt.options)
        subject.load_state_dict(learnt.state_dict())
        views = Views(subject, head)
        for name, motion in networks.items():
            said = predicted_motion(scene, motion, learned.encoder)
            numbers = views.judge(said, range(len(scene.pictures)))
            for key in found[name]:
                found[name][key].append(numbers[key])
    return {name: {key: float(np.mean(values)) for key, values in kept.items()} for name, kept in found.items()}


def ablation(learned: Learned, head: HeadModel, cache: Path, work: Path, start: Path) -> Numbers:
    """Part `ablation`: the table's rows by variant."""
    networks = variants(learned, head, cache, work)
    clips, geometry = load_clips(FELT, head.expression_names, cache), lip_geometry(head)
    tokens = tokens_of(learned.encoder, clips)
    pictures = felt_pictures(networks, learned, head, work, start)
    rows: Numbers = {}
    for name, motion in networks.items():
        said = say(motion, learned.identity, tokens, clips)
        rows[name] = {
            **pictures[name],
            "face_error_mm": face_error(said, clips, geometry),
            **judge_motion(said, clips, geometry),
            **emotion_numbers(said, clips),
        }
    return rows
