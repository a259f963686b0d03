"""Read a checkpoint of the authors' implementation (spec §3) into the `Checkpoint` that export takes.

`chkpnt_face_latest.pth` holds Gaussians and networks, the scene folder what they are bound to and driven by, and the
head comes from FLAME. The released code loads any of them without looking; here whatever does not belong together is
refused, because it would still draw a picture.
"""

from __future__ import annotations

import math
import warnings
import wave
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.errors import CheckpointError
from .checkpoint import Arrays, AvatarInfo, Checkpoint, load_tensors, restore
from .flame import load_flame
from .grmn import GRMN, GRMNConfig
from .head import HeadModel
from .mesh_files import load_obj_faces
from .released_binding import Binding, load_binding, verify_binding
from .released_scene import ReleasedScene, load_scene
from .wav2vec2 import SAMPLE_RATE, StreamingConfig, StreamingWav2Vec2

__all__ = ["AUTO", "RELEASED_ENCODER", "Capture", "load_released", "read_released"]

AUTO = "auto"
RELEASED_ENCODER = "facebook/wav2vec2-base-960h"

_CAPTURE_FIELDS = 14
_HIGHEST_DEGREE = 3
_CALIBRATION = Path(__file__).parent / "assets" / "sample.wav"


@dataclass(frozen=True, eq=False)
class Capture:
    """The Gaussians of a released checkpoint, before activations, local to their triangles."""

    active_sh_degree: int  # may be below the stored one
    means: Tensor  # [G, 3]
    sh: Tensor  # [G, K, 3], K = (stored degree + 1)²
    scales: Tensor  # [G, 3], before softplus
    quats: Tensor  # [G, 4] wxyz, not normalised
    opacities: Tensor  # [G], before the sigmoid

    def __len__(self) -> int:
        return len(self.means)


def load_released(
    checkpoint_path: str | Path,
    scene_dir: str | Path,
    flame_path: str | Path,
    *,
    encoder: str | Path | None = AUTO,
    streaming: StreamingConfig | None = None,
    calibration: Sequence[NDArray[np.float32]] | None = None,
    faces: str | Path | None = None,
    verify: bool = True,
) -> Checkpoint:
    """Read a released checkpoint with its scene and head. Nothing in any of the files is executed.

    Args:
        checkpoint_path: `chkpnt_face_latest.pth` of an adapted identity.
        scene_dir: the data folder it was trained on.
        flame_path: FLAME's `generic_model.pkl`, of the edition that the scene was tracked with.
        encoder: a Hugging Face Wav2Vec2 name or a folder for new speech; None for a checkpoint that plays its recorded
            features only; "auto" takes `facebook/wav2vec2-base-960h` where it can be had, else None, and says so in
            the notes.
        streaming: c, r and L of the encoder; the project's default if None.
        calibration: speech, 16 kHz mono, that the encoder's frozen statistics are taken from; the shipped sample if
            None.
        faces: a template OBJ whose faces replace the FLAME file's.
        verify: whether the binding must reproduce the scene's `points3D.ply`.

    Returns:
        A `Checkpoint` of kind "released" whose cues hold the recorded `windows` [T, 16, 768] too. `info.notes` tells
        what was left out or assumed.

    Raises:
        CheckpointError: names the file that is wrong or does not belong to the others, and what to do.
    """
    source = str(checkpoint_path)
    capture, state = read_released(checkpoint_path)
    motion = GRMN(GRMNConfig.released())
    restore(motion, dict(state), "motion network", source)
    _check_grid(motion, state, source)
    scene = load_scene(scene_dir)
    _check_features(scene, motion.config)
    full_head = _head(Path(flame_path), faces)
    binding = load_binding(scene.folder, len(capture), len(full_head.faces))
    notes = list(scene.notes)
    if verify:
        verify_binding(scene, binding, full_head)
    else:
        notes.append("the binding was not verified against points3D.ply")
    head = full_head.with_expressions(motion.config.expression)
    audio, note = _encoder(encoder, streaming or StreamingConfig(), calibration, motion.config.hidden)
    checkpoint = Checkpoint(
        motion=motion.eval(),
        encoder=audio,
        identity=None if scene.identity is None else torch.from_numpy(scene.identity),
        avatar=_avatar(head, scene, capture, binding),
        cues=_cues(scene),
        info=_info(scene, head, capture, (*notes, *note)),
        kind="released",
        source=source,
    )
    checkpoint.validate()
    return checkpoint


