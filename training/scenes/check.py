"""What a scene has, what it lacks, what disagrees, and how to make what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError, EmotagError
from ...runtime.manifest import EMOTIONS, FRAME_RATE, SAMPLE_RATE
from ..released_audio import WINDOW
from ..released_scene import SPARE_ROWS, load_action_units, load_array, load_identity
from ..released_tracking import TrackedHead, load_tracking
from .cures import cure
from .listing import TRANSFORMS, Listing, scene_listing, split_of
from .open import layout_of
from .released import TRACKING, released_pictures
from .scene import Picture
from .sound import Sound, find_sound, measure
from .timing import RateEvidence, frame_rates, read_face_track
from .tokens import TOKENS, load_tokens, made_from
from .vhap import load_vhap_tracking, vhap_pictures

__all__ = ["Finding", "SceneReport", "check_scene"]

OK, MISSING, PROBLEM, NOTE = "ok", "missing", "problem", "note"
_FEW_SHOT = 5.0  # seconds that adaptation takes
_BINDING = ("face_indices.npy", "bary_coords.npy", "vertices.npy", "points3D.ply", "mouth_point_indices.npy")
_PHONEMES = "phonemes.json"
Value = TypeVar("Value")
_CHUNK = 256  # rows whose values are looked at together
_REQUIRED_MAPS = ("masks",)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    item: str
    status: str  # ok, missing, problem or note
    found: str
    cure: str = ""
    required: bool = True  # whether nothing can be trained without it


@dataclass
class SceneReport:
    """All that a look at a scene found."""

    folder: Path
    layout: str
    findings: list[Finding] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)  # rows of every per-frame file
    frame_rates: tuple[RateEvidence, ...] = ()
    sound: Sound | None = None

    @property
    def complete(self) -> bool:
        """Whether training can start: nothing required is missing and nothing is wrong."""
        return not any(f.status == PROBLEM or (f.status == MISSING and f.required) for f in self.findings)

    def add(self, item: str, status: str, found: str, cure: str = "", required: bool = True) -> None:
        """Note a finding; arguments as the fields of `Finding`."""
        self.findings.append(Finding(item, status, found, cure, required))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        sound = None if self.sound is None else asdict(self.sound) | {"path": str(self.sound.path)}
        return {
            "scene": str(self.folder),
            "layout": self.layout,
            "complete": self.complete,
            "lengths": self.lengths,
            "frame_rates": [asdict(evidence) for evidence in self.frame_rates],
            "sound": sound,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_scene(folder: str | Path) -> SceneReport:
    """Look at every file of a scene. Broken ones become findings, so that one run shows all that is wrong.

    Raises:
        CheckpointError: the folder is no scene at all.
    """
    root = Path(folder)
    report = SceneReport(root, layout_of(root))
    listing = _attempt(report, TRANSFORMS, lambda: scene_listing(root))
    if listing is None:
        return report
    pictures = _check_pictures(report, listing)
    _check_tracking(report, listing)
    for item, attribute in (
        ("masks", "mask"),
        ("depth maps", "depth"),
        ("normal maps", "normal"),
        ("landmarks", "landmark"),
    ):
        _check_maps(report, pictures, item, attribute)
    _check_arrays(report)
    _check_sound(report)
    _check_features(report, listing.rows)
    _check_phonemes(report)
    _check_rates(report, listing)
    _check_lengths(report, listing.rows)
    if report.layout == "released":
        _check_binding(report)
    return report


def _attempt(
    report: SceneReport, item: str, load: Callable[[], Value], how: str = "", required: bool = True
) -> Value | None:
    """What `load` gives, or None and a finding that says why not."""
    try:
        return load()
    except (EmotagError, OSError) as error:
        report.add(item, PROBLEM, " ".join(str(error).split()), how, required)
        return None


def _check_pictures(report: SceneReport, listing: Listing) -> tuple[Picture, ...]:
    def load() -> tuple[tuple[Picture, ...], tuple[str, ...]]:
        return (vhap_pictures(listing), ()) if report.layout == "vhap" else released_pictures(report.folder)

    if report.layout == "released" and not (report.folder / "model_center.npy").is_file():
        report.add("model_center.npy", MISSING, "missing", cure("model_center.npy", report.folder))
        return ()
    loaded = _attempt(report, TRANSFORMS, load)
    if loaded is None:
        return ()
    pictures, notes = loaded
    cameras = len({picture.camera_index for picture in pictures})
    size = pictures[0].camera
    split = split_of(report.folder, pictures)
    report.add(
        TRANSFORMS,
        OK,
        f"{len(pictures)} pictures of {size.width}×{size.height}, {listing.rows} timesteps, {cameras} camera"
        f"{'s' if cameras > 1 else ''}; {len(split.train)} train, {len(split.test)} test ({split.source})",
    )
    for note in notes:
        report.add(TRANSFORMS, NOTE, note.removeprefix("transforms.json: "))
    if listing.rows < _FEW_SHOT * FRAME_RATE:
        seconds = listing.rows / FRAME_RATE
        report.add(TRANSFORMS, NOTE, f"the clip has {seconds:.1f} s, adaptation takes {_FEW_SHOT:g} s")
    _check_files(report, pictures)
    return pictures


def _check_files(report: SceneReport, pictures: Sequence[Picture]) -> None:
    """Whether all pictures are there, and three of them can be decoded and have the size that the cameras say."""
    missing = [picture.path for picture in pictures if not picture.path.is_file()]
    how = cure("pictures", report.folder)
    if missing:
        first = "/".join(missing[0].parts[-2:])
        report.add("pictures", MISSING, f"{len(missing)} of {len(pictures)} are missing, the first is {first}", how)
        return
    for picture in (pictures[0], pictures[len(pictures) // 2], pictures[-1]):
        if _attempt(report, "pictures", picture.rgb, how) is None:
            return
    report.add("pictures", OK, f"all {len(pictures)} are there; the first, middle and last were decoded")


def _check_maps(report: SceneReport, pictures: Sequence[Picture], item: str, attribute: str) -> None:
    there = [picture for picture in pictures if getattr(picture, f"{attribute}_path") is not None]
    how = cure(item, report.folder)
    if not there:
        report.add(item, MISSING, _WITHOUT[item], how, required=item in _REQUIRED_MAPS)
        return
    load = {"mask": Picture.mask, "depth": Picture.depth, "normal": Picture.normal, "landmark": Picture.landmarks}
    if _attempt(report, item, lambda: load[attribute](there[0]), how, required=False) is None:
        return
    required = item in _REQUIRED_MAPS
    status = OK if len(there) == len(pictures) else (MISSING if required else NOTE)
    found = f"{len(there)} of {len(pictures)} pictures have one"
    report.add(item, status, found, "" if status == OK else how, required)


def _check_tracking(report: SceneReport, listing: Listing) -> None:
    path = report.folder / TRACKING
    how = cure("tracking", report.folder)
    if report.layout == "released" and not path.is_file():
        report.add("tracking", MISSING, f"{TRACKING} is missing", how)
        return
    head: TrackedHead | None = _attempt(
        report,
        "tracking",
        lambda: load_tracking(path) if report.layout == "released" else load_vhap_tracking(listing),
        how,
    )
    if head is None:
        return
    report.lengths[TRACKING if report.layout == "released" else "flame_param/"] = len(head)
    vertices = "none" if head.static_offset is None else f"{len(head.static_offset)} vertices"
    report.add(
        "tracking",
        OK,
        f"{len(head)} frames, {head.shape.shape[1]} shape and {head.expression.shape[1]} expression components, "
        f"static_offset: {vertices}",
    )
    if not head.one_identity:
        report.add("tracking", NOTE, "the shape changes over the clip; the first frame's is used")


def _check_arrays(report: SceneReport) -> None:
    """AUs, emotion and identity: what OpenFace, DeepFace and AdaFace gave."""
    folder = report.folder
    aus, emotion, identity = (folder / n for n in ("au_features.csv", "emotion_features.npy", "identity_feature.npy"))
    for path, required in ((aus, True), (emotion, True), (identity, False)):
        if not path.is_file():
            report.add(path.name, MISSING, _WITHOUT[path.name], cure(path.name, folder), required)
    if aus.is_file():
        units = _attempt(report, aus.name, lambda: load_action_units(aus), cure(aus.name, folder))
        if units is not None:
            report.lengths[aus.name] = len(units)
            report.add(aus.name, OK, f"{len(units)} rows of 6 action units")
            _check_faces(report, aus)
    if emotion.is_file():
        rows = _attempt(
            report, emotion.name, lambda: load_array(emotion, (None, len(EMOTIONS))), cure(emotion.name, folder)
        )
        if rows is not None:
            report.lengths[emotion.name] = len(rows)
            _check_emotion(report, rows, emotion.name)
    if identity.is_file() and (
        _attempt(report, identity.name, lambda: load_identity(identity), cure(identity.name, folder), False) is not None
    ):
        report.add(identity.name, OK, "512 numbers", required=False)


def _check_emotion(report: SceneReport, rows: NDArray[Any], name: str) -> None:
    total = rows.sum(axis=1)
    if rows.min() < 0 or total.min() <= 0:
        report.add(name, PROBLEM, f"rows are not probabilities of {', '.join(EMOTIONS)}", cure(name, report.folder))
        return
    named = np.bincount(rows.argmax(axis=1), minlength=len(EMOTIONS))
    most = ", ".join(f"{EMOTIONS[i]} {named[i]}" for i in np.argsort(-named, kind="stable")[:3] if named[i])
    scaled = "" if np.abs(total - 1).max() <= 1e-2 else "; rows do not sum to one and will be scaled"
    report.add(name, OK, f"{len(rows)} rows of 7 probabilities ({most}){scaled}")


def _check_faces(report: SceneReport, path: Path) -> None:
    track = _attempt(report, path.name, lambda: read_face_track(path))
    if track is not None and track.lost:
        first = ", ".join(str(row) for row in track.lost[:5]) + (", …" if len(track.lost) > 5 else "")
        report.add(
            path.name,
            PROBLEM,
            f"OpenFace found no face it is sure of in {len(track.lost)} frames (rows {first})",
            "cut these frames out of the clip and make the scene again, or crop closer to the face before OpenFace",
        )


def _check_sound(report: SceneReport) -> None:
    path = find_sound(report.folder)
    how = cure("sound", report.folder)
    if path is None:
        report.add("sound", MISSING, _WITHOUT["sound"], how)
        return
    sound = _attempt(report, "sound", lambda: measure(path), how)
    if sound is None:
        return
    report.sound = sound
    found = f"{path.name}: {sound.seconds:.2f} s, {sound.rate} Hz, {sound.channels} channel{'s' * (sound.channels > 1)}"
    right = sound.rate == SAMPLE_RATE and sound.channels == 1
    wrong = "" if right else f"; it should be {SAMPLE_RATE} Hz, 1 channel"
    report.add("sound", OK if right else PROBLEM, found + wrong, "" if right else how)


def _check_features(report: SceneReport, rows: int) -> None:
    """Tokens by D(c, r, L), or else the released whole-file windows."""
    windows, how = report.folder / "aud_w2v.npy", cure("audio features", report.folder)
    if (report.folder / TOKENS).is_file():
        tokens = _attempt(report, TOKENS, lambda: load_tokens(report.folder), how)
        if tokens is None or not _finite(report, TOKENS, tokens.values, how):
            return
        c, r, context = tokens.streaming.chunk, tokens.streaming.lookahead, tokens.streaming.context
        report.lengths[TOKENS] = -(-len(tokens.values) // 2)
        made = f"{len(tokens.values)} tokens of {tokens.values.shape[1]} by {tokens.encoder}, D({c}, {r}, {context})"
        if report.sound is not None and not made_from(tokens, report.sound.path):
            report.add(TOKENS, PROBLEM, f"{made}; not made from this {report.sound.path.name}", how)
            return
        report.add(TOKENS, OK, made)
    elif windows.is_file():
        values = _attempt(report, windows.name, lambda: load_array(windows, (None, WINDOW, None), mapped=True), how)
        if values is not None and _finite(report, windows.name, values, how):
            report.lengths[windows.name] = len(values)
            report.add(windows.name, OK, f"{len(values)} windows of 16×{values.shape[2]}, encoded as a whole file")
            report.add(
                windows.name,
                NOTE,
                "live, the encoder hears a stream: train on tokens by D(c, r, L) instead",
                how,
                False,
            )
    else:
        report.add("audio features", MISSING, _WITHOUT["audio features"], how, required=False)


def _check_phonemes(report: SceneReport) -> None:
    path = report.folder / _PHONEMES
    if path.is_file():
        report.add(_PHONEMES, OK, "there, for `emotag-train eval`", required=False)
    else:
        report.add(_PHONEMES, MISSING, _WITHOUT[_PHONEMES], cure(_PHONEMES, report.folder), required=False)


def _finite(report: SceneReport, item: str, values: NDArray[Any], how: str) -> bool:
    """Whether a mapped array holds numbers, looked at in pieces."""
    for first in range(0, len(values), _CHUNK):
        if not np.isfinite(values[first : first + _CHUNK]).all():
            report.add(item, PROBLEM, f"holds values that are not finite from row {first} on", how)
            return False
    return True


def _check_rates(report: SceneReport, listing: Listing) -> None:
    csv = report.folder / "au_features.csv"
    face = None
    if csv.is_file():
        try:
            face = read_face_track(csv)
        except CheckpointError:
            pass  # _check_arrays has said so
    report.frame_rates = frame_rates(report.folder, listing.top, listing.rows, report.sound, face)
    if not report.frame_rates:
        report.add("frame rate", NOTE, f"no file says it: {FRAME_RATE} is taken; put the clip or its sound beside")
    for evidence in report.frame_rates:
        status = OK if evidence.agrees else PROBLEM
        how = "" if evidence.agrees else cure("frame rate", report.folder)
        report.add("frame rate", status, f"{evidence.rate:.3f} frames a second by {evidence.source}", how)


def _check_lengths(report: SceneReport, rows: int) -> None:
    """Every per-frame file against the timesteps of `transforms.json`; ends may differ by a frame or two."""
    for name, count in report.lengths.items():
        shortest = rows - 1 if name == "au_features.csv" else rows
        if name == TOKENS:
            shortest = rows - SPARE_ROWS
        if not shortest <= count <= rows + SPARE_ROWS:
            report.add(
                "lengths", PROBLEM, f"{name} has {count} frames, {TRANSFORMS} {rows}", "make both from one clip again"
            )


def _check_binding(report: SceneReport) -> None:
    missing = [name for name in _BINDING if not (report.folder / name).is_file()]
    if missing:
        found = f"{', '.join(missing)} missing: a released checkpoint of this scene cannot be imported"
        report.add("binding", MISSING, found, cure("binding", report.folder), required=False)
    else:
        report.add("binding", OK, "the released binding of Gaussians to triangles is there", required=False)


_WITHOUT = {
    "masks": "none: the head cannot be told from what is behind it",
    "depth maps": "none: the depth loss is off",
    "normal maps": "none: the normal loss is off",
    "landmarks": "none: LMD and the mouth's box cannot be measured against this clip",
    "au_features.csv": "missing: the network's upper-face input",
    "emotion_features.npy": "missing: the target of the emotion and score losses",
    "identity_feature.npy": "missing: AdaIN is bypassed",
    "sound": "none: there is nothing to hear, nor to compare the pictures' rate with",
    _PHONEMES: "none: the lips' closures cannot be measured against what is said",
    "audio features": "none yet: training makes them from the sound, for its own encoder",
}
