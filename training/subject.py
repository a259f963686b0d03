"""One person in training: a scene, the head that it was tracked with, and the Gaussians that learn how they look.

The head alone is learnt, over a background that changes: `training.subject_frames` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import plugins
from ..plugins.camera import Camera
from . import densification, subject_scene, subject_state
from . import gaussian_cloud as clouds
from .checkpoint import Arrays
from .gaussian_cloud import Bounds, Cloud, Densification, Rates, Statistics
from .head import BakedHead, HeadModel
from .losses import Target, Tracked
from .render import HeadTensors, Motion, Mouth, RenderOutput, render
from .scenes import Scene
from .subject_colours import View, firm_triangles, seen_colours, seen_triangles, with_hair
from .subject_frames import Box, Frames, SubjectError, with_a_face
from .subject_scene import rest_jaw_of
from .subject_state import State

__all__ = ["Subject", "SubjectError", "SubjectOptions", "rest_jaw_of"]

_COLOUR_VIEWS = 8
_HAIR_VIEWS = 4
_HAIR_SHARE = 0.2
"""Of the Gaussians, at most, for what the mesh does not reach; what they leave is room for densification."""
_UNSEEN = 0.25
"""Gaussians on an area that no picture shows, against one that is seen: enough to have no holes there."""
_BOUND_EVERY = 20

MouthOffsets = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class SubjectOptions:
    """How the Gaussians of a person learn. Steps are those of the whole run."""

    steps: int = 2000
    """over which the learning rate of positions decays"""
    sh_degree: int = 1
    """highest that is stored and drawn; a short adaptation is capped at 1"""
    sh_every: int = 500
    """steps between one degree and the next"""
    rates: Rates = Rates()
    densification: Densification = Densification()
    bounds: Bounds = Bounds()
    cache_bytes: int = 512 << 20
    """that decoded training pictures may take"""


class Subject:
    """A person in training. Make one with `Subject.open`; public attributes are read only.

    Attributes:
        scene: where pictures, tracks and features come from.
        baked: the head with the person's shape.
        head: the same on the device.
        cloud: the Gaussians. Another object after `densify` or `load_state_dict` changed their number.
        train_indices, test_indices: into `scene.pictures`.
        rest_jaw: (3,) rad, what a synthetic scene's tracked jaw has when the mouth is shut; 0 in real scenes.
        notes: what was left out, to tell the user.
    """

    def __init__(
        self,
        scene: Scene,
        baked: BakedHead,
        cloud: Cloud,
        options: SubjectOptions,
        train_indices: Sequence[int],
        *,
        size: int | None,
        seed: int,
        notes: Sequence[str] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.scene, self.baked, self.cloud, self.options = scene, baked, cloud, options
        self.head = HeadTensors.of(plugins.Head(**vars(baked)), device)
        self.train_indices = tuple(train_indices)
        chosen = set(self.train_indices)
        self.test_indices = tuple(index for index in range(len(scene.pictures)) if index not in chosen)
        self.rest_jaw = rest_jaw_of(scene).to(device)
        self._synthetic = subject_scene.synthetic(scene) is not None
        self.notes = tuple(notes)
        self.statistics = Statistics.zeros(len(cloud), device)
        self.sh_degree = 0
        self.frames = Frames(scene, self.train_indices, size, options.cache_bytes)
        self._device = torch.device(device)
        self._firm = firm_triangles(self.head)
        self._seed = seed
        self._drawn: list[tuple[RenderOutput, tuple[int, int]]] = []

    @classmethod
    def open(
        cls,
        scene: Scene,
        head: HeadModel,
        *,
        count: int = 60_000,
        seed: int = 0,
        size: int | None = None,
        indices: Sequence[int] | None = None,
        options: SubjectOptions | None = None,
        colours: bool = True,
        device: torch.device | str = "cpu",
    ) -> Subject:
        """Check that a scene can be learnt from, and spread Gaussians over its head.

        Args:
            scene: of `training.scenes.open_scene`.
            head: that the scene was tracked with; shape coefficients are the scene's first frame's, and so is VHAP's
                static offset. Of more tracked expressions than the head has, the first are used (FLAME tracks 100, the
                paper uses 50).
            count: G, at most.
            seed: of everything random.
            size: longer side of the pictures that are trained on; None is the scene's own.
            indices: pictures to train on; None is the scene's training split. All others are for testing.
            options: rates and schedules.
            colours: whether the Gaussians start with the colours of the pictures and some in the hair, or grey on
                the mesh alone.
            device: where tensors live.

        Raises:
            SubjectError: no masks, too few frames with a face, a bad index or size, or a head of another size.
            CheckpointError: a file of the scene is broken, or its shape does not fit the head.
        """
        own = options or SubjectOptions()
        subject_scene.check_head(scene, head)
        if size is not None and not 16 <= size <= plugins.constants.MAX_SIDE:
            raise SubjectError(f"size {size}: ask for 16 to {plugins.constants.MAX_SIDE} pixels")
        wanted = scene.split.train if indices is None else tuple(indices)
        if any(not 0 <= index < len(scene.pictures) for index in wanted):
            raise SubjectError(f"{scene.folder}: an index is outside its {len(scene.pictures)} pictures")
        usable, notes = with_a_face(scene, wanted)
        baked = head.bake(scene.head.shape[0], subject_scene.static_offset(scene, head))
        tensors = HeadTensors.of(plugins.Head(**vars(baked)), device)
        faces = torch.from_numpy(subject_scene.mouth_faces(head)).to(device)
        generator = torch.Generator().manual_seed(seed)
        spare = round(_HAIR_SHARE * count) if colours else 0
        cloud = clouds.initial_cloud(tensors, count - spare, generator, sh_degree=own.sh_degree, mouth_faces=faces)
        subject = cls(scene, baked, cloud, own, usable, size=size, seed=seed, notes=notes, device=device)
        if colours:
            subject.crowd(faces, generator)
            subject.colour()
            subject.add_hair(spare, generator)
        return subject

    def crowd(self, mouth_faces: Tensor, generator: torch.Generator) -> None:
        """Spread the Gaussians anew, fewer where no picture looks; before `parameter_groups`. As `colour`.

        The mouth keeps all of its own: it is open in few pictures.
        """
        seen = seen_triangles(self.head, self.cloud, self._views()) | mouth_faces
        density = torch.where(seen, 1.0, _UNSEEN)
        count, degree = len(self.cloud), self.options.sh_degree
        self.cloud = clouds.initial_cloud(
            self.head, count, generator, sh_degree=degree, mouth_faces=mouth_faces, density=density
        )

    def add_hair(self, most: int, generator: torch.Generator) -> None:
        """Put up to `most` Gaussians where masks show more than the mesh; before `parameter_groups`. As `colour`."""
        views = (self._view(index) for index in self._some(_HAIR_VIEWS))
        self.cloud = with_hair(self.head, self.cloud, views, most, generator)
        self.statistics = Statistics.zeros(len(self.cloud), self._device)

    def _some(self, count: int) -> list[int]:
        """Training pictures spread over the clip; those with a depth map where there are any."""
        mapped = [index for index in self.train_indices if self.scene.pictures[index].depth_path is not None]
        chosen = mapped if self._synthetic and mapped else self.train_indices
        return list(chosen[:: max(len(chosen) // count, 1)])

    def colour(self) -> None:
        """Give the Gaussians the colours that some training pictures show. Errors as `target`, and ControlError."""
        colours = seen_colours(self.head, self.cloud, self._views())
        with torch.no_grad():
            self.cloud.sh_dc.copy_((colours[:, None] - 0.5) / clouds.SH_C0)

    def _views(self) -> Iterator[View]:
        """Pictures spread over the clip, and that with the widest jaw."""
        jaws = [float(np.linalg.norm(self.scene.frame(index).jaw)) for index in self.train_indices]
        chosen = [*self._some(_COLOUR_VIEWS), self.train_indices[int(np.argmax(jaws))]]
        return (self._view(index) for index in chosen)

    def _view(self, index: int) -> View:
        rgb, mask, box = self.frames.crop(index)
        camera = box.cut(self.frames.camera(index))
        depth = self.frames.geometry(index)[0] if self._synthetic else None
        known = None if depth is None else box.of(depth).to(self._device)
        return View(self.controls(index), camera, rgb.to(self._device), mask.to(self._device), known)

    # Pictures

    def use_size(self, size: int | None) -> None:
        """Train on pictures of this longer side from now on; None is the scene's own. Small pictures are quick."""
        self.frames.size = size

    def camera(self, index: int, crop: bool = False) -> Camera:
        """The camera of picture `index`, or of the box around its head, at the size that is trained on."""
        camera = self.frames.camera(index)
        return self.frames.box(index).cut(camera) if crop else camera

    def random_background(self, generator: torch.Generator) -> Tensor:
        """(3,) a colour, 0…1."""
        return torch.rand(3, generator=generator).to(self._device)

    def backdrop(self, index: int) -> Tensor | None:
        """(3, H, W) what is behind the head in picture `index`, seen in training frames; None if it moves."""
        wall = self.frames.wall(index)
        return None if wall is None else wall.to(self._device)

    def target(
        self, index: int, background: Tensor | None = None, geometry: bool = False, crop: bool = False
    ) -> Target:
        """What picture `index` should be over `background`.

        Args:
            index: into `scene.pictures`.
            background: (3,) or (3, H, W) of the whole picture, 0…1; white if None.
            geometry: whether depth and normals are wanted too, where the scene has them. Depth counts as metric in
                synthetic scenes.
            crop: only the box around the head: a third of the work. `render` must be told the same.

        Raises:
            SubjectError: the picture shows no face.
            CheckpointError: a file of it is broken.
        """
        frames = self.frames
        box = None
        if crop:
            rgb, mask, box = frames.crop(index)
        else:
            rgb, mask = frames.whole(index)
        rgb, mask = rgb.to(self._device), mask.to(self._device)
        behind, wall = self._background(background, box), self.backdrop(index)
        if wall is None:
            picture = behind + (rgb - behind) * mask
        else:
            picture = (rgb + (1 - mask) * (behind - (wall if box is None else box.of(wall)))).clamp_(0, 1)
        depth, normal = frames.geometry(index) if geometry else (None, None)
        camera = frames.camera(index)
        share = mask.numel() / (camera.width * camera.height)
        maps = [None if m is None else (m if box is None else box.of(m)).to(self._device) for m in (depth, normal)]
        return Target(picture, mask, maps[0], maps[1], metric=self._synthetic, share=share)

    def _background(self, background: Tensor | None, box: Box | None = None) -> Tensor:
        """(3, 1, 1) or (3, h, w)."""
        if background is None:
            return torch.ones(3, 1, 1, device=self._device)
        if background.ndim == 1:
            return background[:, None, None]
        return background if box is None else box.of(background)

    # Motion

    def controls(self, index: int) -> Motion:
        """The tracked motion of picture `index`, as the tracker wrote it (jaw at rest included)."""
        frame = self.scene.frame(index)
        count = self.baked.expression_basis.shape[0]
        pose = np.concatenate([frame.rotation, frame.neck, frame.jaw, frame.eyes]).reshape(5, 3)
        return Motion(self._tensor(frame.expression[:count]), self._tensor(pose), self._tensor(frame.translation))

    def driven(self, index: int, expression: Tensor, jaw: Tensor, mouth: MouthOffsets | None = None) -> Motion:
        """GRMN's expression (E,) and jaw (3,) in the tracked pose of picture `index`; gradients reach both.

        The jaw counts from the person's shut mouth: `rest_jaw` is added (0 in real scenes). `mouth` maps bound
        positions (M, 3) of the mouth's Gaussians to Δμ (M, 3), Δr (M, 4), Δs (M, 3), as `MouthHead` does (eq. 8).
        """
        tracked = self.controls(index)
        pose = torch.cat([tracked.pose[:2], (jaw + self.rest_jaw)[None], tracked.pose[3:]])
        moved = None if mouth is None else Mouth(self.mouth_index, mouth)
        return Motion(expression, pose, tracked.translation, moved)

    def tracked(self, index: int) -> Tracked:
        """What GRMN should say of picture `index`: expression (E,), jaw (3,) from the shut mouth, and emotion (7,)."""
        motion, frame = self.controls(index), self.scene.frame(index)
        emotion = None if frame.emotion is None else self._tensor(frame.emotion)
        return Tracked(motion.expression, motion.pose[2] - self.rest_jaw, emotion)

    def still(self, index: int) -> Motion:
        """The canonical, unmoving face in the tracked pose of picture `index`: what a warm-up is drawn with."""
        tracked = self.controls(index)
        return self.driven(index, torch.zeros_like(tracked.expression), torch.zeros_like(self.rest_jaw))

    @property
    def mouth_index(self) -> Tensor:
        """(M,) int64 Gaussians that the mouth head moves."""
        return torch.nonzero(self.cloud.mouth).squeeze(1)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self._device)

    # Drawing and learning

    def render(
        self,
        index: int,
        motion: Motion,
        geometry: bool = False,
        background: Tensor | None = None,
        crop: bool = False,
    ) -> RenderOutput:
        """Picture `index` of the Gaussians in `motion`, over `background` (as `target`), at the trained size.

        With `crop` only the box around the head is drawn. What is rendered with gradients is remembered until
        `after_backward`. Errors as `training.render.render`.
        """
        box = self.frames.box(index) if crop else None
        output = render(
            self.head,
            self.cloud.parameters(self.sh_degree),
            motion,
            self.camera(index, crop),
            self._background(background, box),
            geometry,
        )
        if torch.is_grad_enabled():
            camera = self.frames.camera(index)
            self._drawn.append((output, (camera.width, camera.height)))
        return output

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups of the Gaussians, see `gaussian_cloud.parameter_groups`."""
        return clouds.parameter_groups(self.cloud, self.options.rates)

    def after_backward(self, step: int) -> None:
        """Count the screen-space gradients of what was rendered since the last call; after `loss.backward()`."""
        if step < self.options.densification.last:
            for output, size in self._drawn:
                if output.points.grad is not None:
                    self.statistics.add(output.screen_gradient(), output.visible, *size)
        self._drawn.clear()

    def set_rates(self, step: int, steps: int, optimizer: torch.optim.Optimizer) -> None:
        """Give the optimiser the Gaussians' learning rates of `step` of `steps`."""
        rates = clouds.learning_rates(step, steps, self.options.rates)
        for group in optimizer.param_groups:
            if group.get("name") in rates:
                group["lr"] = rates[group["name"]]

    def densify(self, step: int, optimizer: torch.optim.Optimizer) -> bool:
        """Everything that is due after `optimizer.step()` of step `step` (from 0); call it every step.

        Sets the learning rates and the SH degree of the next step, and clones, splits, prunes and resets
        opacities when their time has come. True if the leaves were replaced: then `mouth_index` is another one too.
        """
        own = self.options.densification
        self.sh_degree = clouds.sh_degree_at(step + 1, self.options.sh_every, self.cloud.stored_degree)
        self.set_rates(step + 1, self.options.steps, optimizer)
        done = step + 1
        if done % _BOUND_EVERY == 0:
            clouds.keep_near(self.cloud, self.head, self.options.bounds, self._firm)
        changed = False
        if own.first <= done <= own.last and done % own.every == 0:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + done)
            edit = densification.densify(self.cloud, self.statistics, own, generator)
            if edit is not None:
                self.cloud = densification.apply_edit(self.cloud, edit, optimizer)
                changed = True
            self.statistics = Statistics.zeros(len(self.cloud), self._device)
        if own.reset_every and done % own.reset_every == 0 and done < own.last:
            densification.reset_opacity(self.cloud, optimizer)
        return changed

    # State

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which `load_state_dict` goes on: Gaussians, binding, mouth and statistics."""
        return subject_state.state_of(State(self.cloud, self.statistics, self.sh_degree, self._seed))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. The optimiser's groups must be made (or loaded) after this.

        Raises:
            SubjectError: the state is of another version or head, or its sizes disagree.
        """
        found = subject_state.read_state(state, len(self.baked.faces), self._device)
        self.cloud, self.statistics, self.sh_degree, self._seed = found
        self._drawn.clear()

    # Export

    def avatar_arrays(self) -> Arrays:
        """`head.*`, `gaussians.*` and `mouth.index` of docs/bundle.md: `Checkpoint.avatar`.

        The head's jaw counts as the tracker's does: add `rest_jaw` to GRMN's jaw (the bias of its jaw head).
        """
        plain = self.cloud.parameters(self.sh_degree)
        arrays: Arrays = self.baked.tensors()
        for name in ("means", "quats", "scales", "opacities", "sh"):
            arrays[f"gaussians.{name}"] = np.ascontiguousarray(getattr(plain, name).detach().cpu().numpy(), np.float32)
        arrays["gaussians.face_index"] = self.cloud.face_index.cpu().numpy().astype(np.int32)
        mouth = self.mouth_index.cpu().numpy().astype(np.int32)
        if len(mouth):
            arrays["mouth.index"] = mouth
        return arrays

    def cue_arrays(self) -> Arrays:
        """The track of the training frames, in the order of time: `Checkpoint.cues`.

        Raises:
            SubjectError: the scene has no action units or no emotion.
        """
        return subject_scene.cue_arrays(self.scene, self.train_indices)
