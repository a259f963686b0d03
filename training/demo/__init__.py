"""The demo checkpoint: an encoder and a GRMN learned from synthesised and recorded speech, on Anny's head."""

from .assemble import assemble
from .clips import ClipRequest, Clips, load_clips, make_clips, silent_clips
from .encoder import EncoderSchedule, Lesson, build_encoder, train_encoder
from .geometry import LipGeometry, lip_geometry
from .learn import Learned, Recipe, evaluate, learn, load_learned
from .lessons import lessons
from .measure import Measures, fit_loudness, measure
from .motion import MotionSchedule, demo_identity, train_motion

__all__ = [
    "ClipRequest",
    "Clips",
    "EncoderSchedule",
    "Learned",
    "Lesson",
    "LipGeometry",
    "Measures",
    "MotionSchedule",
    "Recipe",
    "assemble",
    "build_encoder",
    "demo_identity",
    "evaluate",
    "fit_loudness",
    "learn",
    "lessons",
    "lip_geometry",
    "load_clips",
    "load_learned",
    "make_clips",
    "measure",
    "silent_clips",
    "train_encoder",
    "train_motion",
]