def read_released(path: str | Path) -> tuple[Capture, Mapping[str, Tensor]]:
    """Gaussians and motion network of a `.pth`, read with `weights_only=True`.

    Raises:
        CheckpointError: not a released checkpoint, a pretraining one, hostile, truncated, or its sizes disagree.
    """
    content = _load(Path(path))
    if isinstance(content, tuple) and len(content) == 3 and isinstance(content[0], dict):
        raise CheckpointError(
            f"{path} is a pretraining checkpoint: it holds the motion network but no avatar (no Gaussians). Adapt it "
            "to an identity with the released code and pass the chkpnt_face_latest.pth of that run."
        )
    if isinstance(content, dict) and "format" in content:
        raise CheckpointError(f"{path} was not written by the released code: leave out --scene and --flame.")
    if not isinstance(content, tuple) or len(content) != 4 or not isinstance(content[0], tuple):
        what = f"a tuple of {len(content)}" if isinstance(content, tuple) else f"a {type(content).__name__}"
        raise CheckpointError(
            f"{path} is not a released checkpoint: it holds {what}, not (capture, motion network, optimiser, "
            "iteration). Pass chkpnt_face_latest.pth."
        )
    state = content[1]
    if not isinstance(state, dict) or not all(_plain(value) for value in state.values()):
        raise CheckpointError(f"{path}: its motion network is not a set of tensors; download or train it again.")
    for name, value in state.items():
        _check_finite(value, str(name), path)
    return _capture(content[0], Path(path)), state


def _load(path: Path) -> Any:
    """`load_tensors`, which here may meet numpy scalars too: 3DGS saves its learning-rate scale as one."""
    number_types = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
    scalar: Any = np.float64(0).__reduce__()[0]
    with ExitStack() as stack:
        allowed = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
        stack.enter_context(torch.serialization.safe_globals([*allowed, np.dtype, *number_types]))
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # torch's, about files that are refused anyway
        try:
            return load_tensors(path)
        except CheckpointError:
            raise
        except Exception as error:  # a broken file can raise nearly every exception there is
            raise CheckpointError(
                f"{path} is not a checkpoint, or it is damaged ({type(error).__name__}): copy or download it again."
            ) from error


def _plain(value: object) -> bool:
    """A dense tensor in memory that is no larger than what the file holds."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _check_finite(value: Tensor, name: str, path: str | Path) -> None:
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{path}: {name} holds values that are not finite: use an earlier checkpoint.")


def _capture(fields: tuple[Any, ...], path: Path) -> Capture:
    """Check the 14-tuple against itself. Densification statistics and optimiser are not needed, only counted."""
    if len(fields) != _CAPTURE_FIELDS:
        raise CheckpointError(
            f"{path}: its capture has {len(fields)} fields, the released code writes {_CAPTURE_FIELDS}; it comes from "
            "another version or project."
        )
    names = ("xyz", "f_dc", "f_rest", "scaling", "rotation", "opacity")
    tensors = dict(zip(names, fields[1:7], strict=True))
    for name, value in tensors.items():
        if not _plain(value) or not value.is_floating_point():
            raise CheckpointError(f"{path}: {name} of its capture is not a tensor of floats; download it again.")
        _check_finite(value, name, path)
    count = int(tensors["xyz"].shape[0]) if tensors["xyz"].dim() else 0
    coefficients = 1 + (int(tensors["f_rest"].shape[1]) if tensors["f_rest"].dim() == 3 else 0)
    shapes = {
        "xyz": (count, 3),
        "f_dc": (count, 1, 3),
        "f_rest": (count, coefficients - 1, 3),
        "scaling": (count, 3),
        "rotation": (count, 4),
        "opacity": (count, 1),
    }
    wrong = [f"{name} {tuple(tensors[name].shape)}" for name in names if tuple(tensors[name].shape) != shapes[name]]
    if wrong or count == 0:
        raise CheckpointError(
            f"{path}: the Gaussians' arrays do not agree on G = {count} ({', '.join(wrong) or 'there are none'}): the "
            "file is damaged or edited; use another checkpoint of the run."
        )
    if bool((tensors["rotation"].norm(dim=1) == 0).any()):
        raise CheckpointError(f"{path}: a Gaussian has a zero quaternion; use another checkpoint of the run.")
    return Capture(
        active_sh_degree=_degree(fields[0], coefficients, path),
        means=tensors["xyz"].detach().float(),
        sh=torch.cat([tensors["f_dc"], tensors["f_rest"]], 1).detach().float(),
        scales=tensors["scaling"].detach().float(),
        quats=tensors["rotation"].detach().float(),
        opacities=tensors["opacity"].detach().float()[:, 0],
    )


def _degree(active: object, coefficients: int, path: Path) -> int:
    stored = math.isqrt(coefficients) - 1
    if (stored + 1) ** 2 != coefficients or stored > _HIGHEST_DEGREE:
        raise CheckpointError(
            f"{path}: {coefficients} SH coefficients are no degree of 0 to {_HIGHEST_DEGREE}; use another checkpoint."
        )
    if isinstance(active, bool) or not isinstance(active, int | np.integer) or not 0 <= active <= stored:
        raise CheckpointError(
            f"{path}: its active SH degree is {active!r}, it should be 0 to the stored {stored}; use "
            "another checkpoint."
        )
    return int(active)


def _check_grid(motion: GRMN, state: Mapping[str, Tensor], source: str) -> None:
    """The hash grid's level table is computed here and stored there; another one would read other rows."""
    assert motion.config.mouth is not None
    wanted = torch.tensor(motion.config.mouth.offsets())
    for plane in ("xy", "yz", "xz"):
        if not torch.equal(state[f"encoder_{plane}.offsets"].long(), wanted):
            raise CheckpointError(
                f"{source}: encoder_{plane}.offsets differ from the released grid (12 levels, 16 to 38.4): the "
                "checkpoint was trained with another grid, which is not supported."
            )


