"""A speaking corpus: synthesised and recorded speech with phoneme times, and the face that belongs to it."""

from .acting import Face, act, upper_face
from .augment import augment, noise, warp_voice
from .cues import demo_cues
from .emotions import LOOKS, probabilities, prosody_of
from .errors import MissingProgramError, SpeechError
from .face import Performance, action_units, perform
from .phonemes import BILABIALS, OPEN_VOWELS, PHONEMES, PhonemeError, Segment, frame_classes
from .recorded import Phrase, Rejects, draw_phrase, phrases, recorded_speech
from .speech import (
    Prosody,
    Utterance,
    Voice,
    concatenate,
    silence,
    stretch,
    synthesize,
)
from .text import random_text, sentences
from .visemes import FRAME_RATE, LipTracks, lip_tracks
from .voices import ESPEAK, FESTIVAL, FLITE, HELD_OUT, RECORDED, TALKIES

__all__ = [
    "BILABIALS",
    "LOOKS",
    "ESPEAK",
    "FESTIVAL",
    "Face",
    "FLITE",
    "FRAME_RATE",
    "HELD_OUT",
    "LipTracks",
    "MissingProgramError",
    "OPEN_VOWELS",
    "PHONEMES",
    "Performance",
    "PhonemeError",
    "Phrase",
    "Prosody",
    "RECORDED",
    "Rejects",
    "Segment",
    "SpeechError",
    "TALKIES",
    "Utterance",
    "Voice",
    "act",
    "action_units",
    "augment",
    "concatenate",
    "demo_cues",
    "draw_phrase",
    "frame_classes",
    "lip_tracks",
    "noise",
    "perform",
    "phrases",
    "probabilities",
    "prosody_of",
    "random_text",
    "recorded_speech",
    "sentences",
    "silence",
    "stretch",
    "synthesize",
    "upper_face",
    "warp_voice",
]
