"""Part `people`: seconds of persons whom no training saw, adapted, and judged on what comes after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emotag.training.corpus import HELD_OUT
from emotag.training.grmn import GRMN, Motion
from emotag.training.head import HeadModel
from emotag.training.metrics.clips import Clip
from emotag.training.metrics.image import psnr, ssim_map
from emotag.training.metrics.landmarks import lmd, mouth_box
from emotag.training.metrics.mesh import load_landmark_vertices, with_mesh
from emotag.training.scenes import Scene, open_scene
from emotag.training.subject import Subject, rest_jaw_of
from emotag.training.synth.corpus import CorpusOptions, make_corpus
from emotag.training.trainer.config import TrainConfig
from emotag.training.trainer.hearing import encoder_digest, tokens_of
from emotag.training.trainer.job import Job, perform
from emotag.training.trainer.run import Run
from emotag.training.trainer.track import Track

FIRST = 100  # number of the first identity; training's begin at 0
_EVERY = 5  # frames between those whose pictures are compared

Numbers = dict[str, Any]
Floats = NDArray[np.float32]


def make_scenes(
    folder: Path,
    people: int,
    seconds: float,
    emotions: tuple[str, ...],
    levels: tuple[int, ...],
    **others: Any,
) -> None:
    """Scenes of held-out people, spoken by held-out voices. others: of `CorpusOptions`."""
    english = tuple(voice for voice in HELD_OUT if voice.language == "en")
    own = {"identities": people, "first": FIRST, "seconds": seconds, "emotions": emotions, "levels": levels}
    options = CorpusOptions(**{**own, "voices": english, **others})
    for _ in make_corpus(folder, options):
        pass


def adapt(start: Path, scene: Path, output: Path, config: TrainConfig) -> tuple[Run, float, float]:
    """Run `emotag-train adapt` on a scene; the run, its seconds and its seconds of processor time."""
    began, worked = time.monotonic(), time.process_time()
    run = perform(Job(config, (scene,), output, start=start, compact=True))
    assert run is not None  # one process
    return run, time.monotonic() - began, time.process_time() - worked


def mean_network(run: Run) -> GRMN:
    """The motion network of a run with its EMA weights: what the avatar gets."""
    motion = GRMN(run.networks.motion.config)
    motion.load_state_dict(run.ema.state_dict())
    return motion.eval()


@torch.no_grad()
def predicted_motion(scene: Scene, motion: GRMN, encoder: Any) -> Motion:
    """What the network says of every frame of a scene."""
    tokens = tokens_of(scene, encoder, encoder_digest(encoder))
    track = Track(scene, tokens, motion, scene.rows, rest_jaw_of(scene), torch.device("cpu"))
    return track.predict(motion, slice(0, scene.rows))


class Views:
    """One person's Gaussians beside the pictures of a scene of them."""

    def __init__(self, subject: Subject, head: HeadModel) -> None:
        self.subject, self.head = subject, head
        self._vertices = load_landmark_vertices(None, head)
        self._rest = rest_jaw_of(subject.scene).numpy()

    def landmarks(self, expression: Floats, jaw: Floats) -> NDArray[np.float64]:
        """[T, 68, 2] pixels of a motion; the jaw counts from the shut mouth."""
        tracks = {"expression": expression, "jaw": jaw + self._rest}
        posed = with_mesh(Clip("motion", 25.0, tracks), self.head, self._vertices, self.subject.scene)
        found: NDArray[np.float64] = posed.track("landmarks")
        return found

    @torch.no_grad()
    def picture(self, index: int, expression: torch.Tensor, jaw: torch.Tensor) -> Floats:
        """[H, W, 3] over the scene's own wall (white where that moves), as 8 bits would hold it."""
        moved, wall = self.subject.driven(index, expression, jaw), self.subject.backdrop(index)
        output = self.subject.render(index, moved, background=wall)
        picture = output.rgb.clamp(0, 1).permute(1, 2, 0).numpy()
        return np.floor(picture * 255).astype(np.float32) / 255

    def judge(self, said: Motion, indices: Sequence[int]) -> Numbers:
        """Pictures and lips of a predicted motion against the truth, means over the pictures `indices`."""
        scene = self.subject.scene
        true = self.landmarks(scene.head.expression, scene.head.jaw_pose - self._rest)
        guess = self.landmarks(said.expression.numpy(), said.jaw.numpy())
        rows = [scene.pictures[index].row for index in indices]
        sums = {name: [] for name in ("psnr_head", "ssim_head", "psnr_mouth", "psnr_mouth_frozen")}
        still = torch.zeros_like(said.expression[0]), torch.zeros(3)
        for index, row in zip(indices[::_EVERY], rows[::_EVERY], strict=True):
            target = self.subject.target(index, self.subject.backdrop(index))
            truth, mask = target.rgb.permute(1, 2, 0).numpy(), target.mask.numpy()
            box = mouth_box(true[row], truth.shape[1], truth.shape[0])
            moving = self.picture(index, said.expression[row], said.jaw[row])
            frozen = self.picture(index, *still)
            sums["psnr_head"].append(psnr(moving, truth, mask))
            sums["ssim_head"].append(float((ssim_map(moving, truth) * mask).sum() / mask.sum()))
            sums["psnr_mouth"].append(psnr(moving, truth, box))
            sums["psnr_mouth_frozen"].append(psnr(frozen, truth, box))
        jaw = np.stack([(scene.head.jaw_pose - self._rest)[rows, 0], said.jaw.numpy()[rows, 0]])
        return {
            **{name: float(np.mean(values)) for name, values in sums.items()},
            "mouth_gain": float(np.mean(sums["psnr_mouth"]) - np.mean(sums["psnr_mouth_frozen"])),
            "lmd": lmd(guess[rows], true[rows]),
            "jaw_correlation": float(np.corrcoef(jaw)[0, 1]),
        }


def judge_person(start: Path, scene_folder: Path, output: Path, head: HeadModel, config: TrainConfig) -> Numbers:
    """Adapt to the first seconds of a scene and judge the rest."""
    run, seconds, worked = adapt(start, scene_folder, output, config)
    subject = run.people[0].subject
    assert subject is not None
    subject.use_size(None)
    said = predicted_motion(open_scene(scene_folder), mean_network(run), run.networks.encoder)
    last = max(subject.scene.pictures[index].row for index in subject.train_indices)
    after = [index for index in subject.test_indices if subject.scene.pictures[index].row > last]
    numbers = Views(subject, head).judge(said, after)
    return {**numbers, "adaptation_seconds": seconds, "adaptation_processor_seconds": worked, "steps": run.step}
