"""A bundle loaded once: sessions and geometry that any number of avatars share."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..plugins import Renderer, Scene
from ..plugins.constants import MAX_THREADS
from .appearance import Wearer, load_appearance
from .backends import Backend, BackendInfo, CpuBackend, Drawing, open_backend
from .bundle import Bundle, open_bundle
from .cues import CuePlayer
from .drawing import Painter, build_scene
from .encoder import StreamingEncoder, check_encoder
from .errors import BackendError, BundleError, ControlError
from .graphs import Interface
from .manifest import Manifest
from .motion import MotionNetwork, check_motion
from .shutter import Shutter
from .speech import Speech
from .tensors import AvatarTensors, read_avatar, read_cues

_ENCODING_THREADS = 2  # products of ten tokens are too small to be worth more


class Model:
    """What avatars of one bundle have in common. Nothing in it changes; avatars on several threads may share it."""

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        threads: int,
        scene: Scene,
        tensors: AvatarTensors,
        audio: Interface | None,
        motion: Interface,
        appearance: bool = True,
    ) -> None:
        """Use `Model.load`."""
        manifest, states = bundle.manifest, tensors.states
        self.bundle = bundle
        self._backend = backend
        self.threads = threads
        self.scene = scene
        self._audio, self._motion = audio, motion
        self._motion_states = check_motion(motion, manifest.audio, manifest.motion, tensors.expressions, states)
        self._audio_states = {}
        if audio is not None and manifest.audio is not None:
            self._audio_states = check_encoder(audio, manifest.audio, states)
        _check_mouth_inputs(tensors, motion)
        self.cues = CuePlayer(read_cues(bundle.file("cues.safetensors"), motion.inputs["window"]))
        self.shutter = Shutter(manifest.expression_names, scene.head)
        self.appearance = load_appearance(bundle, scene, motion.outputs) if appearance else None

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", threads: int = 0, appearance: bool = True) -> Model:
        """Verifies and loads the bundle folder at `path`.

        device: "cpu"; "cuda" or "tensorrt" for a GPU, "cuda:1" for the second one; "auto" takes the best that works
        here, and `backend.reason` says why. threads: how many draw a picture on the CPU; 0 takes one for each core.
        Of more than one, two encode audio. appearance: whether to load the emotional residual of the Gaussians where
        the bundle has one. It is drawn on the CPU only: "auto" then takes the CPU, and a GPU that is asked for is an
        error.
        Raises BundleError, BackendError if the device that was asked for cannot be used, ControlError for a thread
        count out of range.
        """
        if isinstance(threads, bool) or not isinstance(threads, int) or not 0 <= threads <= MAX_THREADS:
            raise ControlError(f"threads={threads!r} is not a whole number from 0 (all cores) to {MAX_THREADS}")
        bundle = open_bundle(path)
        # Opening the sessions takes longest and frees the GIL; here, so that a warning about them names the caller.
        with ThreadPoolExecutor(max_workers=1) as pool:
            built = pool.submit(_read_scene, bundle)
            backend, graphs = open_backend(device, lambda backend: _prepare(backend, bundle, threads, appearance))
            tensors, scene = built.result()
        return cls(bundle, backend, threads, scene, tensors, *graphs, appearance=appearance)

    @property
    def backend(self) -> BackendInfo:
        """Where it runs: "cpu", "cuda" or "tensorrt", with `reason`, `device` and `precision`."""
        return self._backend.info

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.bundle.manifest

    @property
    def latency_ms(self) -> int:
        """Milliseconds between a sound and the picture that belongs to it."""
        return self.manifest.lookahead_frames * 40

    def motion_network(self) -> MotionNetwork:
        """A motion network with a state of its own."""
        bound = self._backend.bind(self._motion, self._motion_states)
        return MotionNetwork(bound, self.manifest.audio, self.manifest.motion, self._motion_states)

    def speech(self, network: MotionNetwork) -> Speech:
        """An encoder with a state of its own, if the bundle has one, in front of `network`."""
        encoder = None
        if self._audio is not None and self.manifest.audio is not None:
            encoder = StreamingEncoder(self._backend.bind(self._audio, self._audio_states), self.manifest.audio)
        return Speech(self.manifest, encoder, network)

    def require_audio(self) -> None:
        """Raises BundleError for a bundle that cannot listen."""
        if self.manifest.audio is None:
            raise BundleError(
                f"{self.bundle.path} has no audio encoder, it can only play its recording (cued, --cued): "
                "export it with --encoder to make it speak"
            )

    def renderer(self, width: int, height: int) -> Drawing:
        """What draws the pictures of one avatar at that size."""
        return self._backend.renderer(self.scene, self.threads, width, height)

    def painter(self, width: int, height: int) -> Painter:
        """What makes the pictures of one avatar's frames at that size."""
        drawing, wearer = self.renderer(width, height), None
        if self.appearance is not None and isinstance(drawing, Renderer):
            wearer = Wearer(self.appearance, drawing)
        return Painter(drawing, self.manifest, self.cues, (width, height), wearer)


def _read_scene(bundle: Bundle) -> tuple[AvatarTensors, Scene]:
    tensors = read_avatar(bundle.file("avatar.safetensors"), bundle.manifest)
    return tensors, build_scene(tensors, bundle.manifest)


def _prepare(backend: Backend, bundle: Bundle, threads: int, appearance: bool) -> tuple[Interface | None, Interface]:
    """The graphs of a bundle on a backend, loaded side by side. Raises BackendError if it could not draw the bundle."""
    if appearance and bundle.manifest.appearance is not None and not isinstance(backend, CpuBackend):
        raise BackendError(
            f"{bundle.manifest.name} has an emotional residual of its Gaussians, which the kernels of a GPU do not "
            "draw: load it with appearance=False, or use device='cpu'"
        )
    encoding = min(_ENCODING_THREADS, threads or len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(max_workers=2) as pool:
        audio = None if bundle.manifest.audio is None else pool.submit(backend.prepare, bundle, "audio", encoding)
        motion = pool.submit(backend.prepare, bundle, "motion")
        return None if audio is None else audio.result(), motion.result()


def _check_mouth_inputs(tensors: AvatarTensors, motion: Interface) -> None:
    """The mouth head reads the grid's three planes, one channel a level, and the encoded audio."""
    if tensors.mouth is None:
        return
    levels, found = len(tensors.mouth["grid.offsets"]) - 1, tensors.mouth["mlp.0"].shape[1]
    wanted = 3 * levels + motion.outputs["encoded_audio"][0]
    if found != wanted:
        raise BundleError(
            f"avatar.safetensors: mouth.mlp.0 has {found} inputs instead of {wanted}: export the bundle again"
        )