def _check_features(scene: ReleasedScene, config: GRMNConfig) -> None:
    if scene.windows.shape[2] != config.hidden:
        raise CheckpointError(
            f"{scene.folder}/aud_w2v.npy has {scene.windows.shape[2]} channels, the motion network reads "
            f"{config.hidden}: extract the features with {RELEASED_ENCODER}."
        )


def _head(flame: Path, template: str | Path | None) -> HeadModel:
    head = load_flame(flame)
    if template is None:
        return head
    return replace(head, faces=load_obj_faces(template, head.vertex_count))


def _encoder(
    name: str | Path | None,
    streaming: StreamingConfig,
    calibration: Sequence[NDArray[np.float32]] | None,
    hidden: int,
) -> tuple[StreamingWav2Vec2 | None, tuple[str, ...]]:
    """The calibrated encoder for new speech, or None and a note that says what that means."""
    if name is None:
        return None, ("no audio encoder: the avatar plays its recorded features only (--cued)",)
    try:
        encoder = _load_encoder(name, streaming)
    except CheckpointError:
        if name != AUTO:
            raise
        return None, (
            f"{RELEASED_ENCODER} could not be loaded: the avatar plays its recorded features only (--cued); for new "
            "speech export again with --encoder and a folder that holds it",
        )
    if encoder.hidden != hidden:
        raise CheckpointError(
            f"the audio encoder {name} gives {encoder.hidden} channels, the checkpoint's audio_proj reads {hidden}: "
            f"pass the one it was trained with ({RELEASED_ENCODER}), or --encoder none to play the recorded "
            "features only."
        )
    encoder.calibrate([_calibration_speech()] if calibration is None else calibration)
    return encoder.eval(), ()


def _load_encoder(name: str | Path, streaming: StreamingConfig) -> StreamingWav2Vec2:
    if name == AUTO and not _available(RELEASED_ENCODER):
        raise CheckpointError(f"{RELEASED_ENCODER} is not in the cache and its host does not answer")
    return StreamingWav2Vec2.from_pretrained(RELEASED_ENCODER if name == AUTO else name, streaming)


def _available(name: str) -> bool:
    """Whether a hub model is in the cache or its host answers; the hub's own client would retry for half a minute."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # whichever HTTP library the hub's client is built on: no answer is the answer
        return False
    return True


def _calibration_speech() -> NDArray[np.float32]:
    try:
        with wave.open(str(_CALIBRATION)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (SAMPLE_RATE, 1, 2):
                raise CheckpointError(f"{_CALIBRATION} is not 16 kHz mono 16-bit speech: pass `calibration`.")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (OSError, wave.Error, EOFError) as error:
        raise CheckpointError(f"{_CALIBRATION} cannot be read ({error}): pass `calibration`.") from error
    speech: NDArray[np.float32] = samples.astype(np.float32) / np.float32(32768)
    return speech


def _avatar(head: HeadModel, scene: ReleasedScene, capture: Capture, binding: Binding) -> Arrays:
    """The arrays of `avatar.safetensors`. The mouth mask is applied, as in the released training."""
    arrays: Arrays = head.bake(scene.head.shape[0]).tensors()
    arrays |= {
        "gaussians.face_index": binding.face_index,
        "gaussians.means": capture.means.numpy(),
        "gaussians.quats": capture.quats.numpy(),
        "gaussians.scales": capture.scales.numpy(),
        "gaussians.opacities": capture.opacities.numpy(),
        "gaussians.sh": capture.sh.numpy(),
    }
    if len(binding.mouth_index):
        arrays["mouth.index"] = binding.mouth_index
    return {name: np.ascontiguousarray(value) for name, value in arrays.items()}


def _cues(scene: ReleasedScene) -> Arrays:
    return {
        "aus": scene.aus,
        "emotion": scene.emotion,
        "rotation": scene.head.rotation,
        "neck": scene.head.neck_pose,
        "eyes": scene.head.eyes_pose,
        "translation": scene.head.translation,
        "view": np.ascontiguousarray(scene.view),
        "intrinsics": scene.intrinsics.astype(np.float32),
        "windows": scene.windows,
    }


def _info(scene: ReleasedScene, head: HeadModel, capture: Capture, notes: tuple[str, ...]) -> AvatarInfo:
    return AvatarInfo(
        name=scene.folder.resolve().name,
        width=scene.size[0],
        height=scene.size[1],
        background=(1.0, 1.0, 1.0),
        active_sh_degree=capture.active_sh_degree,
        scale_activation="softplus",
        expression_names=head.expression_names,
        notes=notes,
    )
