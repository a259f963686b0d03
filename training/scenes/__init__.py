"""Scenes: processed clips of one person, in the released layout or VHAP's, as one representation.

`open_scene` reads the small arrays and lists the pictures; pictures, maps and audio features stay on the disk until
they are asked for. `check_scene` says what is there, what is missing and how to make it.
"""

from .check import Finding, SceneReport, check_scene
from .open import open_scene
from .pictures import PictureCache
from .scene import HeadSizes, Picture, Scene, SceneFrame, Split
from .sound import read_speech
from .tokens import TOKENS, Tokens, encoder_digest, load_encoder, make_tokens, save_tokens, sound_digest

__all__ = [
    "TOKENS",
    "Finding",
    "HeadSizes",
    "Picture",
    "PictureCache",
    "Scene",
    "SceneFrame",
    "SceneReport",
    "Split",
    "Tokens",
    "check_scene",
    "encoder_digest",
    "load_encoder",
    "make_tokens",
    "open_scene",
    "read_speech",
    "save_tokens",
    "sound_digest",
]
