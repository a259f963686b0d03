"""A corpus of people who do not exist: textured meshes that speak and feel, drawn with exact truth.

`make_corpus` writes scenes in the layouts that training reads; `docs/synth.md` says what is in them.
"""

from .corpus import CorpusOptions, make_corpus, make_scene, plan
from .identity import Identity, draw_identity, identity_feature
from .landmarks import landmark_vertices
from .takes import EMOTION_NAMES, LEVELS, Take

__all__ = [
    "EMOTION_NAMES",
    "LEVELS",
    "CorpusOptions",
    "Identity",
    "Take",
    "draw_identity",
    "identity_feature",
    "landmark_vertices",
    "make_corpus",
    "make_scene",
    "plan",
]
